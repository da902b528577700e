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
# # 21 · Table 2: text, several labels a paper
#
# *What you will learn:* whether papers that are known by their archive alone (`cs`) help to tell categories (`cs.CL`),
# for a plain classifier and for the path decoder, and how that depends on how many papers with categories there are.
# *What it needs:* the records that the batch leaves. *How long:* a minute or two; nothing is trained here.
#
# `toy` is `notes`: made-up abstracts in four archives and fourteen categories, read by a small LSTM. `cpu` is arXiv,
# read by MiniLM (frozen) and by an LSTM from scratch. MiniLM is a six-layer BERT trained for sentence similarity, and
# no plain BERT. `paper` is BERT-base, fine-tuned.
#
# A paper has several categories, so every answer on the way is a yes or no given its parent, and each category is a
# path with a probability: the product of its answers. **One threshold** on that probability, chosen on validation data,
# decides for all categories; the most probable category is always given. The same rule holds for every method.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu, paper

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown, display

from companion.records import store as records
from companion.tables import text as text_report
from companion.tables.engine import as_markdown, plain, table_cells, write_figure

records.check_parameters(globals(), ["profile"])
cells = table_cells(profile, table=2)
frame, loaded = text_report.results(profile, cells)
text_report.write_table(frame, profile)

# %% [markdown]
# ## How to read it
#
# - **micro-F1**: over all (paper, category) pairs together: twice the pairs found, over those guessed plus those true.
#   Mean and standard deviation over seeds. **macro** is the mean over categories (those that the test papers have), **by
#   sample** the mean over papers, **archives** the micro-F1 of the archives of the categories. The paper says "F1".
# - **gain over FFN**: the difference to the group's better FFN on the fine data (same compute included; the better on
#   validation data), on the same seeds and papers, with a 95 % bootstrap interval over both. F1 is a ratio of sums, so
#   seeds and papers are drawn, and the ratio is taken after.
# - **joining alone**: the fusion against the same method on the fine data alone.
# - **p (Holm)**: sign-flip permutation over seeds, corrected for all comparisons of this table.
# - **verdict**: as in Table 3 (notebook 22).
#
# > **What a paper known by archive teaches.** FFN: *some category of this archive, none of another* (noisy-or); the
# > second reading, `coarse=archives`, gives the archives outputs of their own, and nothing below them is learned.
# > Label Set: the archive's node is present, its categories are left out of the loss. label-aug: the answers down to
# > the archive; as an arm of its own, `coarse=noisy-or`.
#
# > **Deviation from the paper.** It scores FFN on the fusion without saying how a paper with no category is a target.
# > It samples paths where they are uncertain; here each label has one path, so the likelihood is exact and nothing is
# > sampled. The paper's arXiv fusion "50,000" is 50,000 and 50,000.

# %%
display(Markdown(text_report.markdown(frame, profile)))

# %% [markdown]
# ## F1 and the number of papers
#
# The honest headline of a joining experiment is a curve: how much do archive-only papers add, when papers with
# categories are few, and when there are many? Dashed: fine papers alone; solid: with the archive-only papers. All
# is chosen as above: the model and the threshold on a fifth of the fine papers.

# %%
curve = [c for c in records.cells(profile, part="ablations") if c["group"] in set(frame["group"])]
every = [c for c in cells if not c["option"] and c["dataset"] != "fine-same-compute"] + curve
learned = text_report.results(profile, every, loaded)[0] if curve else frame.iloc[:0]
sizes = [records.cell_settings(profile, **c)["data"] for c in every] if curve else []
learned["fine"] = [d.get("use_fine", d["n_fine"]) for d in sizes]
learned["coarse"] = [d.get("use_coarse", d["n_coarse"]) if d.get("join") else 0 for d in sizes]
learned["joined"] = learned["coarse"] > 0
learned = learned[learned["n_seeds"] > 0]
whole = {g: part["coarse"].max() for g, part in learned.groupby("group")}
for group, part in learned.groupby("group"):
    shown = part[part["option"].eq("") & ((part["coarse"] == 0) | (part["coarse"] == whole[group]))]
    if shown["fine"].nunique() > 1:
        figure, ax = plt.subplots(figsize=(6.5, 4))
        text_report.draw_curve(shown, ax, "fine")
        ax.set_title(f"{group} ({profile}), {whole[group]:,} archive-only papers or none", loc="left", fontsize=10)
        write_figure(figure, profile, f"table2_{group}_curve")

# %% [markdown]
# The same in numbers, with the number of archive-only papers. The weight of the coarse batches was chosen with all fine
# papers, where the flat heads want a small one; with few fine papers they do better with the weight of label-aug, so
# both are shown. *joining*: against the same method with as many fine papers and none known by archive alone.

