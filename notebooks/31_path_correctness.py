# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 31 · Path correctness: is the decision right?
#
# *What you will learn:* whether a path that ends at the right label also gives the right answers on its way (Sec. 4.4),
# whether the probabilities are calibrated, and how far off mistakes are. *What it needs:* the records that
# `make reproduce` leaves; a table without records says "not run". *How long:* a minute on `toy`, two on `cpu`.
#
# The authors looked at predictions on nondeterministic paths through ⟨Tabby-Color⟩ and found that "more than 90 %"
# of the cats were tabbies. They judged by eye and do not say how many they looked at. On our drawn animals
# (`critters`) the true attributes are known, so the claim can be measured. For photographs there is a page below on
# which you judge yourself.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu, paper
group = ""  # the group to judge by eye; default: the first of the profile that has nodes below
nodes = {  # group -> the augmented nodes looked at; images are judged by eye for the first
    "critters": ["Tabby-Color", "Point-Color", "Solid-Color"],
    "pet": ["Tabby-Color", "Point-Color", "Solid-Color"],
    "flower": ["Yellow", "Purple", "White"],
}
dataset = "fusion"  # what the model whose images are judged by eye is trained on
method = "label-aug"  # and how: label-aug is Algorithm 1
n_images = 40  # at most, to judge by eye
seed = 0  # of that model and of the choice of images

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from sklearn.metrics import cohen_kappa_score

from companion.controls import untold
from companion.datasets.pet import RATINGS
from companion.interpret import answers, explain_split, mistakes, open_groups, path_correctness
from companion.interpret import rating_summary, reliability
from companion import methods
from companion.records import profiles
from companion.runs import load_task, trained
from companion.tables.engine import Scores, read_scores
from companion.tables.figures import bare, colour
from companion.tables.writing import as_markdown, folded, number, plain, write_figure
from companion.widgets import rater, read_ratings
from labelaug_core.graph_file import load_graph
from labelaug_core.prefix_tree import PrefixTree

profiles.check_parameters(globals(), "profile group nodes dataset method n_images seed".split())
torch.set_num_threads(1)
results = profiles.OUT / "results" / profile
results.mkdir(parents=True, exist_ok=True)
groups = [g for g in profiles.load_profile(profile)["groups"] if g in nodes]
group = group or groups[0]

# %%
graphs = {g: load_graph(g) for g in groups}
labels = {g: graph.label_nodes(next(iter(graph.labels))) for g, graph in graphs.items()}  # the fine labels come first
cells = [c for g in groups for c in profiles.cells(profile, g) if not c["option"]]
found = []  # (cell, the predictions of each of its seeds) of every cell that has a valid record
for c in cells:
    if isinstance(scores := read_scores(profile, c), Scores):
        found.append((c, [scores.record.of(s) for s in scores.seeds]))


def show(rows: list[dict], otherwise: str = "Not run: no cell has a record.") -> None:
    """Rows as a Markdown table, without its empty columns; the row of the parameters `method` and `dataset` is bold."""
    if not rows:
        return display(Markdown(otherwise))
    table = pd.DataFrame(rows)
    display(Markdown(as_markdown(table.loc[:, [table[k].astype(bool).any() for k in table]])))


def named(row: dict) -> dict[str, str]:
    """The first two columns of a row: its data and its method."""
    mark = "**{}**" if (row["dataset"], row["method"]) == (dataset, method) else "{}"
    return {
        "data": plain(f"{row['group']}: {row['dataset']}"),
        "method": mark.format(methods.METHODS[row["method"]].title),
    }


print(f"{len(found)} of {len(cells)} cells have records")

# %% [markdown]
# ## Which question is open?
#
# A group is *open* for a label that several of its nodes lead to: the label does not fix the answer, so the picture
# must. These are the nondeterministic groups of the paper. In brackets: how many answers are possible.

# %%
for g in groups:
    rows = [
        {
            "question": plain(question),
            "labels": len(to),
            "open for": plain(", ".join(f"{v} ({n})" for v, n in to.items())),
        }
        for question, to in open_groups(graphs[g], labels[g]).items()
    ]
    text = as_markdown(pd.DataFrame(rows))
    display(Markdown(text if len(text) < 2000 else folded(f"{g}: {len(rows)} questions", text)))

