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
# # 43 · When does joining help?
#
# *What you will learn:* how the gain by joining depends on the number of fine labels and of coarse images. *What it needs:*
# nothing; the records of `make beyond` to rewrite the table. *How long:* seconds.
#
# We take fine labels away. A share of the fine training images keeps only a coarse label (for example *cat* or
# *dog*). FFN cannot use these images. The other models use them as coarse ones. The images come from the same
# dataset, so only the label is missing. Every arm has the same number of fine images a step.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

from companion.expect import expect
from companion.heads.baselines import allowed
from companion.interpret import asked
from companion.methods import SEVERAL_LABELS
from companion.records import profiles
from companion.runs import load_task, trained
from companion.tables import beyond
from companion.tables.figures import draw_curves
from companion.tables.writing import as_markdown, folded, read_table, write_figure
from labelaug_core import load_graph
from labelaug_core.files.cache import write_files

profiles.check_parameters(globals(), ["profile"])
rows, notes = beyond.question(profile, "when")
rows["fewer"] = rows["dataset"].str.startswith(("fine", "fusion-share"))  # fewer fine labels, no other images

# %% [markdown]
# ## The answer
#
# At the right end every image has its fine label, and there is no coarse image. There the difference comes from the
# label graph alone. Without coarse images the flat softmax and Pseudo Labels are FFN, so they have no point there. HEX was
# not run there. The gain can be largest between the two ends: with very few fine labels all models may be poor, and with
# all of them nothing is left to add.

