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
# # 21 · Table 2: texts with several labels
#
# *What you will learn:* whether papers that are known by their archive alone (`cs`) help to tell categories (`cs.CL`),
# for a plain classifier and for the path decoder, and how that depends on the number of papers with categories. *What it
# needs:* the records that the batch leaves. *How long:* a minute or two. Nothing is trained here.
#
# `toy` is `notes`: made-up abstracts in four archives and fourteen categories, read by a small LSTM. `cpu` is arXiv,
# read by MiniLM (frozen, or its last layer trained) and by an LSTM from scratch (`arxiv-lstm-long`: with twice the
# steps). MiniLM is a six-layer BERT trained for sentence similarity. `paper` is BERT-base, fine-tuned.
#
# A paper has several categories. So every answer on the way is a yes or no given its parent, and each category is a path
# whose probability is the product of its answers. **One threshold** on that probability, chosen on validation data,
# decides for all categories; the most probable category is always predicted. The same rule holds for every method.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu, paper

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, Markdown, display

from companion import methods
from companion.records import profiles
from companion.tables import archives, figures, writing
from companion.tables.engine import Reader, Scores, results_table, table_cells, taxonomy

profiles.check_parameters(globals(), ["profile"])
frame = results_table(profile, table=2)
writing.write_table(frame, profile, table=2)

# %% [markdown]
# ## Real papers
#
# The profile `cpu`, as committed in `results/cpu/table2.csv`: 4,000 test papers of arXiv in 149 categories.

# %%
if profile != "cpu":
    real = writing.read_table("cpu", 2)
    shown = f"{writing.markdown(real[real['n_seeds'] > 0], table=2)}\n{writing.sizes(real)}" if len(real) else "not run"
    display(Markdown(shown))

# %% [markdown]
# ## The table

# %%
display(Markdown(f"{writing.markdown(frame, table=2)}\n{writing.sizes(frame)}"))

# %% [markdown]
# **How to read it.**
#
# - **micro-F1**: 2 × right pairs / (predicted pairs + true pairs), where a pair is a paper and a category. Shown are the mean
#   and the standard deviation over seeds. In brackets: **macro**, the mean over the categories that the test papers have, and
#   **archives**, the micro-F1 of the archives of the categories. The paper says "F1" and does not say which.
# - **gain over FFN**, **joining alone**, **verdict**: as in Table 3 (notebook 22). F1 is a ratio of sums, so each paper
#   enters the statistics with its *influence* on F1. The mean of these values is F1 exactly, and interval and p follow as
#   for accuracy.
# - **MiniLM and the LSTM** (real papers): the LSTM starts from random weights, and its F1 of the archives is lower. With it
#   the papers known by archive help FFN and label-aug. FFN had not converged after the steps of `arxiv-lstm`, as its row
#   with twice the steps shows. So `arxiv-lstm-long` has twice the steps for all, and there they help both, too. MiniLM was
#   trained on other texts before. With it they help label-aug if it is frozen. For FFN no gain is shown with all papers;
#   with few papers there is one (next section). With its last layer trained no gain is shown for either.
#
# > **What a paper known by archive teaches.** FFN: *some category of this archive, none of another* (noisy-or). The
# > second reading, `coarse=archives`, gives the archives outputs of their own, and nothing below them is learned. Label
# > Set: the archive's node is present, its categories are left out of the loss. label-aug: the answers down to the
# > archive; as an arm of its own, `coarse=noisy-or`. The direct decoder (ours): the sum over all sets of categories that
# > have these archives.
#
# > **The direct decoder with several labels.** Each node has a score straight from the features. The score of a set of
# > categories is the sum over all nodes on their paths, and one softmax runs over all sets. On a tree this sum is exact
# > (`companion/heads/direct.py`). The scores of fields and archives begin at zero: the decoder begins as FFN with noisy-or.
#
# > **Deviation from the paper.** It scores FFN on the fusion and does not say how a paper without a category is a target.
# > It samples paths where they are uncertain. Here each label has one path, so the likelihood is exact and nothing is
# > sampled. The paper's arXiv fusion of "50,000" is 50,000 and 50,000.

# %% [markdown]
# ## F1 and the number of papers
#
# How much do archive-only papers add when papers with categories are few, and when there are many? Dashed: with the
# archive-only papers; solid: papers with categories alone.

