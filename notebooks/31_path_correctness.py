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
# *What you will learn:* whether a path that ends at the right label also went there for the right reason (Sec. 4.4),
# what makes it so, whether the probabilities are honest, and how far off mistakes are. *What it needs:* the records
# that `make reproduce` leaves (without them the tables say "not run"). *How long:* a minute on `toy`, two on `cpu`.
#
# The authors looked at predictions on nondeterministic paths through ⟨Tabby-Color⟩ and found that "more than 90 %"
# of the cats were tabbies. They judged by eye, and do not say how many they looked at. On our drawn animals
# (`critters`) the true attributes are known, so the claim can be measured; for photographs there is a page below on
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

from companion.records import profiles
from companion.records import store

profiles.check_parameters(globals(), "profile group nodes dataset method n_images seed".split())
from companion.runs import load_task
from labelaug_core.explain import explain, trained
from labelaug_core.graph_file import load_graph
from companion.interpret import answers, mistakes, open_groups, path_correctness, rating_summary, reliability
from companion.methods import METHODS, variant
from labelaug_core.prefix_tree import PrefixTree
from companion.tables.engine import Scores, read_scores
from companion.tables.writing import as_markdown, plain, write_figure
from labelaug_core.training import to_tensor

torch.set_num_threads(1)
results = profiles.OUT / "results" / profile
results.mkdir(parents=True, exist_ok=True)
groups = [g for g in profiles.load_profile(profile)["groups"] if g in nodes]
group = group or groups[0]
cells = [c for g in groups for c in profiles.cells(profile, g) if not c["option"]]
found = {}  # name -> (the cell, the predictions of each of its seeds that has a valid record)
for c in cells:
    if isinstance(x := read_scores(profile, c), Scores):
        found[profiles.cell_name(**c)] = c, [x.record.of(s) for s in x.seeds]
graphs = {g: load_graph(profiles.cell_settings(profile, **next(c for c in cells if c["group"] == g))["source"]) for g in groups}
labels = {g: graph.label_nodes(next(iter(graph.labels))) for g, graph in graphs.items()}  # the fine labels come first
print(f"{len(found)} of {len(cells)} cells have records")

# %% [markdown]
# ## Which question is open?
#
# A group is *open* for a label that several of its nodes lead to: the label does not tell the answer, the picture
# must. These are the nondeterministic groups of the paper.

# %%
for g in groups:
    opened = open_groups(graphs[g], labels[g])
    print(g, *(f"   {question}: {', '.join(f'{v} ({n})' for v, n in open_to.items())}" for question, open_to in opened.items()), sep="\n")

# %% [markdown]
# ## Section 4.4, measured
#
# For every test image whose *predicted* label leaves a group open, we take the most probable path through that group to
# this label, and ask whether it goes through the image's true node. Beside the **rate** stand **chance** (one over the
# nodes open) and **majority** (always the true node that is most frequent for that predicted label: what a decoder
# that ignores the picture could reach at best). **greedy** is how often Algorithm 2 takes a path through an open group
# at all, of all images; **greedy_rate** how often it is then right, which is what the paper looked at.
#
# The control, *attributes untold*: the same decoder on a graph in which every breed may have every attribute. Nothing
# ever told it which breeds are tabbies, so its node Tabby-Color is a node without a meaning.
#
# Intervals: 95 %, seeds and test images as crossed random effects (notebook 22).

# %%
def correctness(cell: dict, predictions: list) -> pd.DataFrame | None:
    """The rows of one cell; None for a method that has no paths on these groups."""
    g, way = cell["group"], METHODS[cell["method"]]
    if way.head != "path" or way.graph not in ("full", "untold"):
        return None
    tree = PrefixTree(variant(graphs[g], way.graph, 0), labels[g])
    seeds = [p | {"label": p[way.decode]} for p in predictions]
    truth = load_task(profiles.cell_settings(profile, **cell)).test.truth if "path_logp" in seeds[0] else None
    rows = path_correctness(graphs[g], tree, seeds, truth, nodes[g])
    rows.insert(0, "n_seeds", len(seeds))
    for name in ("method", "dataset", "group"):
        rows.insert(0, name, cell[name])
    return rows.assign(verdict="measured" if truth else "use measured; truth unknown")


