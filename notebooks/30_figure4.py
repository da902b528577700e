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
# # 30 · Figure 4: images by the nodes of their paths
#
# *What you will learn:* what the model decided on its way to a label, for any image: which questions it asked, how
# probable each answer was, and which answer was second. *What it needs:* nothing for `toy`; the images in
# `$LABELAUG_DATA` for `cpu`. *How long:* half a minute on `toy`, two minutes on `cpu`.
#
# A plain classifier says *Bengal, 0.83*. A path says *cat, then Tabby-Color, then Bengal*, and each step has a
# probability. The paper's Figure 4 shows, for three augmented nodes, test images whose decoded path goes through them.
# Here a rule and a seed choose the images: **any node, any group, right and wrong predictions alike**.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu, paper
group = ""  # one group of the profile; default: all that have nodes below
nodes = {  # group -> the augmented nodes to show, a row each
    "critters": ["Tabby-Color", "Point-Color", "Solid-Color"],
    "pet": ["Tabby-Color", "Point-Color", "Solid-Color"],
    "flower": ["Yellow", "Purple", "White"],
}
dataset = "fusion"  # what the model is trained on
method = "label-aug"  # a path method: label-aug is Algorithm 1
n_images = 8  # a row, at most
seed = 0  # of the training and of the choice of images

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from companion.drawing import choose_for_figure_4, draw_graph, draw_steps, figure_4
from companion.explorer import explorer_page
from companion.interpret import explain_split
from companion.records import profiles
from companion.runs import load_task, pretrained, trained
from companion.tables.writing import write_figure
from companion.widgets import explorer
from labelaug_core.files.cache import write_files
from labelaug_core.explain import explain

profiles.check_parameters(globals(), "profile group nodes dataset method n_images seed".split())
groups = [g for g in profiles.load_profile(profile)["groups"] if g in nodes]
shown = [group] if group else groups
torch.set_num_threads(1)

# %% [markdown]
# ## Train one model a group
#
# One seed is trained as a cell of Table 3 is. Its weights are kept, so a second run reads them. Where the encoder is
# frozen, the model works on features; to draw the images we load them a second time, as they are.

# %%
models, tasks, images = {}, {}, {}
for g in shown:
    settings = profiles.cell_settings(profile, g, dataset, method)
    models[g], tasks[g] = trained(settings, seed)
    images[g] = load_task(settings | {"encoder": settings["encoder"] | {"tune": "all"}}).test.inputs
    print(f"{g}: trained on {len(tasks[g].train)} images, {len(tasks[g].test)} test images")

# %% [markdown]
# ## Decode every test image
#
# > **Deviation from the paper.** Its figure shows the paths that Algorithm 2 decodes. At each node Algorithm 2 asks
# > the question whose best answer is most probable. So it *rarely asks* a question about which the model is unsure.
# > The more questions a graph has, the less often it asks each of them. We therefore also **ask** the node's question
# > ourselves: we take the best path through this question to the label that Algorithm 2 predicts. Such a path has a
# > dashed frame. Both counts are beside each row.


# %%
def figure_rows(g: str) -> dict:
    """node -> (how many paths go through it, [(image, explanation, true label)])."""
    task, asked, rows = tasks[g], {}, {}
    for node in nodes[g]:
        question = task.graph.group[node]
        asked[question] = asked.get(question) or explain_split(models[g], task.test, question)
        found = [e for e in asked[question] if node in e.path]
        own = [e for e in found if e.greedy]
        kinds = [(sum(e.deterministic for e in es), sum(not e.deterministic for e in es)) for es in (own, found)]
        note = "Algorithm 2: {} blue, {} green\nasked: {} blue, {} green".format(*sum(kinds, ()))
        chosen = choose_for_figure_4(asked[question], node, n_images, seed)
        cells = [(images[g][np.array([i])][0], asked[question][i], task.labels[task.test.y[i]]) for i in chosen]
        rows[node] = (note, cells)
    return rows


# %% [markdown]
# ## Figure 4
#
# Blue: a deterministic path, for which the label alone determines the answer. Green: a nondeterministic path, for
# which the model had to decide from the *picture*. Half of the images are of each kind where there are enough. A red
# label is wrong. Below each image are the predicted label and the probability of the step to the row's node.

# %%
for g in shown:
    figure = figure_4(figure_rows(g), n_images)
    write_figure(figure, profile, "figure4" if groups == [g] else f"figure4_{g}")
    plt.show()

# %% [markdown]
# **How to read it.** Look along the green images of a row: is the node true of them? That is the question of Sec.
# 4.4. Notebook 31 answers it, for drawn animals by what was drawn, and for photographs by ratings. The probability
# below an image is that of the step alone. An asked path can have an improbable step if no more probable step leads
# to the predicted label.
#
# ## One decision, step by step
#
# We take three test images at random. The text shows each step: the question, the answer, its probability and the
# second most probable answer. Below are the probability of the label over *all* its paths and the most probable other
# path to it.

# %%
g = shown[0]
task, model = tasks[g], models[g]
some = np.random.default_rng(seed).choice(len(task.test), 3, replace=False)
explanations = explain_split(model, task.test.take(some))
for i, e in zip(some, explanations, strict=True):
    print(f"{task.test.ids[i]}, in truth {task.labels[task.test.y[i]]}")
    print(e, "\n")

# %% [markdown]
# The same as bars. To the right is the answer that was taken. To the left, in grey, is the second most probable
# answer.

# %%
figure, axes = plt.subplots(3, 2, figsize=(8, 5.4), width_ratios=[1, 3])
for (left, right), i, e in zip(axes, some, explanations, strict=True):
    left.imshow(images[g][np.array([i])][0])
    left.set_title(e.path[-1], fontsize=9, parse_math=False)
    left.axis("off")
    draw_steps(right, e.steps)
figure.tight_layout()

# %% [markdown]
# The first of them on the label graph: its path is red. The other edges lead to the same label.

# %%
_ = draw_graph(task.graph, labels=[explanations[0].path[-1]], path=explanations[0].path)

# %% [markdown]
# ## The explorer
#
# The explorer shows the same for every node, on one interactive page: `figures/<profile>/explorer*.html`. It needs no
# server and no network. Choose a test image to see the probabilities on the label graph, step by step. Click a node
# to see the images whose path goes through it. `make book` puts the page into the book.

# %%
for g in shown:
    title = f"{g}: {method}, trained on {dataset}, seed {seed}"
    page = explorer_page(models[g], tasks[g].test, images[g], title, seed=seed)
    name = "explorer" if groups == [g] else f"explorer_{g}"
    write_files({profiles.OUT / "figures" / profile / f"{name}.html": page.encode()})

# %% [markdown]
# ## Ask it yourself
#
# Pick a test image, or upload one of yours. This needs a running notebook (`make lab`).

# %%
encoder = profiles.cell_settings(profile, g, dataset, method)["encoder"]
encode = pretrained(encoder) if encoder.get("tune") == "frozen" else torch.nn.Identity()


@torch.no_grad()
def explain_one(image):
    """uint8 [1, S, S, 3] -> its Explanation."""
    return explain(model, encode(torch.from_numpy(image.copy())).to(next(model.parameters()).device))[0]


pick = np.random.default_rng(seed).choice(len(task.test), min(40, len(task.test)), replace=False)
explorer(images[g][pick], [f"{task.test.ids[i]}: {task.labels[task.test.y[i]]}" for i in pick], explain_one)

# %% [markdown]
# **What it does not show.** A path shows which answers the model gave. It does not show which pixels caused them. A
# path with a wrong answer can also end at the right label: notebook 31 counts how often.