# %%
groups = rows.query("fewer").groupby("group", sort=False)
figure = plt.figure(figsize=(9, 3.6 * ((len(groups) + 1) // 2) + 0.5))
for i, (name, part) in enumerate(groups, 1):
    axes = figure.add_subplot((len(groups) + 1) // 2, 2, i)
    shown = beyond.compared(part)
    top = beyond.one(shown.loc[[shown["delta"].idxmax()]])
    draw_curves(axes, shown, "n_train", names=[f"{n:,}" for n in sorted(shown["n_train"].unique())])
    axes.set_title(f"{name}: at most {top.delta:+.1f} points\n({top.name}, {top.n_train:,} fine labels)", loc="left", fontsize=10)
    axes.set_xlabel("training images with a fine label", fontsize=9)
    axes.set_ylabel("points above FFN on the fine ones", fontsize=9)
lines = {}
for axes in figure.axes:
    handles, labels = axes.get_legend_handles_labels()
    lines |= dict(zip(labels, handles, strict=True))
figure.legend(lines.values(), lines.keys(), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False, fontsize=9)
figure.suptitle("Fewer fine labels; of all other training images the coarse label is known", x=0.02, ha="left", fontsize=11)
figure.tight_layout()
write_figure(figure, profile, "beyond_when")

# %% [markdown]
# How much a coarse label says differs. **left**: how many fine labels it leaves, on average over the classes. **alone**:
# the number of classes that are the only one below their coarse label. For such a class the coarse label is the fine
# label. So where many classes are alone or few labels are left, a large gain is no surprise.

# %%
left = []
for (of, name), part in rows[rows["dataset"].str.startswith("fusion-share")].groupby(["profile", "group"], sort=False):
    settings = profiles.cell_settings(of, name, part["dataset"].iloc[0], "flat-marginal")
    graph = load_graph(settings["source"])
    fine = graph.label_nodes(next(iter(graph.labels)))
    for question in settings["data"]["questions"]:
        answers = [node for node in graph.nodes if graph.group.get(node) == question]
        below = allowed(graph, [*fine, *answers], len(fine))[len(fine) :].sum(1).tolist()
        left.append({"data": name, "question": question, "classes": len(fine), "answers": len(below),
                     "left": sum(n * n for n in below) / sum(below), "alone": below.count(1)})  # fmt: skip
display(Markdown(as_markdown(pd.DataFrame(left).round(1))))

# %%
for name, part in rows.groupby("group", sort=False):
    lines = []
    for n, at in beyond.compared(part.query("fewer")).groupby("n_train"):
        best = beyond.one(at.loc[[at["delta"].idxmax()]])
        lines.append(f"With {n:,} fine labels FFN has {best.mean - best.delta:.1f} %; of {len(at)} other models "
                     f"{beyond.counted(at)}; the best of them is {beyond.says(best)}.")  # fmt: skip
    for data, at in beyond.compared(part.query("not fewer")).groupby("data", sort=False):
        best = beyond.one(at.loc[[at["delta"].idxmax()]])
        lines.append(f"With all fine labels and other images beside them ({data}) the best is {beyond.says(best)}.")
    display(Markdown(f"**{name}.** {' '.join(lines)}"))

# %%
for name, part in beyond.compared(rows).groupby("group", sort=False):
    display(Markdown(f"**{name}**, points against FFN\n\n{beyond.grid(part, 'data', 'name')}"))
display(Markdown(" ".join(notes)), Markdown(folded("all rows", beyond.markdown(rows, "FFN"))))

# %% [markdown]
# **How to read it.** Every row is compared with FFN on the same fine labels, paired by seed and test image, with a
# 95 % interval. FFN was trained with two numbers of images a step, and the one that is better on validation data is
# used. **Bold**: a test at 5 % shows the difference, after Holm's correction over the table. For each seed we choose
# at random which images keep their fine label, as evenly over the classes as possible. A part of them is the
# validation part. So with few fine labels every arm chooses its model on few images. *joined: images of known ...*
# keeps all fine labels and adds other images.

# %% [markdown]
# ## What to expect, before anything is joined
#
# A coarse label can help directly only where FFN cannot predict it yet. We test this on held-out *fine* images,
# before anything is joined: how many more of them would FFN predict correctly if it were given the true coarse
# answer? `companion.expect.expect` trains FFN and computes this, also for a task of your own. **if told**: the
# accuracy of FFN when the labels that the true coarse answer excludes are removed. **headroom**: how much larger that
# is. **best join**: the largest gain over FFN in Table 3 (test images).

# %%
rows = []
for cell in {(c["group"], c["dataset"]): c for c in profiles.cells(profile) if c["dataset"].startswith("fusion")}.values():
    settings = profiles.cell_settings(profile, cell["group"], cell["dataset"], "label-aug")
    if settings["source"] in SEVERAL_LABELS or settings["finetune"]:
        continue
    settings["training"] = profiles.cell_settings(profile, cell["group"], "fine", "ffn")["training"]
    found, joins = expect(settings, load_task(settings)), read_table(profile, 3)
    joins = joins[(joins["group"] == cell["group"]) & (joins["dataset"] == cell["dataset"])] if len(joins) else joins
    best = joins.loc[[joins["delta"].idxmax()]] if len(joins) and joins["delta"].notna().any() else joins.iloc[:0]
    for name, told in found.given.items():
        rows.append({"data": f"{cell['group']}: {cell['dataset']}", "question": name, "FFN": found.accuracy, "if told": told,
                     "headroom": told - found.accuracy, "best join": best["delta"].max() if len(best) else None})  # fmt: skip
expected = pd.DataFrame(rows).sort_values(["data", "headroom"], ascending=[True, False])
path = profiles.OUT / "results" / profile / "expect.csv"
write_files({path: expected.to_csv(index=False, float_format="%.2f").encode()})
shown = pd.concat([expected, *(pd.read_csv(f) for f in [path.parents[1] / "cpu" / "expect.csv"] if profile != "cpu" and f.is_file())])
display(Markdown(as_markdown(shown.round(1).fillna(""))))

# %% [markdown]
# ## Is the coarse question asked at all?
#
# A coarse label trains the answers to its own question and no others (notebook 05, section 3). So Algorithm 1 can gain
# directly only where its paths go through this question. (Of several coarse questions we take the one with most images.)
# Here we count it on the test images, with label-aug (Algorithm 1, three seeds) trained on the fine data and on the fusion. **asked**: the greedy path goes through the coarse question.
# **greedy**: the label of the greedy path is right. **alone**: the most probable label is right, if only the paths
# through this question are summed. **exact**: the same for all paths. All numbers are percent of the test images.

# %%
def use_of(cell, question, dataset):
    """A row: how label-aug, trained on `dataset`, uses the coarse question of a cell. Means over three seeds."""
    runs = [trained(profiles.cell_settings(profile, cell["group"], dataset, "label-aug"), seed) for seed in range(3)]
    found = pd.DataFrame([asked(model, task.test, question) for model, task in runs]).mean()
    return {"data": f"{cell['group']}: {cell['dataset']}", "question": question, "trained on": dataset.partition("-")[0], **found}


rows = []
for cell in profiles.cells(profile):
    settings = profiles.cell_settings(profile, **cell)
    if (cell["method"], cell["option"]) != ("label-aug", "") or not settings["data"].get("join") or settings["finetune"]:
        continue
    if settings["source"] not in SEVERAL_LABELS:
        task = load_task(settings)
        above = allowed(task.graph, task.labels, task.n_fine).any(1).tolist()  # has the label a fine label below it?
        coarse = [task.labels[k] for k in task.coarse.y if k >= task.n_fine and above[k]]
        questions = pd.Series([task.graph.group[label] for label in coarse])
        rows += [use_of(cell, questions.mode()[0], dataset) for dataset in ("fine", cell["dataset"])]
used = pd.DataFrame(rows)
path = profiles.OUT / "results" / profile / "asked.csv"
write_files({path: used.to_csv(index=False, float_format="%.2f").encode()})
shown = pd.concat([used, *(pd.read_csv(f) for f in [path.parents[1] / "cpu" / "asked.csv"] if profile != "cpu" and f.is_file())])
display(Markdown(as_markdown(shown.round(1))))

# %% [markdown]
# **How to read it.** Compare the two rows of a question. Where joining raises *alone* more than *greedy*, the coarse
# images have taught the answers, but most paths do not ask for them. Greedy decoding takes the question whose best answer
# is most probable. A question with many answers is at a disadvantage then. Where *asked* is 100, every path goes through
# the question, and *alone* and *exact* are the same. The numbers of FFN are in notebook 22: on CIFAR-100 *alone* is below
# FFN also after joining, so the choice of the question explains a part only.
