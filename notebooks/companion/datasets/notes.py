"""Notes: a toy world of short made-up abstracts in four archives and fourteen categories, several labels a note.

A note mixes words of its categories, of their archives and of nobody in particular, and some of a category that it is
not in. A word is a stem with an ending ("tide", "tidelike"), so that a small fine set does not hold them all, and
archive-only notes, which show more of them, can help.
"""

from __future__ import annotations

import numpy as np

from labelaug_core.data import Split, Task, content_hash, joint_labels
from labelaug_core.files.tokens import tokeniser
from labelaug_core.graph import LabelGraph

STEMS = {
    "sky": "air blue high horizon wing dome dusk dawn",
    "sea": "salt wave deep coast harbour brine foam gulf",
    "garden": "green plot leaf hedge fence plant shade bed",
    "kitchen": "heat table bowl taste cook stove plate shelf",
    "sky.clouds": "cloud rain fog storm mist hail vapour drizzle",
    "sky.birds": "bird swift nest feather flock beak lark heron",
    "sky.stars": "star comet orbit moon planet eclipse meteor lens",
    "sea.tides": "tide current ebb surge swell moon shore drift",
    "sea.fish": "fish shoal fin reef cod gill spawn eel",
    "sea.ships": "ship sail mast rudder anchor hull deck cargo",
    "garden.soil": "soil clay worm compost root loam humus drain",
    "garden.flowers": "flower petal bloom rose bulb pollen stem tulip",
    "garden.bees": "bee hive honey swarm wax queen pollen comb",
    "garden.tools": "spade rake hoe blade barrow handle shear trowel",
    "kitchen.bread": "bread dough crust oven flour loaf knead yeast",
    "kitchen.spices": "spice pepper clove saffron mint root aroma cumin",
    "kitchen.knives": "knife blade edge whetstone handle slice steel carve",
    "kitchen.ferments": "yeast brine jar culture sour pickle cask vinegar",
}
ENDINGS = ["", "s", "ed", "ing", "like", "less", "ward", "wise", "ish", "hood"]
COMMON = (
    "we the of a and study show with in for new method result measure model old small large time first between change "
    "over under data report case two many long short case effect part found again each other some"
).split()
SHARE = {"category": 0.25, "archive": 0.20, "elsewhere": 0.10}  # of a note's words; the rest are common ones
SEEDS = {"train": 1, "coarse": 2, "test": 3}


def note(categories: list[str], every: list[str], rng: np.random.Generator) -> str:
    """One abstract of 10 to 18 words, a title of six before it."""
    out = []
    for kind in rng.choice([*SHARE, "common"], rng.integers(16, 25), p=[*SHARE.values(), 1 - sum(SHARE.values())]):
        category = every[rng.integers(len(every))] if kind == "elsewhere" else categories[rng.integers(len(categories))]
        if kind == "common":
            out.append(COMMON[rng.integers(len(COMMON))])
            continue
        stems = STEMS[category.split(".")[0] if kind == "archive" else category].split()
        ending = ENDINGS[int(len(ENDINGS) * rng.random() ** 2)]  # the first are the commonest
        out.append(stems[rng.integers(len(stems))] + ending)
    return " ".join(out[:6]) + "\n" + " ".join(out[6:])


def write(n: int, seed: int, every: list[str]) -> tuple[list[str], list[list[str]]]:
    """n notes and their categories: one (55 %), two or three; a second one shares the first one's archive in half."""
    texts, labels = [], []
    for i in range(n):
        rng = np.random.default_rng([seed, i])  # note i depends on (seed, i) alone: a larger n only appends
        chosen = [every[rng.integers(len(every))]]
        for _ in range(rng.choice(3, p=[0.55, 0.30, 0.15])):
            near = [c for c in every if c.split(".")[0] == chosen[0].split(".")[0]]
            pool = [c for c in (near if rng.random() < 0.5 else every) if c not in chosen]
            chosen.append(pool[rng.integers(len(pool))])
        texts.append(note(chosen, every, rng))
        labels.append(chosen)
    return texts, labels


def load(graph: LabelGraph, settings: dict) -> Task:
    """settings: n_fine, n_coarse, n_test (notes); use_fine, use_coarse; tokens, vocabulary: all as arxiv.load has
    them, and y as it has it."""
    labels, n_fine = joint_labels(graph, "notes", "notes-archives")
    index = {v: i for i, v in enumerate(labels)}
    asked = {part: settings[key] for part, key in (("train", "n_fine"), ("coarse", "n_coarse"), ("test", "n_test"))}
    made = {part: write(n, SEEDS[part], labels[:n_fine]) for part, n in asked.items()}
    tokenise = tokeniser(made["train"][0] + made["coarse"][0], settings)
    used = {"train": settings.get("use_fine"), "coarse": settings.get("use_coarse")}
    splits = {}
    for part, (texts, chosen) in made.items():
        texts, chosen = texts[: used.get(part)], chosen[: used.get(part)]
        y = np.zeros((len(texts), len(labels) if part == "coarse" else n_fine), dtype=np.bool_)
        for row, categories in zip(y, chosen, strict=True):
            row[[index[c.split(".")[0] if part == "coarse" else c] for c in categories]] = True
        splits[part] = Split(tokenise(texts), y, [f"{part}-{i}" for i in range(len(texts))])
    sizes = {part: str(len(split)) for part, split in splits.items()}
    hashed = content_hash(*(item for part in made.values() for item in part))
    return Task(graph, labels, n_fine, splits["train"], splits["test"], splits["coarse"], sizes, hashed)
