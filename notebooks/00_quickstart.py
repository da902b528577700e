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
# # 00 · Quickstart: join two datasets, and follow one prediction through the label graph
#
# **What you will learn.** What the paper's method does, from two datasets to an explained prediction. A few
# images have the labels that we want to predict. Many images have other labels. A *label graph* says how the
# labels are related. One model learns from both sets. Words that are new to you are in the
# [glossary](glossary.md).
#
# **What it needs.** Nothing: the animals are drawn here. **How long it takes.** About a minute.

# %% tags=["parameters"]
seed = 0
steps = 400

# %% [markdown]
# ## Two datasets whose labels do not match
#
# We draw cats and dogs of fourteen invented breeds. The **fine** set is small: ten images of each breed,
# labelled with the breed. The **coarse** set is four times as large, but its breeds are not known. Its labels
# are coat patterns, such as *Tabby-Color* or *Spotted Coat*. The test images are of all breeds. The task is
# to predict the breed.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.datasets.critters_drawing import generate
from companion.records.profiles import check_parameters

check_parameters(globals(), ["seed", "steps"])
fine, coarse, test = generate(10, seed=3 * seed), generate(40, seed=3 * seed + 1), generate(30, seed=3 * seed + 2)
coats = [looks.get("cat color") or looks["dog coat"] for looks in coarse.attributes]

# %%
figure, axes = plt.subplots(2, 7, figsize=(10, 3.4))
for row, name, images, labels in zip(
    axes, ("fine", "coarse"), (fine.images, coarse.images), (fine.breeds, coats), strict=True
):
    for ax, image, label in zip(row, images[::2], labels[::2], strict=False):
        ax.imshow(image, interpolation="nearest")
        ax.set_title(label, fontsize=8)
        ax.axis("off")
    row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, rotation=90, ha="right", va="center")
figure.suptitle("The same kind of animals, two kinds of labels", fontsize=10)
figure.tight_layout()

# %% [markdown]
# **How to read it.** Above, images of the fine set with their breeds. Below, images of the coarse set with their coats. An
# ordinary classifier of breeds has no output for *Tabby-Color*, so it cannot use the second row at all.
#
# ## The label graph joins them
#
# The graph is a YAML file that a person wrote. It says that a *Brackenpaw* is a cat with short hair and a
# tabby coat. It also says what is open: an *Albion Shorthair* may be solid, tabby or pointed. Here the label
# does not determine the coat. Only the picture shows it. Nodes that are a label of no dataset (hair, ears,
# tail) are called **augmented**.
#
# `labels` says which dataset puts its classes on which nodes. The first one is the fine one, whose classes are predicted.

# %%
from dataclasses import replace

from labelaug_core import LabelAug, TrainingSettings, load_graph

graph = load_graph("critters")
patterns = [v for v in graph.nodes if graph.group.get(v) in ("cat color", "dog coat")]
graph = replace(graph, labels={"breeds": graph.labels["critters"], "coats": {v: v for v in patterns}})
graph

# %% [markdown]
# Here is the way to one breed. The root is yellow, labels of either dataset are green, augmented nodes are blue. A frame
# holds answers that compete. A dashed arrow lies on **nondeterministic** paths only: the breed may have this answer.

# %%
from companion.drawing import draw_graph, draw_steps

draw_graph(graph, labels=["Albion Shorthair"])
plt.show()

# %% [markdown]
# ## Train: four models
#
# `LabelAug` has the methods of a scikit-learn classifier: `fit`, `predict`, `score`. Its small network
# computes features. Its decoder predicts a path through the graph, and each question on the path has its own
# softmax. It is trained by the *question likelihood*, which samples nothing; the paper's Algorithm 1 is an
# option (notebook 04). `FFN` is the ordinary classifier: the same network, and one softmax over the breeds.
# `same compute` gives it as many images a step as the join has. Without this control, a gain from more computing would look
# like a gain from joining.

# %%
from companion.heads.baselines import FFNHead


class FFN(LabelAug):
    """The same network with a plain softmax over the breeds in place of the decoder."""

    def make_head(self, labels, n_fine, d):
        return FFNHead(self.graph, labels, n_fine, d)


small = TrainingSettings(steps=steps, batch=32, coarse_batch=32, lr=0.005, trunk=128)
same_compute = replace(small, batch=64)