# %%
columns = ["group", "method", "option", "fine", "coarse", "n_seeds", "mean", "ci_low", "ci_high"]
columns += ["joining", "joining_ci_low", "joining_ci_high"]
learned = learned.sort_values(["group", "method", "coarse", "fine"])[columns]
if len(learned):
    learned.to_csv(records.OUT / "results" / profile / "table2_curve.csv", index=False, float_format="%.4f")
learned.style.hide(axis="index").format(precision=2)

# %% [markdown]
# ## Which archives gain
#
# Micro-F1 over the categories of one archive: label-aug on the fusion against label-aug on the fine data. Archives with
# few test papers have wide intervals; with so many archives, a few intervals miss zero by chance.

# %%
groups = [
    g
    for g in dict.fromkeys(frame["group"])
    if all(isinstance(loaded.get(records.cell_name(g, d, "label-aug")), dict) for d in ("fine", "fusion"))
]
source = {g: records.load_profile(profile)["groups"][g].get("of", g) for g in groups}
fine, fusion = ({g: loaded[records.cell_name(g, d, "label-aug")] for g in groups} for d in ("fine", "fusion"))
for g in groups:
    gains = text_report.archive_gains(source[g], fine[g], fusion[g])
    figure, ax = plt.subplots(figsize=(6, 0.6 + 0.28 * len(gains)))
    at = np.arange(len(gains))
    ax.hlines(at, gains["low"], gains["high"], color="C2")
    ax.plot(gains["gain"], at, "o", color="C2")
    ax.axvline(0, color="0.6", lw=0.8)
    ax.set_yticks(
        at,
        [f"{a.removeprefix('archive ')} ({n} papers)" for a, n in zip(gains["archive"], gains["papers"], strict=True)],
    )
    ax.set(xlabel="points of micro-F1 gained by joining (label-aug)", title=f"{g} ({profile})")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    write_figure(figure, profile, f"table2_{g}_archives")

# %% [markdown]
# ## Confusions across archives
#
# Rows: an archive that a paper has and the prediction (label-aug, fusion) lacks; columns: an archive guessed that the
# paper has not. Numbers are test papers, a seed's average.

# %%
for g in groups:
    table = text_report.confusion(source[g], fusion[g])
    names = [a.removeprefix("archive ") for a in table.index]
    figure, ax = plt.subplots(figsize=(2 + 0.4 * len(names), 1.5 + 0.35 * len(names)))
    sns.heatmap(
        table.round(0),
        annot=True,
        fmt=".0f",
        cbar=False,
        cmap="Greens",
        xticklabels=names,
        yticklabels=names,
        ax=ax,
        annot_kws={"size": 7},
    )
    ax.set(xlabel="guessed, but not there", ylabel="there, but not guessed", title=f"{g} ({profile})")
    write_figure(figure, profile, f"table2_{g}_confusion")

# %% [markdown]
# ## Some papers, decoded
#
# The first test papers that are wrong or right in part, as label-aug (fusion, first recorded seed) reads them: the
# category's probability is the product of the steps. **Bold**: predicted; ✓: true. The titles need the data; without
# them a paper is shown by its number.

# %%
from companion.runs import load_task
from labelaug_core.data import DataError
from labelaug_core.graph_file import load_graph
from labelaug_core.prefix_tree import PrefixTree


def titles(settings: dict) -> list[str]:
    """The first line of every test text, or, without the data, its number."""
    raw = settings | {"encoder": {}, "data": {k: v for k, v in settings["data"].items() if k not in ("tokens", "join")}}
    try:
        return [text.split("\n")[0] for text in load_task(raw).test.inputs[np.arange(20)]]
    except DataError:
        return [f"test paper {i}" for i in range(20)]


# %%
for g in groups[:1]:
    settings, found = records.cell_settings(profile, g, "fusion", "label-aug"), fusion[g]
    labels, _ = text_report.taxonomy(source[g])
    tree, first, rows = PrefixTree(load_graph(source[g]), labels), found["first"], []
    step = {p: np.exp(v) for p, v in zip(tree.prefixes, first["step_log_probs"].T.astype(float), strict=True)}
    path = {p[-1]: p for p in tree.paths}
    for i, name in list(enumerate(titles(settings)))[:8]:
        top = np.argsort(-first["log_probs"][i].astype(float))[:3]
        for k in sorted({*top, *np.flatnonzero(found["y"][i])}, key=lambda k: -first["log_probs"][i, k]):
            steps = " → ".join(
                f"{path[labels[k]][t - 1]} {step[path[labels[k]][:t]][i]:.2f}"
                for t in range(2, len(path[labels[k]]) + 1)
            )
            marks = ("**", "**") if found["predicted"][0, i, k] else ("", "")
            rows.append(
                {
                    "paper": plain(name),
                    "category": plain(labels[k]).join(marks) + (" ✓" if found["y"][i, k] else ""),
                    "p": f"{np.exp(float(first['log_probs'][i, k])):.2f}",
                    "steps": plain(steps),
                }
            )
            name = ""
    display(Markdown(f"**{g}**\n\n" + as_markdown(pd.DataFrame(rows))))