# %%
curve = [c for c in profiles.cells(profile, part="ablations") if c["group"] in set(frame["group"])]
every = [c for c in table_cells(profile, table=2) if not c["option"] and c["dataset"] != "fine-same-compute"] + curve
learned = results_table(profile, 2, every) if curve else frame.iloc[:0]
data = [profiles.cell_settings(profile, **c)["data"] for c in every] if curve else []
learned["fine"] = [d.get("use_fine", d["n_fine"]) for d in data]
learned["coarse"] = [d.get("use_coarse", d["n_coarse"]) if d.get("join") else 0 for d in data]
learned["joined"] = learned["coarse"] > 0
learned = learned[learned["n_seeds"] > 0].sort_values(["group", "method", "coarse", "fine"])

# %%
for group, part in learned.groupby("group"):
    most = part["coarse"].max()
    shown = part[part["option"].eq("") & part["coarse"].isin([0, most])]
    if shown["fine"].nunique() > 1:
        figure, axes = plt.subplots(figsize=(6.5, 4))
        figures.draw_curves(axes, shown, "fine", y="mean", dashed="joined")
        axes.set(xlabel="papers with categories", ylabel="micro-F1")
        axes.legend(frameon=False, fontsize=8, title=f"dashed: and {most:,} archive-only papers")
        gain = shown[shown["joined"]].sort_values("fine").groupby("method")["joining"].agg(["first", "last"]).round(1) + 0.0
        gains = [f"{methods.METHODS[m].title} {r['first']:+.1f} to {r['last']:+.1f}" for m, r in gain.iterrows()]
        message = f"{group}: gain by joining, from the fewest to the most papers,\n" + ",\n".join(
            ", ".join(gains[i : i + 2]) for i in range(0, len(gains), 2)
        )
        figure.suptitle(message, x=0.02, y=0.9, ha="left", va="bottom", fontsize=10)
        writing.write_figure(figure, profile, f"table2_{group}_curve")
for file in sorted(profiles.OUT.glob("figures/cpu/table2_*_curve.png")) if profile != "cpu" else []:
    display(Markdown("The committed curve of the profile `cpu`:"), Image(file, width=560))

# %% [markdown]
# The same in numbers. The weight of the coarse batches was chosen with all papers; with few papers the flat heads do
# better with the weight of label-aug, so both are shown. *joining*: against the same method with as many papers with
# categories and no archive-only paper.

# %%
if len(learned):
    kept = "group method option fine coarse n_seeds mean ci_low ci_high joining joining_ci_low joining_ci_high".split()
    learned[kept].to_csv(profiles.OUT / "results" / profile / "table2_curve.csv", index=False, float_format="%.4f")
    rows = list(learned.itertuples())
    table = {
        "group": [writing.plain(r.group) for r in rows],
        "method": [writing.title(r) for r in rows],
        "papers": [f"{r.fine:,}" for r in rows],
        "archive-only": [f"{r.coarse:,}" for r in rows],
        "micro-F1 [95 %]": [f"{r.mean:.2f} [{r.ci_low:.2f}, {r.ci_high:.2f}]" for r in rows],
        "joining [95 %]": [writing.interval(r, "joining") for r in rows],
    }
    display(Markdown(writing.folded(f"{len(rows)} rows", writing.as_markdown(pd.DataFrame(table)))))
else:
    print("this profile has no learning curve, or it was not run")

# %% [markdown]
# ## Which archives gain
#
# Micro-F1 over the categories of one archive: label-aug on the fusion against label-aug on the fine data, for the ten
# archives with the most test papers, read by the first encoder of the table. With so many archives some intervals leave
# out zero by chance.

# %%
read, pairs = Reader(profile), {}
for g in frame["group"].unique()[:1]:
    cell = {"group": g, "dataset": "fine", "method": "label-aug", "option": ""}
    found = [read(cell | {"dataset": d}) for d in ("fine", "fusion")]
    if all(isinstance(s, Scores) for s in found):
        pairs[g] = profiles.cell_settings(profile, **cell)["source"], *found