# %%
models = {
    "FFN, fine": FFN(graph, "small-cnn", seed, training=small).fit(fine.images, fine.breeds),
    "FFN, fine, same compute": FFN(graph, "small-cnn", seed, training=same_compute).fit(fine.images, fine.breeds),
    "label-aug, fine": LabelAug(graph, "small-cnn", seed, training=small).fit(fine.images, fine.breeds),
    "label-aug, join": LabelAug(graph, "small-cnn", seed, training=small).fit(
        fine.images, fine.breeds, coarse=(coarse.images, coats)
    ),
}

# %%
scores = pd.Series({name: 100 * model.score(test.images, test.breeds) for name, model in models.items()})
ax = scores[::-1].plot.barh(figsize=(7, 2.2), color=["#2a7f9e", "0.7", "0.7", "0.7"], xlim=(0, 100))
ax.axvline(100 / len(set(test.breeds)), color="0.4", lw=0.8, ls="--")
ax.bar_label(ax.containers[0], fmt="%.1f", padding=3)
ax.set(xlabel=f"accuracy on {len(test.breeds)} test images, % (dashed: chance)", title="What the second dataset adds")
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# **How to read it.** Each bar is one model, trained once. The blue bar is the join. Compare it with the
# longest of the others. `same compute` can be the shorter one of the two FFNs: it sees the same few images twice as
# often, so it can overfit. One seed is not a result: change `seed` in the first cell and see how much each bar
# moves. And this is a drawn world, whose coat labels say much that ten images of a breed do not. **On photographs the
# method was not better than FFN** (README). The comparison with several seeds, intervals and other methods, such as a
# plain softmax that is joined, too, is notebook [22](22_table3.ipynb).
# Coat labels say much about a breed. Notebooks 22 and [44](44_which_coarse_labels.ipynb) ask whether a join
# still helps when the coarse labels say less.
#
# ## The path of one image
#
# The decoder starts at the root and takes the most probable answer at every step, until the path ends at a
# breed (Algorithm 2). Each line has a question, the answer, its probability, and the second most probable
# answer (the runner-up). `p` in the last lines is the probability of the breed, summed over *all* paths that
# lead to it. We take the first test image whose path ends at the right breed, and the first whose path does
# not.

# %%
walks = models["label-aug, join"].explain(test.images)
right = np.array([walk.path[-1] == breed for walk, breed in zip(walks, test.breeds, strict=True)])
chosen = [int(right.argmax()), int((~right).argmax())]
for i in chosen:
    print(f"in truth: {test.breeds[i]}, {', '.join(test.attributes[i].values())}")
    print(walks[i], "\n")

# %%
figure, axes = plt.subplots(2, 2, figsize=(9, 5), width_ratios=[1, 3])
for (left, bars), i in zip(axes, chosen, strict=True):
    left.imshow(test.images[i], interpolation="nearest")
    left.set_title(test.breeds[i], fontsize=9)
    left.axis("off")
    draw_steps(bars, walks[i].steps)
axes[0, 1].set_title("The path, question by question: the answer (blue) and the second most probable (grey)", fontsize=9)
figure.tight_layout()

# %% [markdown]
# **How to read it.** Read from top to bottom. The first question is always the species. A long blue bar
# beside a short grey one means that the model is confident. Two bars of about equal length mean that it is
# undecided. An ordinary classifier would give the last line only. Here you can see *which* answer on the path
# was wrong. The next picture shows the first path on the graph, in red.

# %%
draw_graph(graph, labels=[walks[chosen[0]].path[-1]], path=walks[chosen[0]].path)
plt.show()

# %% [markdown]
# ## What you have seen, and where it is explained
#
# 1. A **label graph** has the labels of both datasets as nodes, and several **paths** lead to a label:
#    notebook [01](01_label_graphs.ipynb).
# 2. A node can have several questions, each with answers of its own: **block softmax**, notebook
#    [02](02_block_softmax.ipynb).
# 3. A GRU, the **decoder**, predicts a path. The path is the explanation: notebook [03](03_decoder.ipynb).
# 4. No dataset has labels for the ears and the tail, and yet the decoder answers these questions. Notebook
#    [04](04_objectives.ipynb) shows how it is trained when no label says whether an open answer is right.
# 5. A coarse label is a node, too, so a second dataset can train the path to it: notebook
#    [05](05_joining.ipynb). Other models that learn from coarse labels are in notebook
#    [06](06_neighbours.ipynb). To join two datasets of your own, use notebook
#    [99](99_your_own_datasets.ipynb).
#
# Try this: set `steps` to 30 and look at the paths. Which question is learned first?
