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
# # 00 · Quickstart: watch one image walk down the label graph
#
# *What you will learn:* what the paper's method does, end to end, in one sitting: a label graph, a classifier that
# predicts a **path** through it, and the explanation that the path gives for free. *What it needs:* nothing: the
# animals are drawn here. *How long:* under a minute.

# %% tags=["parameters"]
seed = 0
steps = 300

# %% [markdown]
# ## Drawn animals with known attributes
#
# `critters` is a toy world of fourteen invented breeds. A breed fixes some attributes (hair, coat pattern, ears, tail)
# and leaves others free, and because we draw the pictures we know the truth about each of them.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from companion.records import store as records
from companion.runs import fit, load_task

records.check_parameters(globals(), ["seed", "steps"])
settings = records.cell_settings("toy", "critters", "fine", "label-aug-question")
settings["training"] |= {"steps": steps, "eval_every": steps // 5}
task = load_task(settings)
graph = task.graph
print(f"{len(task.train)} training images, {len(task.test)} test images, {task.n_fine} breeds, {len(graph.augmented)} augmented nodes")

# %%
figure, axes = plt.subplots(2, 7, figsize=(10, 3.3))
for ax, i in zip(axes.T.flat, np.r_[[np.flatnonzero(task.test.y == k)[0] for k in range(task.n_fine)]], strict=True):
    ax.imshow(task.test.inputs[i], interpolation="nearest")
    ax.set_title(task.labels[task.test.y[i]], fontsize=8)
    ax.axis("off")
figure.tight_layout()

# %% [markdown]
# **How to read it.** One test image of each breed, cats on the left, dogs on the right. At 32 by 32 pixels, with noise
# and things in the way, coat and ears can be made out in most of them, hair and tail in some. A small network will make
# mistakes, and that is what we want of a world in which methods are compared.
#
# ## The label graph
#
# The breeds are labels; the attributes are *augmented* nodes that nobody annotated. A person wrote down which breed has
# which (`labelaug_core/graphs/critters.yaml`). One breed is reached by several paths: *animal, cat, Shorthair, ...* or
# *animal, cat, Tabby-Color, ...*. Where a breed fixes the attribute the path is **deterministic**, where it comes in
# several it is **nondeterministic**: the picture has the answer, not the label.

# %%
breed = "Albion Shorthair"
deterministic, nondeterministic = graph.split_paths(breed)
print("deterministic:   ", *("  " + " ◦ ".join(p) for p in deterministic), sep="\n")
print("nondeterministic:", *("  " + " ◦ ".join(p) for p in nondeterministic), sep="\n")

# %% [markdown]
# ## Train
#
# A small CNN makes features, a GRU walks the graph, and a softmax inside each block of competing answers scores every
# step. Notebook 04 explains the objectives; this run uses the one that asks every question for its own evidence.

# %%
torch.set_num_threads(2)
model, task, val, history = fit(settings, task, seed)
for row in history:
    print(f"step {row['step']:4d}: validation accuracy {row['val_accuracy']:.2f}")

# %% [markdown]
# ## One image walks down the graph
#
# Greedy decoding (Algorithm 2) starts at the root and takes the most probable answer at every step, until the path
# ends at a breed. Beside each step stands its question, the answer's probability and the runner-up. The last line is
# the probability of the breed summed over *all* paths that lead to it.

# %%
from labelaug_core.explain import explain, format_explanation

rows = np.random.default_rng(seed).choice(len(task.test), 3, replace=False)
images = torch.from_numpy(task.test.inputs[rows])
explanations = explain(model, images)
for row, explanation in zip(rows, explanations, strict=True):
    print(f"truth: {task.labels[task.test.y[row]]}, {', '.join(task.test.truth[row].values())}")
    print(format_explanation(explanation), "\n")

# %% [markdown]
# ## The same walk, drawn
#
# Every bar is one step: the answer that was taken and, in grey, its strongest rival.

# %%
figure, axes = plt.subplots(3, 2, figsize=(9, 6), width_ratios=[1, 3])
for (left, right), row, steps_taken in zip(axes, rows, explanations, strict=True):
    left.imshow(task.test.inputs[row], interpolation="nearest")
    left.axis("off")
    shown = steps_taken.steps[::-1]
    right.barh(range(len(shown)), [s.p for s in shown], color="#2a7f9e")
    right.barh(range(len(shown)), [-s.runner_up_p for s in shown], color="0.8")
    for i, s in enumerate(shown):
        right.text(0.02, i, s.answer, va="center", color="white", fontsize=9)
        right.text(-0.02, i, s.runner_up or "", va="center", ha="right", fontsize=8, color="0.35")
    right.set(yticks=range(len(shown)), yticklabels=[s.question for s in shown], xlim=(-1, 1), xticks=[-1, 0, 1], xticklabels=["1", "0", "1"])
    right.spines[["top", "right"]].set_visible(False)
figure.tight_layout()

# %% [markdown]
# **How to read it.** From top to bottom: the first question is always the species. A long blue bar beside a short grey
# one is a sure answer; two bars of equal length are a guess. A classifier with one softmax would have said the last
# line only. Here you see *which* question went wrong when the breed is wrong.
#
# ## How good is it?
#
# On the test images, by the exact label probability and by the greedy path. Do not read much into one seed: the table
# that compares methods, with several seeds and intervals, is notebook 22.

# %%
from companion.one_label import guess
from labelaug_core.training import predict

found = predict(model, task.test)
for way in ("exact", "greedy"):
    print(f"{way:7s}{(guess(found, way) == task.test.y).mean():.2f}")
print(f"chance {1 / task.n_fine:.2f}")

# %% [markdown]
# ## What you have seen, and where it is explained
#
# 1. A **label graph** puts labels and attributes on one map, and several **paths** lead to a label: notebook
#    [01](01_label_graphs.ipynb).
# 2. At each node there are several questions, each with answers of its own: **block softmax**, notebook
#    [02](02_block_softmax.ipynb).
# 3. A GRU, the **decoder**, walks down the graph; its walk is the explanation: notebook [03](03_decoder.ipynb).
# 4. The colour of an Albion Shorthair was never annotated, and yet the decoder answers the question. How it can be
#    trained to, when no label tells it whether it is right: notebook [04](04_objectives.ipynb).
# 5. Because a coarse label is a node as well, a *second dataset* can be joined through the graph: notebooks
#    [22](22_table3.ipynb) (does it help?) and [99](99_your_own_datasets.ipynb) (with datasets of yours).
#
# Things to try: change `seed` in the first cell, run everything again, and see how much the last numbers move. Then set
# `steps` to 30 and look at the bars: which question is learned first?