# %% [markdown]
# ## Section 4.4, measured
#
# For every test image whose *predicted* label leaves a group open, we take the most probable path through that group to
# this label. We ask whether it goes through the image's true node.
#
# - **right**: the share of these images whose path takes the true node.
# - **chance, majority**: one over the number of open nodes; and always the node that is most often true for the
#   predicted label, which is the best that a decoder can do without the picture.
# - **Algorithm 2 asks**: of all images, the share whose own path goes through an open group at all. **is then right** is
#   the share that the paper looked at.
# - **images**: how many are counted, a mean over seeds.
#
# The control, *attributes unknown*, is the same decoder on a graph in which every breed may have every attribute. This
# graph does not say which breeds are tabbies. Trained on the fine data, nothing gives its node Tabby-Color a meaning. Where
# coarse labels name attributes (`fusion-attributes`), they do.
#
# All shares are in percent; intervals: 95 %, seeds and test images as crossed random effects (notebook 22).


# %%
def correctness(cell: dict, predictions: list) -> pd.DataFrame | None:
    """The rows of one cell; None for a method that has no paths on these groups."""
    g, way = cell["group"], methods.METHODS[cell["method"]]
    if way.head != "path" or way.graph not in ("full", "untold"):
        return None
    tree = PrefixTree(untold(graphs[g]) if way.graph == "untold" else graphs[g], labels[g])
    seeds = [p | {"label": p[way.decode]} for p in predictions]
    truth = load_task(profiles.cell_settings(profile, **cell)).test.truth if "path_logp" in seeds[0] else None
    rows = path_correctness(graphs[g], tree, seeds, truth, nodes[g])
    verdict = "measured" if truth else "use measured; truth unknown"
    return rows.assign(**{k: cell[k] for k in ("group", "dataset", "method")}, n_seeds=len(seeds), verdict=verdict)


FIRST = ["group", "dataset", "method", "n_seeds", "question", "node"]
parts = [rows for c, x in found if (rows := correctness(c, x)) is not None and len(rows)]
table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*FIRST, "verdict"])


# %%
def share(row: dict, name: str) -> str:
    """A share in percent with its interval, as text; '' where there is none."""
    value, low, high = (100 * row.get(name + end, np.nan) for end in ("", "_low", "_high"))
    return number(value, "{:.0f}") + (f" [{low:.0f}, {high:.0f}]" if low == low else "")


def shares(rows: pd.DataFrame) -> list[dict]:
    """Rows of path_correctness as people read them."""
    return [
        named(r)
        | {
            "right": share(r, "rate"),
            "chance, majority": ", ".join(filter(None, [share(r, "chance"), share(r, "majority")])),
            "Algorithm 2 asks": share(r, "greedy"),
            "is then right": share(r, "greedy_rate"),
            "images": number(r.get("rate_n", np.nan), "{:.0f}"),
        }
        for r in rows.to_dict("records")
    ]


show(shares(table[table["question"] == "all"]))

# %% [markdown]
# The paper's node, the first of each group's `nodes`. Here **right** is of the images whose best path takes the node, and
# **chance** the share of all images counted that show it. An interval that ends at 100 comes from few images without a
# mistake: see **images**.

# %%
show(shares(table[table["node"].isin([nodes[g][0] for g in groups])]))

# %% [markdown]
# Question by question: how often the answer is right depends on what the training data say about it.

# %%
measured = table[(table["node"] == "") & (table["question"] != "all") & (table["verdict"] == "measured")]
measured = measured.dropna(subset=["rate"]) if len(measured) else measured
for g, rows in measured[measured["method"] == method].groupby("group"):
    data = list(dict.fromkeys(rows["dataset"]))
    questions = list(rows.groupby("question")["rate"].mean().sort_values().index)[-10:]
    figure, ax = plt.subplots(figsize=(7.5, 1.5 + 0.5 * len(questions)))
    for k, d in enumerate(data):
        part = rows[(rows["dataset"] == d) & rows["question"].isin(questions)]
        y = np.array([questions.index(q) for q in part["question"]]) + 0.3 - 0.6 * k / max(len(data) - 1, 1)
        ax.errorbar(100 * part["rate"], y, xerr=[100 * (part["rate"] - part["rate_low"]), 100 * (part["rate_high"] - part["rate"])],
                    fmt="os^Dv"[k % 5], ms=5, color=colour(method), alpha=1 - 0.6 * k / len(data), label=d)  # fmt: skip
        ax.plot(100 * part["majority"], y, "x", ms=5, color="0.5", label="majority" if k == len(data) - 1 else None)
    ax.set_yticks(range(len(questions)), questions, parse_math=False)
    ax.set_ylim(-0.5, len(questions) - 0.5)
    ax.set(xlabel="images whose path takes the true node (%), 95 % intervals", xlim=(0, 102))
    whole = table[(table["question"] == "all") & (table["method"] == method) & (table["group"] == g)]
    message = ", ".join(f"{d} {100 * r:.0f} %" for d, r in zip(whole["dataset"], whole["rate"], strict=True))
    message += f"; always the commonest answer of the label: {100 * whole['majority'].mean():.0f} %"
    figure.suptitle(
        f"{g}, {methods.METHODS[method].title}: right answers to open questions\n{message}",
        x=0.02,
        ha="left",
        fontsize=10.5,
    )
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    bare(ax)
    figure.tight_layout()
    write_figure(figure, profile, "path_correctness" if len(groups) == 1 else f"path_correctness_{g}")
    plt.show()