parts = [rows for c, x in found.values() if (rows := correctness(c, x)) is not None and len(rows)]
table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


# %%
def percent(row, name: str) -> str:
    """A share in percent with its interval, as text."""
    if pd.isna(row.get(name)):
        return ""
    ci = f" [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]" if f"{name}_low" in row else ""
    return f"{100 * row[name]:.1f}{ci}"


def show(rows: pd.DataFrame) -> None:
    """Rows as a Markdown table; 'not run' if there are none."""
    if rows.empty:
        return display(Markdown("not run: no records"))
    columns = {"group": rows["group"], "data": rows["dataset"], "method": [METHODS[m].title for m in rows["method"]]}
    for name in ("question", "node"):
        if rows[name].nunique() > 1:
            columns[name] = rows[name].map(plain)
    for name in ("rate", "chance", "majority", "greedy", "greedy_rate"):
        if name in rows and rows[name].notna().any():
            columns[name] = [percent(r, name) for _, r in rows.iterrows()]
    if "rate_n" in rows:
        columns["images"] = rows["rate_n"].round(1)
    display(Markdown(as_markdown(pd.DataFrame(columns))))


show(table.query("question == 'all'") if len(table) else table)

# %% [markdown]
# The paper's node. Here **rate** is of the images whose best path takes the node, and **chance** the share of all images
# counted that show it. An interval that ends at 100 is one of few images without a miss: see **images**, a seed.

# %%
first = [nodes[g][0] for g in groups]
show(table.query("node in @first") if len(table) else table)

# %% [markdown]
# Question by question: what the picture shows clearly is answered well, once something has told the decoder what the
# answers mean.

# %%
measured = table.query("node == '' and question != 'all' and verdict == 'measured'") if len(table) else table
for _, rows in measured.groupby("group") if len(measured) else ():
    panels, ways = list(rows["dataset"].unique()), list(rows["method"].unique())
    questions = list(rows["question"].unique())[::-1]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 + 2.2 * len(panels), 4.6), sharey=True, squeeze=False)
    for ax, data in zip(axes[0], panels, strict=True):
        for k, m in enumerate(ways):
            part = rows[(rows["dataset"] == data) & (rows["method"] == m)]
            y = np.array([questions.index(q) for q in part["question"]]) + 0.3 - 0.6 * k / max(len(ways) - 1, 1)
            ax.hlines(y, 100 * part["rate_low"], 100 * part["rate_high"], color=f"C{k}", lw=1.5)
            ax.plot(100 * part["rate"], y, "o", ms=4, color=f"C{k}", label=METHODS[m].title)
            last = k == len(ways) - 1
            ax.plot(100 * part["majority"], y, "x", ms=4, color="0.5", lw=0, label="majority" if last else None)
            ax.plot(100 * part["chance"], y, "|", ms=7, color="0.5", lw=0, label="chance" if last else None)
        ax.set(title=data, xlabel="true node taken (%)", xlim=(0, 102))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(questions)), questions)
    handles, names = max((ax.get_legend_handles_labels() for ax in axes[0]), key=lambda h: len(h[0]))
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)
    figure.tight_layout()
    write_figure(figure, profile, "path_correctness")
    plt.show()

# %% [markdown]
# ## The same by eye
#
# Where nobody knows the truth, look. We take one model, as in notebook 30, ask it the node's question for every test
# image, and lay out those whose best path goes through the node and is **nondeterministic**, drawn at random by the
# seed. (Asked, because Algorithm 2 itself seldom goes there: see `greedy` above. A solid frame is its own path.)