for g, (source, fine, fusion) in pairs.items():
    gains = archives.archive_gains(source, fine, fusion).nlargest(10, "papers").sort_values("gain", ascending=False)
    rows = gains.rename(columns={"gain": "value"}).assign(colour=figures.colour("label-aug"))
    rows["label"] = [f"{r.archive} ({r.papers} papers)" for r in rows.itertuples()]
    up, down = (rows["low"] > 0).sum(), (rows["high"] < 0).sum()
    message = (
        f"{g}: of {len(rows)} archives {up} gain by joining, {down} lose; the intervals of the others include zero"
    )
    figure = figures.draw_intervals(rows, "points of micro-F1 gained by joining, label-aug (95 % intervals)", message)
    writing.write_figure(figure, profile, f"table2_{g}_archives")

# %% [markdown]
# ## Confusions across archives
#
# Rows: an archive that a paper has and the prediction lacks. Columns: an archive that is predicted and the paper does not
# have. Numbers are test papers, the mean over seeds, for label-aug on the fusion; the ten archives with the most.

# %%
for g, (source, _, fusion) in pairs.items():
    table = archives.confusion(source, fusion)
    kept = (table.sum(axis=0) + table.sum(axis=1)).nlargest(10).index
    table = table.loc[kept, kept]
    worst, taken = table.stack().idxmax()
    figure, axes = plt.subplots(figsize=(2 + 0.45 * len(kept), 1.5 + 0.38 * len(kept)))
    sns.heatmap(table.round(0), annot=True, fmt=".0f", cbar=False, cmap="Greens", ax=axes, annot_kws={"size": 8})
    axes.set(xlabel="predicted, but not there", ylabel="there, but not predicted")
    axes.set_title(f"{g}: {worst} is taken for {taken} most often ({table.max().max():.0f} papers)", fontsize=10)
    writing.write_figure(figure, profile, f"table2_{g}_confusion")

# %% [markdown]
# ## Some papers, decoded
#
# The first test papers, as label-aug (fusion, first seed) reads them. A category's probability is the product of the
# steps. **Bold**: predicted. ✓: true. The titles need the data; without them a paper is shown by its number.

# %%
from companion.runs import load_task
from labelaug_core.data import DataError
from labelaug_core.graph_file import load_graph
from labelaug_core.prefix_tree import PrefixTree


def titles(group: str, n: int) -> list[str]:
    """The first line of the first n test texts, or, without the data, their numbers."""
    raw = profiles.cell_settings(profile, group, "fusion", "label-aug") | {"encoder": {}}
    raw["data"] = {k: v for k, v in raw["data"].items() if k not in ("tokens", "join")}
    try:
        return [text.split("\n")[0] for text in load_task(raw).test.inputs[np.arange(n)]]
    except DataError:
        return [f"test paper {i}" for i in range(n)]


# %%
def decoded(source: str, fusion: Scores, names: list[str]) -> pd.DataFrame:
    """A row for each likely or true category of the first papers, with the steps of its path."""
    labels = taxonomy(source)[0]
    tree, one = PrefixTree(load_graph(source), labels), fusion.record.of(fusion.seeds[0])
    predicted, y = archives.unpacked(fusion, len(labels))
    p, steps = (np.exp(one[k].astype(float)) for k in ("log_probs", "step_log_probs"))
    slot, path = {v: e for e, v in enumerate(tree.prefixes)}, {v[-1]: v for v in tree.paths}
    rows = []
    for i, name in enumerate(names):
        for k in sorted({*np.argsort(-p[i])[:3], *np.flatnonzero(y[i])}, key=lambda k: -p[i, k]):
            way = path[labels[k]]
            said = [f"{v} {steps[i, slot[way[: t + 1]]]:.2f}" for t, v in enumerate(way) if t]
            label = writing.plain(labels[k]).join(("**", "**") if predicted[0, i, k] else ("", ""))
            row = {"paper": writing.plain(name), "category": label + " ✓" * bool(y[i, k]), "p": f"{p[i, k]:.2f}"}
            rows.append(row | {"steps": writing.plain(" → ".join(said))})
            name = ""
    return pd.DataFrame(rows)


for g, (source, _, fusion) in pairs.items():
    display(Markdown(f"**{g}**\n\n" + writing.as_markdown(decoded(source, fusion, titles(g, 8)))))