# %% [markdown]
# ## On photographs
#
# Four cat breeds leave the coat pattern open: British Shorthair, Sphynx, Persian and Maine Coon. We drew 240 of their
# official test images at random, and their coat pattern was rated. A vision-language model (Claude) looked at contact sheets, in two separate passes and two orders.
# It saw no prediction. It often knew the breed, so it was not blind to that. Images count on which both passes agree
# (`results/cpu/ratings_pet.csv`). **majority** is the commonest pattern of the predicted breed.

# %%
if RATINGS.is_file():
    ratings = pd.read_csv(RATINGS)
    same = ratings[(ratings["first"] == ratings["second"]) & (ratings["first"] != "unclear")]
    kappa = cohen_kappa_score(ratings["first"], ratings["second"])
    counts = ", ".join(f"{v} {n}" for v, n in same["first"].value_counts().items())
    print(f"{len(ratings)} photographs, both passes agree on {len(same)} ({counts}); Cohen's kappa {kappa:.2f}")
path = profiles.OUT / "results" / "cpu" / "path_correctness.csv"
rated = pd.read_csv(path).fillna({"node": ""}) if path.is_file() else pd.DataFrame(columns=[*FIRST, "verdict"])
rated = rated[(rated["question"] == "cat color") & (rated["verdict"] == "measured")]
show(shares(rated[rated["node"].isin(["", "Tabby-Color"])].assign(dataset=rated["dataset"] + " " + rated["node"])))

# %% [markdown]
# ## The same by eye
#
# Where nobody knows the truth, look. We take one model, as in notebook 30, and ask it the node's question for every test
# image. Below are those whose best path goes through the node and is **nondeterministic**, drawn at random by the seed.
# A solid frame marks Algorithm 2's own path, a dashed one a path that was asked for.

# %%
node, settings = nodes[group][0], profiles.cell_settings(profile, group, dataset, method)
model, task = trained(settings, seed)
images = load_task(settings | {"encoder": settings["encoder"] | {"tune": "all"}}).test.inputs
asked = explain_split(model, task.test, task.graph.group[node])
order = np.random.default_rng(seed).permutation(len(asked))
sheet = np.array([i for i in order if node in asked[i].path and not asked[i].deterministic], dtype=int)
n_all, sheet = len(sheet), sheet[:n_images]
print(f"{n_all} of {len(asked)} test images have a nondeterministic best path through {node}; {len(sheet)} are shown")