# %%
node, settings = nodes[group][0], profiles.cell_settings(profile, group, dataset, method)
model, task = trained(settings, seed)
images = load_task(settings | {"encoder": settings["encoder"] | {"tune": "all"}}).test.inputs
device, chunks = next(model.parameters()).device, np.array_split(np.arange(len(task.test)), len(task.test) // 256 + 1)
asked = [e for rows in chunks for e in explain(model, to_tensor(task.test, rows, device), task.graph.group[node])]
order = np.random.default_rng(seed).permutation(len(asked))
sheet = np.array([i for i in order if node in asked[i].path and not asked[i].deterministic], dtype=int)
n_all, sheet = len(sheet), sheet[:n_images]
print(f"{n_all} of {len(asked)} test images have a nondeterministic best path through {node}; {len(sheet)} are shown")

# %%
if len(sheet):
    columns = min(10, len(sheet))
    high = -(-len(sheet) // columns)
    figure, axes = plt.subplots(high, columns, figsize=(1.15 * columns, 0.3 + 1.5 * high), squeeze=False, layout="constrained")
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
# Write your name, then judge: does the image show the node? Neither the predicted nor the true label is told. Every
# answer is saved at once in `results/<profile>/ratings.csv` (group, node, image, rater, verdict); come back and you go
# on where you stopped. With a second rater the table below gives their agreement, too.

# %%
from companion.widgets import rater, read_ratings

ratings_file = results / "ratings.csv"
page = rater([images[np.array([i])][0] for i in sheet], [task.test.ids[i] for i in sheet], group, node, ratings_file)
page if len(sheet) else print("there is nothing to judge")

# %% [markdown]
# ### The rate by eye
#
# `yes` among yes and no, with Wilson's 95 % interval over images, and for two raters Cohen's kappa. Without ratings the
# row says so; run this cell again after you have judged.

# %%
eye = [
    {"group": g, "dataset": dataset, "method": method, "question": graphs[g].group[v], "node": v} | rating_summary(read_ratings(ratings_file, g, v))
    for g in groups
    for v in nodes[g]
]
table = pd.concat([table, pd.DataFrame(eye)], ignore_index=True)
table.to_csv(results / "path_correctness.csv", index=False, float_format="%.4f")
pd.DataFrame(eye).round(3)

# %% [markdown]
# ## Are the probabilities honest?
#
# Of all predictions made with p = 0.8, four in five should be right. A **reliability diagram** plots the share that is
# right against p; on the diagonal the probabilities are honest, below it the model is too sure of itself. The expected
# calibration error (**ECE**) is the mean distance from the diagonal. First the labels: FFN's softmax and the exact
# p(label | x) of the path decoder, as they are and with one temperature, fitted on validation data, that divides all
# log-probabilities. The table shows the ECE in percent, a mean over seeds; `calibration.csv` has the rest.

# %%
def calibration(cell: dict, what: str, seeds: list[tuple], stated: str) -> dict:
    """One row: seeds [(p, right)]; mean p, share right and ECE, mean and standard deviation over seeds, in percent."""
    ece = [100 * reliability(np.asarray(p, float), right)[-1] for p, right in seeds]
    row = {k: cell[k] for k in ("group", "dataset", "method")} | {"what": what, "probability": stated, "n_seeds": len(seeds)}
    row |= {"mean_p": 100 * np.mean([np.asarray(p, float).mean() for p, _ in seeds]), "right": 100 * np.mean([np.mean(r) for _, r in seeds])}
    return row | {"ece": np.mean(ece), "ece_std": np.std(ece, ddof=1) if len(ece) > 1 else np.nan}


COLUMNS = "group dataset method what probability n_seeds mean_p right ece ece_std".split()
rows, curves = [], {}
for name, (cell, x) in found.items():
    for key, stated in (("p_exact", "as it is"), ("p_scaled", "temperature")):
        if all(key in p for p in x):
            curves[name, stated] = [(p[key], p["exact"] == p["y"]) for p in x]
            rows.append(calibration(cell, "label", curves[name, stated], stated))
honest = pd.DataFrame(rows, columns=COLUMNS)
honest.pivot_table("ece", ["group", "dataset", "method"], "probability", sort=False).round(1) if rows else print("not run: no records")

# %% [markdown]
# Now the answers, where the truth is known: each question is asked of every image on its true way. *told*: the image's
# breed fixes the answer, as the graph told the decoder in training; *open*: it does not. All in percent.

# %%
rows = []
for name, (cell, x) in found.items():
    way, g = METHODS[cell["method"]], cell["group"]
    if way.head != "path" or way.graph != "full" or "path_logp" not in x[0]:
        continue
    tree, truth = PrefixTree(graphs[g], labels[g]), load_task(profiles.cell_settings(profile, **cell)).test.truth
    asked_of = [answers(tree, p["path_logp"], truth, p["y"], open_groups(graphs[g], labels[g])) for p in x]
    for what, is_open in (("answers, told", False), ("answers, open", True)):
        curves[name, what] = [(a["p"][a["open"] == is_open], a["right"][a["open"] == is_open]) for a in asked_of]
        rows.append(calibration(cell, what, curves[name, what], "as it is"))
    for question in asked_of[0]["question"].unique():
        here = [a[a["question"] == question] for a in asked_of]
        rows.append(calibration(cell, question, [(a["p"], a["right"]) for a in here], "as it is"))
honest = pd.concat([honest, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)
honest.to_csv(results / "calibration.csv", index=False, float_format="%.4f")
answered = honest[honest["what"].str.startswith("answers")]
answered.pivot_table(["mean_p", "right", "ece"], ["group", "dataset", "method"], "what", sort=False).round(1) if rows else print("not run: no record holds path probabilities")

# %% [markdown]
# The diagrams, trained on the fine data, seeds pooled; bins with fewer than 20 predictions are left out.

# %%
for g in groups:
    names = [profiles.cell_name(**c) for c, _ in found.values() if c["group"] == g and c["dataset"] == "fine"]
    if not names:
        continue
    figure, axes = plt.subplots(1, len(names), figsize=(2.3 * len(names), 2.9), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for k, what in enumerate(("as it is", "temperature", "answers, told", "answers, open")):
            if seeds := curves.get((name, what)):
                pooled = np.concatenate([p for p, _ in seeds]).astype(float), np.concatenate([r for _, r in seeds])
                stated, right, size, _ = reliability(*pooled)
                stated, right = stated[size >= 20], right[size >= 20]
                title = what if what.startswith("answers") else f"label, {what}"
                ax.plot(stated, right, "o-", ms=3, lw=1.2, color=f"C{k}", label=title)
        ax.plot([0, 1], [0, 1], color="0.7", lw=1)
        ax.set(title=METHODS[found[name][0]["method"]].title.replace(", ", ",\n"), xlabel="p")
        ax.title.set_size(8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("share right")
    handles, texts = max((ax.get_legend_handles_labels() for ax in axes[0]), key=lambda h: len(h[0]))
    figure.legend(handles, texts, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False, fontsize=8)
    figure.tight_layout()
    write_figure(figure, profile, f"calibration_{g}")
    plt.show()

# %% [markdown]
# ## How far off are the mistakes?
#
# A Bengal taken for an Egyptian Mau, both spotted cats, is a smaller mistake than a Bengal taken for a Pug. Measured on
# the full label graph for every method alike: **lca_distance**, of the wrong predictions, is how many steps up true and
# predicted label meet (1: they share the answer to some question; 2: the species only); **hierarchical precision and
# recall** count shared ancestors over all images (100 = no mistake).

# %%
rows = []
for cell, x in found.values():
    g, decode = cell["group"], METHODS[cell["method"]].decode
    each = pd.DataFrame([mistakes(graphs[g], labels[g], p[decode].astype(int), p["y"].astype(int)) for p in x])
    each[["hierarchical_precision", "hierarchical_recall"]] *= 100
    row = {"group": g, "dataset": cell["dataset"], "method": cell["method"], "n_seeds": len(each)}
    rows.append(row | dict(each.mean()) | {f"{k}_std": v for k, v in each.std().items()})
far = pd.DataFrame(rows)
far.to_csv(results / "mistakes.csv", index=False, float_format="%.4f")
far.drop(columns=[c for c in far if c.endswith("_std")]).round(2) if rows else print("not run: no records")
