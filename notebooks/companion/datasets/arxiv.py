"""arXiv papers out of the metadata snapshot: title and abstract to canonical categories, multi-label."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from companion.datasets import data_folder
from labelaug_core.data import DataError, Split, Task, content_hash, joint_labels
from labelaug_core.files.tokens import tokeniser
from labelaug_core.graph import LabelGraph

SNAPSHOT = "arxiv-metadata-oai-snapshot.json"

# Second names of a category in arXiv's taxonomy: a paper carries both or either.
ALIASES = {
    "math.MP": "math-ph",
    "stat.TH": "math.ST",
    "math.IT": "cs.IT",
    "q-fin.EC": "econ.GN",
    "cs.SY": "eess.SY",
    "cs.NA": "math.NA",
}

# Archives of the nineties that became categories.
SUBSUMED = {
    "cmp-lg": "cs.CL",
    "adap-org": "nlin.AO",
    "comp-gas": "nlin.CG",
    "chao-dyn": "nlin.CD",
    "solv-int": "nlin.SI",
    "patt-sol": "nlin.PS",
    "alg-geom": "math.AG",
    "dg-ga": "math.DG",
    "funct-an": "math.FA",
    "q-alg": "math.QA",
    "mtrl-th": "cond-mat.mtrl-sci",
    "supr-con": "cond-mat.supr-con",
    "acc-phys": "physics.acc-ph",
    "ao-sci": "physics.ao-ph",
    "atom-ph": "physics.atom-ph",
    "bayes-an": "physics.data-an",
    "chem-ph": "physics.chem-ph",
    "plasm-ph": "physics.plasm-ph",
}

# Archives that had no categories once: a paper with one of them and no category of it is known by archive.
BARE = ("astro-ph", "cond-mat", "q-bio")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a .json or .json.gz file, read no further than asked.

    Raises DataError naming the line at which the file breaks off or is no text.
    """
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        where = f"{path.name}, line {number + 1}"
        raise DataError(f"{where}: cannot be read ({error}); get the file anew") from None


def papers(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(id, text, raw categories) of every paper in file order; text is the title's line, then the abstract's.

    Raises DataError naming the file and the line that is no JSON object or lacks one of the four texts.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            paper = json.loads(line)
            name, title, abstract, raw = (paper[key] for key in ("id", "title", "abstract", "categories"))
            text = " ".join(title.split()) + "\n" + " ".join(abstract.split())
            yield str(name), text, raw.split()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"{type(error).__name__}: {error}"
            rule = "expected a JSON object with the texts id, title, abstract, categories"
            raise DataError(f"{path.name}, line {number}: {rule} ({what:.80})") from None


def canonical(raw: list[str], known: set[str], paper: str) -> tuple[set[str], set[str], bool]:
    """Raw categories -> (canonical categories, archives, complete).

    A subsumed archive or a second name becomes its category. A bare archive (BARE) adds to the archives
    alone; if no category of it stands beside it, the paper's categories are not complete. Raises DataError
    naming paper and category for one that the taxonomy (`known`) does not have.
    """
    found, archives = set(), set()
    for c in raw:
        c = SUBSUMED.get(c, c)
        c = ALIASES.get(c, c)
        if c in BARE:
            archives.add(c)
        elif c in known:
            found.add(c)
        else:
            raise DataError(f"arXiv paper {paper}: the category {c!r} is outside the taxonomy of the graph")
    if not raw:
        raise DataError(f"arXiv paper {paper} has no category")
    refined = {c.split(".")[0] for c in found}
    return found, archives | refined, archives <= refined


def read_parts(path: Path, known: set[str], sizes: dict[str, int]) -> dict[str, list]:
    """The snapshot's first sizes["train"] papers, the next sizes["coarse"], the next sizes["test"]: lists of
    (id, text, categories, archives), disjoint by id (a repeated id is skipped). Reads only as far as needed.

    A paper whose categories are not complete is passed over in train and test, and welcome in coarse. A file
    that ends early fills what it can; raises DataError for a part that stays empty.
    """
    parts: dict[str, list] = {part: [] for part in sizes}
    seen, stream = set(), papers(path)
    for part, size in sizes.items():
        while len(parts[part]) < size and (row := next(stream, None)):
            name, text, raw = row
            categories, archives, complete = canonical(raw, known, name)
            if name not in seen and (complete or part == "coarse"):
                seen.add(name)
                parts[part].append((name, text, categories, archives))
        if size and not parts[part]:
            wanted = ", ".join(f"{n} {p}" for p, n in sizes.items())
            raise DataError(f"{path.name}: too short for its {part} papers: {len(seen)} of {wanted}")
    return parts


def load(graph: LabelGraph, settings: dict) -> Task:
    """The ArxivFusion task. Task.fine_only() drops the papers known by archive.

    settings: n_fine, n_coarse, n_test (papers of the snapshot in file order: fine, then coarse, then test);
    use_fine, use_coarse (for learning curves: only the first so many of those, all else staying as it is, the content
    hash too); tokens, vocabulary or wordpieces (see files.tokens.tokeniser; without them inputs are Texts). The
    vocabulary is that of the fine and the coarse texts, without their labels, for every arm of a comparison.
    y is bool: [N, n_fine] over the categories in train and test, [N, len(labels)] in coarse, where only the paper's
    archives are set. Raises DataError.
    """
    how = "in arxiv/: kaggle datasets download -d Cornell-University/arxiv --unzip (a Kaggle account is needed)"
    folder = data_folder("arxiv", "The arXiv snapshot", how)
    path = next((f for f in (folder / SNAPSHOT, folder / f"{SNAPSHOT}.gz") if f.is_file()), None)
    if path is None:
        raise DataError(f"The arXiv snapshot is missing: no {SNAPSHOT} or {SNAPSHOT}.gz in {folder}; {how}")
    labels, n_fine = joint_labels(graph, "arxiv", "arxiv-archives")
    index = {v: i for i, v in enumerate(labels)}
    columns = {
        "archives": {c: index[v] for c, v in graph.labels["arxiv-archives"].items()},
        "categories": {c: index[v] for c, v in graph.labels["arxiv"].items()},
    }
    asked = {
        "train": settings.get("n_fine", 20_000),
        "coarse": settings.get("n_coarse", 20_000),
        "test": settings.get("n_test", 10_000),
    }
    used = {"train": settings.get("use_fine"), "coarse": settings.get("use_coarse"), "test": None}
    splits, sizes, parts = {}, {}, read_parts(path, set(columns["categories"]), asked)
    tokenise = tokeniser([text for part in ("train", "coarse") for _, text, _, _ in parts[part]], settings)
    for part, rows in parts.items():
        sizes[part] = str(len(rows)) if len(rows) == asked[part] else f"{len(rows)} of {asked[part]}"
        if used[part] is not None:
            rows, sizes[part] = rows[: used[part]], str(min(used[part], len(rows)))
        y = np.zeros((len(rows), len(labels) if part == "coarse" else n_fine), dtype=np.bool_)
        for i, (_, _, categories, archives) in enumerate(rows):
            of = columns["archives" if part == "coarse" else "categories"]
            y[i, [of[c] for c in (archives if part == "coarse" else categories)]] = True
        splits[part] = Split(tokenise([text for _, text, _, _ in rows]), y, [name for name, *_ in rows])
    coarse = splits["coarse"] if len(splits["coarse"]) else None
    hashed = content_hash(*((part, *row[:2], sorted(row[2]), sorted(row[3])) for part in parts for row in parts[part]))
    return Task(graph, labels, n_fine, splits["train"], splits["test"], coarse, sizes, hashed)