# %%
if len(sheet):
    columns = min(10, len(sheet))
    high = -(-len(sheet) // columns)
    size = (1.15 * columns, 0.3 + 1.5 * high)
    figure, axes = plt.subplots(high, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, i in zip(axes.flat, sheet, strict=False):
        ax.imshow(images[np.array([i])][0])
        ax.set_title(f"{asked[i].path[-1]}\np = {asked[i].p(node):.2f}", fontsize=6.5, parse_math=False)
        ax.spines[:].set(visible=True, color="#2e9b48", linewidth=2, linestyle="-" if asked[i].greedy else "--")
    figure.suptitle(f"{group}: nondeterministic paths through {node}", fontsize=9)
    write_figure(figure, profile, f"contact_sheet_{group}")
    plt.show()

# %% [markdown]
# ### Your verdict
#
# Write your name, then judge: does the image show the node? The page shows neither the predicted nor the true label.
# Every answer is saved at once in `results/<profile>/ratings.csv` (group, node, image, rater, verdict). Come back with
# the same name, and you go on where you stopped. With a second rater the table below also gives their agreement.

# %%
ratings_file = results / "ratings.csv"
page = rater([images[np.array([i])][0] for i in sheet], [task.test.ids[i] for i in sheet], group, node, ratings_file)
page if len(sheet) else print("there is nothing to judge")

# %% [markdown]
# ### The rate by eye
#
# `yes` among yes and no, with Wilson's 95 % interval over images, and for two raters Cohen's kappa. Run this cell again
# after you have judged.

# %%
eye = [
    {"group": g, "dataset": dataset, "method": method, "question": graphs[g].group[v], "node": v}
    | rating_summary(read_ratings(ratings_file, g, v))
    for g in groups
    for v in nodes[g]
]
show([
    {
        "node": plain(f"{r['group']}: {r['node']}"),
        "yes (%)": share(r, "rate"),
        "images": str(r["n_images"]),
        "cannot tell": str(r["cannot_tell"]),
        "raters": plain(r["raters"]),
        "kappa": number(r.get("kappa", np.nan)),
    }
    for r in eye if r["verdict"] == "rated"
], "Not rated: nobody has judged images of these nodes.")  # fmt: skip
table = pd.concat([table, pd.DataFrame(eye)], ignore_index=True)
every = [*FIRST, *(c for c in table if c not in [*FIRST, "verdict"]), "verdict"]
table[every].to_csv(results / "path_correctness.csv", index=False, float_format="%.4f")

# %% [markdown]
# ## Are the probabilities calibrated?
#
# Of all predictions made with p = 0.8, four in five should be right. A **reliability diagram** plots the share that is
# right against p. On the diagonal the probabilities are calibrated; below it the model is too sure of itself. The
# expected calibration error (**ECE**) is the mean distance from the diagonal.
#
# First the labels: FFN's softmax and the exact p(label | x) of the path decoder. Both are shown as they are and with one
# temperature, fitted on validation data, that divides all log-probabilities. The table has the ECE in percent, a mean
# over seeds, for the fine data and for `dataset`; `calibration.csv` has the rest.


# %%
def calibration(cell: dict, what: str, seeds: list[tuple], stated: str = "as it is") -> dict:
    """One row: seeds [(p, right)]; mean p, share right and ECE, mean and standard deviation over seeds, in percent."""
    ece = [100 * reliability(np.asarray(p, float), right)[-1] for p, right in seeds]
    row = {k: cell[k] for k in ("group", "dataset", "method")}
    row |= {"what": what, "probability": stated, "n_seeds": len(seeds)}
    row["mean_p"] = 100 * np.mean([np.asarray(p, float).mean() for p, _ in seeds])
    row["right"] = 100 * np.mean([np.mean(r) for _, r in seeds])
    return row | {"ece": np.mean(ece), "ece_std": np.std(ece, ddof=1) if len(ece) > 1 else np.nan}


def side_by_side(rows: list[dict], column: str, text) -> list[dict]:
    """Rows of `calibration` of the fine data and of `dataset`, one for each cell; `column` names the text's column."""
    kept = {}
    for r in rows:
        if r["dataset"] in ("fine", dataset):
            kept.setdefault((r["group"], r["dataset"], r["method"]), named(r))[r[column]] = text(r)
    return list(kept.values())


by_label, curves = [], {}
for cell, x in found:
    for key, stated in (("p_exact", "as it is"), ("p_scaled", "temperature")):
        if all(key in p for p in x):
            curves[profiles.cell_name(**cell), f"label, {stated}"] = seeds = [(p[key], p["exact"] == p["y"]) for p in x]
            by_label.append(calibration(cell, "label", seeds, stated))
show(side_by_side(by_label, "probability", lambda r: number(r["ece"], "{:.1f}")))

# %% [markdown]
# Now the answers, where the truth is known: each question is asked of every image on its true way. *fixed*: the image's
# breed fixes the answer, and the graph said so in training. *open*: it does not. On photographs the truth is known of the
# rated cats alone: *fixed* is there their species and their breed, *open* their coat pattern. Each entry is the mean p, the share
# that is right and, in brackets, the ECE, all in percent.

# %%
by_answer = []
for cell, x in found:
    way, g, name = methods.METHODS[cell["method"]], cell["group"], profiles.cell_name(**cell)
    if way.head != "path" or way.graph != "full" or "path_logp" not in x[0]:
        continue
    tree, truth = PrefixTree(graphs[g], labels[g]), load_task(profiles.cell_settings(profile, **cell)).test.truth
    given = [answers(tree, p["path_logp"], truth, p["y"], open_groups(graphs[g], labels[g])) for p in x]
    kinds = {"answers, fixed": lambda a: ~a["open"], "answers, open": lambda a: a["open"]}
    kinds |= {q: lambda a, q=q: a["question"] == q for q in given[0]["question"].unique()}
    for what, chosen in kinds.items():
        seeds = [(a["p"][chosen(a)], a["right"][chosen(a)]) for a in given]
        by_answer.append(calibration(cell, what, seeds))
        if what.startswith("answers"):
            curves[name, what] = seeds
main = [r for r in by_answer if r["what"].startswith("answers")]
show(side_by_side(main, "what", lambda r: f"{r['mean_p']:.1f}, {r['right']:.1f} ({r['ece']:.1f})"),
     "Not run: no record holds the probabilities of paths.")  # fmt: skip
pd.DataFrame(
    by_label + by_answer, columns="group dataset method what probability n_seeds mean_p right ece ece_std".split()
).to_csv(results / "calibration.csv", index=False, float_format="%.4f")

# %% [markdown]
# The diagrams of the paper's methods and of the question likelihood, trained on the fine data, seeds pooled. Bins with
# fewer than 20 predictions are left out.

# %%
for g in groups:
    fine = [
        c
        for c, _ in found
        if c["group"] == g and c["dataset"] == "fine" and c["method"] in ("ffn", "label-set", method, "label-aug-question")
    ]
    if not fine:
        continue
    figure, axes = plt.subplots(1, len(fine), figsize=(max(2.1 * len(fine), 4), 3.2), sharey=True, squeeze=False)
    for ax, c in zip(axes[0], fine, strict=True):
        for k, what in enumerate(("label, as it is", "label, temperature", "answers, fixed", "answers, open")):
            if seeds := curves.get((profiles.cell_name(**c), what)):
                pooled = np.concatenate([p for p, _ in seeds]).astype(float), np.concatenate([r for _, r in seeds])
                stated, right, size, _ = reliability(*pooled)
                ax.plot(stated[size >= 20], right[size >= 20], "o-", ms=3, lw=1.2, color=f"C{k}", label=what)
        ax.plot([0, 1], [0, 1], color="0.7", lw=1)
        ax.set_xlabel("p")
        ax.set_title(methods.METHODS[c["method"]].title.replace(", ", ",\n"), fontsize=8)
        bare(ax)
    axes[0][0].set_ylabel("share right")
    handles, texts = max((ax.get_legend_handles_labels() for ax in axes[0]), key=lambda h: len(h[0]))
    figure.legend(handles, texts, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize=8)
    figure.suptitle(f"{g}: below the line a model is too sure of itself", x=0.02, ha="left", fontsize=10)
    figure.tight_layout()
    write_figure(figure, profile, f"calibration_{g}")
    plt.show()

# %% [markdown]
# ## How far off are the mistakes?
#
# A Bengal taken for an Egyptian Mau, both spotted cats, is a smaller mistake than a Bengal taken for a Pug. Measured on
# the full label graph, for every method alike:
#
# - **steps up**, of the wrong predictions: how far up the true and the predicted label meet (1: they share the answer to
#   some question; 2: the species only).
# - **hierarchical precision, recall** (percent): the shared ancestors of both labels, over all images; 100 is no mistake.
#
# Shown are the fine data and `dataset`; `mistakes.csv` has all, with standard deviations over seeds.

# %%
rows = []
for cell, x in found:
    g, decode = cell["group"], methods.METHODS[cell["method"]].decode
    each = pd.DataFrame([mistakes(graphs[g], labels[g], p[decode].astype(int), p["y"].astype(int)) for p in x])
    each[["hierarchical_precision", "hierarchical_recall"]] *= 100
    row = {"group": g, "dataset": cell["dataset"], "method": cell["method"], "n_seeds": len(each)}
    rows.append(row | dict(each.mean()) | {f"{k}_std": v for k, v in each.std().items()})
columns = ["group", "dataset", "method", "n_seeds"]
pd.DataFrame(rows, columns=None if rows else columns).to_csv(results / "mistakes.csv", index=False, float_format="%.4f")
show([
    named(r)
    | {
        "mistakes": f"{r['wrong']:.1f}",
        "steps up": number(r["lca_distance"]),
        "hierarchical precision, recall": f"{r['hierarchical_precision']:.1f}, {r['hierarchical_recall']:.1f}",
        "seeds": str(r["n_seeds"]),
    }
    for r in rows if r["dataset"] in ("fine", dataset)
])  # fmt: skip
