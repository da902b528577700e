# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · The neighbours: other ways to learn from coarse labels
#
# **What you will learn.** Seven models can learn from labels of several granularities: label-aug, a flat
# softmax with sums, Pseudo Labels, Label Set, WordTree, HEX, and the noisy-or for several labels. Each
# is written here in a few lines, on the little graph, with numbers that you can check by hand. For each
# one you will see the likelihood of the same coarse label, and which scores it trains.
#
# **What it needs.** Label graphs ([01](01_label_graphs.ipynb)), the path distribution
# ([02](02_block_softmax.ipynb)) and what a coarse label teaches ([05](05_joining.ipynb)). No data and no
# GPU.
#
# **How long it takes.** A few seconds to run, about half an hour to read.

# %% tags=["parameters"]
tabby_share = 0.25  # float: which share of the British Shorthairs of section 4 is tabby

# %%
from itertools import product
from math import prod

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml

from companion.heads.baselines import FFNHead, LabelSetHead, pseudo_label
from companion.heads.neighbours import FlatMarginalHead, HexHead, HierarchicalSoftmaxHead
from companion.heads.several_labels import FlatHead
from companion.records import profiles
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.data import Split, Task
from labelaug_core.graph_file import graph_from_dict
from labelaug_core.prefix_tree import PrefixTree

profiles.check_parameters(globals(), ["tabby_share"])
torch.set_default_dtype(torch.float64)  # double precision: the numbers below come out alike on every machine

# %% [markdown]
# We use the little graph with two coarse datasets. The labels of the first are species, those of the second are
# coat patterns. Our example is a picture of the second dataset. Its label is *Tabby-Color*. The true breed of
# such a cat is British Shorthair or Egyptian Mau.
#
# We ask two questions about each model. What is the **likelihood** of the label, that is, which probability
# does training raise? What does the label **train**, that is, which scores rise and which fall? Section 8 puts
# the answers to the second question into one picture.

# %%
text = """
name: cats
root: animal
groups:
  species: {below: animal, nodes: [cat, dog]}
  hair: {below: cat, nodes: [Shorthair, Longhair]}
  color: {below: cat, nodes: [Solid-Color, Tabby-Color, Point-Color]}
  breed:
    columns: [hair, color]
    nodes:
      British Shorthair: [Shorthair, [Solid-Color, Tabby-Color, Point-Color]]
      Egyptian Mau: [Shorthair, Tabby-Color]
      Birman: [Longhair, Point-Color]
labels:
  breeds: {groups: [breed]}
  species: {nodes: [cat, dog]}
  coats: {groups: [color]}
"""
graph = graph_from_dict(yaml.safe_load(text), "cats.yaml")
labels = graph.label_nodes("breeds", "species", "coats")  # three evaluated labels, then five coarse ones
breeds, tabby = labels[:3], torch.tensor([labels.index("Tabby-Color")])

# %% [markdown]
# As in notebooks 02 and 04 each node has one score, with a small whole number as $e^z$. Every head of
# the companion is a linear layer on features. We set its weights to zero and its biases to these scores,
# so each head must give the numbers that we compute by hand.

# %%
weight = dict.fromkeys(graph.nodes, 1.0) | {"cat": 4.0, "Shorthair": 3.0, "Tabby-Color": 2.0, "British Shorthair": 2.0}
x = torch.zeros(1, 4)  # the features of one picture: they have no influence here   [B, d]


def with_scores(head, nodes):
    """The head, with the score of each node as the bias of its output."""
    torch.nn.init.zeros_(head.score.weight)
    head.score.bias.data = torch.tensor([weight[v] for v in nodes]).log()
    return head

# %% [markdown]
# ## 1 For comparison: label-aug
#
# A coarse label is a node, and its probability is that of reaching it. By hand: $p(cat) = \frac45$; the
# question for the coat is one of two, $\frac12$; the answer *Tabby-Color* has $\frac24$. Together
# $\frac45 \cdot \frac12 \cdot \frac24 = 0.2$. (The factor of the question is a constant without gradient.
# Eq. 2 leaves it out: $-\log(\frac45 \cdot \frac24) = 0.9163$.)

# %% tags=["nbval-check-output"]
tree = PrefixTree(graph, labels, n_evaluated=3)
z_slot = torch.tensor([weight[prefix[-1]] for prefix in tree.prefixes]).log()
slot_logp = block_log_softmax(z_slot, tree.slot_block)[None]  # [1, E]
p_reached = tree.label_log_probs(slot_logp).exp()[0]  # [L]
path = tree.paths.index(("animal", "cat", "Tabby-Color"))
print("p(label):", {v: f"{p:.4f}" for v, p in zip(labels, p_reached, strict=True)})
print(f"loss of the coarse label, Eq. 2: {-tree.answer_log_probs(slot_logp)[0, path]:.4f}")
assert torch.allclose(p_reached[tabby], torch.tensor(0.2))

# %% [markdown]
# ## 2 A flat softmax that sums
#
# The simplest model: one softmax over the breeds. Of the graph it needs one fact only: which breeds a coarse
# label allows. The likelihood of a coarse label is the sum over them:
#
# $$p(\text{Tabby-Color}) = \sum_{y \text{ below Tabby-Color}} p(y) .$$

# %% tags=["nbval-check-output"]
p_breed = {v: weight[v] / sum(weight[w] for w in breeds) for v in breeds}
below = {v: [y for y in breeds if v in graph.ancestors(y)] for v in labels[3:]}
for v in ("cat", "Solid-Color", "Tabby-Color", "Point-Color"):
    print(f"p({v:<11}) = {' + '.join(f'{p_breed[y]:.2f}' for y in below[v]):<18} = {sum(p_breed[y] for y in below[v]):.4f}")
flat = with_scores(FlatMarginalHead(graph, labels, 3, 4), breeds)
loss = flat.loss(x, tabby, is_coarse=True)
print(f"loss of the coarse label: {loss:.4f}")
assert torch.isclose(loss, -torch.tensor(0.75).log())

# %% [markdown]
# The sums of the three coats are 0.50, 0.75 and 0.75, together 2. They are no distribution over coats: the
# whole probability of the British Shorthair counts for each coat, although one cat has one coat. The label
# *Tabby-Color* excludes the Birman. This model can learn nothing else from it. The label *cat* allows every
# breed, so its likelihood is 1 and it has no gradient.
#
# Where each fine label lies below one coarse label, as with superclasses, the sums are a distribution.
# Our experiments compare this model with label-aug (notebook 42).
#
# ## 3 Pseudo Labels
#
# The paper's second baseline (Sec. 4.1) trains an FFN on the fine data, lets it guess the breed of each
# coarse picture, drops a guess that contradicts the coarse label, and trains on the rest as if they were
# fine. The filter, for four coarse pictures and the FFN's probabilities:

# %% tags=["nbval-check-output"]
guesses = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])  # p(breed)   [4, 3]
coarse_y = np.array([labels.index(v) for v in ("Tabby-Color", "Tabby-Color", "cat", "dog")])
for p, k in zip(guesses, coarse_y, strict=True):
    guess = breeds[int(p.argmax())]
    print(f"label {labels[k]:<12} guess {guess:<18}", "kept" if guess in below[labels[k]] else "dropped: not below the label")
some = Split(np.zeros((4, 4)), coarse_y, list("abcd"))
kept = pseudo_label(Task(graph, labels, 3, some, some, coarse=some), guesses.log().numpy()).coarse
assert kept.ids == ["a", "c"] and kept.y.tolist() == [0, 2]

# %% [markdown]
# A kept guess has the ordinary loss $-\log p(\text{guess})$. For our scores the guess for the tabby cat is
# British Shorthair, with $p = \frac12$. Compare what the guess and the sum of section 2 teach: the gradient
# of the log-likelihood for the scores of the three breeds.

# %% tags=["nbval-check-output"]
def trained(head, y, is_coarse):
    """minus the gradient of the loss for each score: what one step raises and lowers."""
    head.zero_grad()
    head.loss(x, y, is_coarse).backward()
    return -head.score.bias.grad + 0.0


ffn = with_scores(FFNHead(graph, labels, 3, 4), breeds)
for name, g in (("flat, summed", trained(flat, tabby, True)), ("pseudo label", trained(ffn, torch.tensor([0]), False))):
    print(f"{name:<13}", "  ".join(f"{v} {value:+.4f}" for v, value in zip(breeds, g, strict=True)))

# %% [markdown]
# The sum raises both breeds that the label allows, in proportion to their probability. The guess raises the
# British Shorthair and lowers the Mau, although the picture may show a Mau: the model is trained on **its own
# guess**. If the guess is right, the model becomes more confident. If it is wrong, the coarse label does not
# correct it, unless it contradicts the guess.
#
# > **Deviation from the paper.** The paper makes one dataset of the fine samples and the guesses. We take the
# > guesses as a second batch in each step, so this baseline sees as many pictures as joining does.
#
# ## 4 Label Set
#
# The paper's third baseline flattens a path into a **set** and trains a sigmoid for each node: present or
# absent. For *Tabby-Color* the set is {animal, cat, Tabby-Color}. What is below the label is unknown and
# has no loss. All other nodes are absent.

# %% tags=["nbval-check-output"]
def set_loss(label):
    """Binary cross-entropy of each node, for a coarse label: present, absent, or unknown."""
    present, total = {label, *graph.ancestors(label)}, 0.0
    for v in graph.nodes:
        p = weight[v] / (1 + weight[v])  # the sigmoid of log(weight)
        if v in graph.descendants(label):
            state = "unknown"
        else:
            state = "present" if v in present else "absent"
            total -= np.log(p if state == "present" else 1 - p)
        print(f"{v:<18} p = {p:.4f}  {state}")
    return total


by_hand = set_loss("Tabby-Color")
label_set = with_scores(LabelSetHead(graph, labels, 3, 4), graph.nodes)
print(f"loss of the coarse label: {by_hand:.4f}, by the companion's head {label_set.loss(x, tabby, True):.4f}")
assert np.isclose(by_hand, label_set.loss(x, tabby, True).item())

# %% [markdown]
# Look at *Shorthair* and *Longhair*: both are trained to be **absent**, although each tabby cat has short or
# long hair. A set has no questions, so it cannot say that this question is only open.
#
# The same happens with nondeterministic paths. The set of a British Shorthair holds *all three* coats,
# whatever the picture shows. (The option `ignore` leaves these coats out of the loss; the paper's way is `positive`.)
# We compute which probability the sigmoids learn, if a quarter of the British
# Shorthairs is tabby and the features cannot tell: the mean of the targets minimises the loss.

# %% tags=["nbval-check-output"]
rest = 1 - tabby_share
truth = {"Solid-Color": rest * 2 / 3, "Tabby-Color": tabby_share, "Point-Color": rest / 3}  # shares of the breed
target = label_set.target[0, [graph.index[v] for v in truth]]  # what each British Shorthair teaches
ignore = LabelSetHead(graph, labels, 3, 4, uncertain="ignore").weight[0, [graph.index[v] for v in truth]]
for v, present, loss_weight in zip(truth, target, ignore, strict=True):
    print(f"{v:<12} true share {truth[v]:.4f}, learned by `positive` {present:.4f}, weight of the loss in `ignore` {loss_weight:.4f}")

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.7), layout="constrained")
places = np.arange(3)
ax.bar(places - 0.2, list(truth.values()), 0.38, color="#6f8fb5", label="true share")
ax.bar(places + 0.2, target, 0.38, color="#c8242f", label="learned by Label Set (all marked as present)")
ax.set_xticks(places, list(truth))
ax.set(ylabel="p(coat), British Shorthair", ylim=(0, 1.25))
ax.legend(frameon=False, ncols=2, fontsize=8, loc="upper center")
plt.show()

# %% [markdown]
# **How to read it.** Blue: how often a British Shorthair has each coat. Red: what the sigmoids learn. They
# sum to 3, because the loss says that each British Shorthair has all three coats at once. After this, the
# score of *Tabby-Color* no longer means "tabby"; it means "British Shorthair or Mau".
#
# > **Deviation from the paper.** It flattens "all the labels on a ground-truth path" and does not say which
# > path, where a label has several. We take the nodes of all of them (`positive`). The option `ignore`
# > leaves the contested nodes out of the loss; our tables have both.
#
# ## 5 WordTree
#
# YOLO9000 (Redmon and Farhadi, 2017) trained a detector on labels of two granularities, with a softmax at each
# node of a **tree** and products along the way down. In a tree each node has one parent, so the breeds cannot
# lie below coats *and* hair. We drop the attributes.

# %% tags=["nbval-check-output"]
changed = yaml.safe_load(text)
del changed["labels"]["coats"]
two_levels = graph_from_dict(changed, "cats.yaml")
word_tree = two_levels.without(*two_levels.augmented)
for path in (word_tree.paths(v)[0] for v in ("cat", "dog", *breeds)):
    p = prod(weight[u] / sum(weight[w] for w in word_tree.children(parent)) for parent, u in zip(path, path[1:], strict=False))
    print(f"{p:.4f}  {' ∘ '.join(path)}")

# %% [markdown]
# By hand: *cat* has $\frac45$ and the British Shorthair has $\frac45 \cdot \frac24 = 0.4$ in all. The
# likelihood of the coarse label *cat* is 0.8. **Our coarse label *Tabby-Color* has no node**, so a WordTree
# cannot use this picture at all. This is the difference that nodes for attributes make.
#
# On such a tree label-aug and WordTree are the same model. In our tables it is label-aug on the graph without
# attributes. The package `hierarchicalsoftmax` is a second implementation; all three agree.

# %% tags=["nbval-check-output"]
small = PrefixTree(word_tree, [*breeds, "cat", "dog"], n_evaluated=3)
z = torch.tensor([weight[prefix[-1]] for prefix in small.prefixes]).log()
ours = small.label_log_probs(block_log_softmax(z, small.slot_block)[None])[0].exp()
package = HierarchicalSoftmaxHead(two_levels, [*breeds, "cat", "dog"], 3, 4)
torch.nn.init.zeros_(package.score.weight)
for node in package.root.descendants:
    package.score.bias.data[node.index_in_softmax_layer] = np.log(weight[node.name])
loss = package.loss(x, torch.tensor([3]), is_coarse=True)
print(f"p(cat): label-aug {ours[3]:.4f}, hierarchicalsoftmax {(-loss).exp():.4f}")
p_package = package.predictions(x)["log_probs"][0].exp()  # given that it is one of the breeds
assert torch.allclose(ours[:3] / ours[:3].sum(), p_package) and torch.isclose((-loss).exp(), ours[3])

# %% [markdown]
# > **Deviation from the paper.** The paper does not cite WordTree, and says that joining in the label space
# > is "an untouched research challenge". WordTree joins COCO and ImageNet in the label space. It is a row
# > of our Table 3.
#
# ## 6 HEX: legal states
#
# Deng et al. (2014) give each node one score and consider **states**: which nodes are on. A state is legal
# if it breaks no rule of the graph. Its probability is a softmax over legal states,
#
# $$p(\text{state}) \propto \prod_{v \text{ on}} e^{z_v} .$$
#
# A legal state on our graph is a breed, everything that is surely above it, and *one* answer to each
# question that it leaves open. So the British Shorthair has three states, one for each coat.
#
# > **Deviation from the article.** Deng et al. also count states without a breed, such as *cat* alone. Our test
# > asks for a breed, so each of our states has one. Hence *dog*, which lies above no breed, has no state.

# %% tags=["nbval-check-output"]
states = []
for breed in breeds:
    answers = {}  # the possible answers to each question, given the breed
    for v in [breed, *(v for v in graph.nodes[1:] if v in graph.ancestors(breed))]:
        answers.setdefault(graph.group[v], []).append(v)
    states += [(breed, on, prod(weight[v] for v in on)) for on in product(*answers.values())]
total = sum(w for _, _, w in states)
for _, on, w in states:
    print(f"{w:>4.0f} / {total:.0f} = {w / total:.4f}  {', '.join(on)}")

# %% [markdown]
# By hand for the first state: $2 \cdot 4 \cdot 3 \cdot 1 = 24$. All probabilities are now sums over states.
# The likelihood of *Tabby-Color* is that of the states in which it is **on**.

# %% tags=["nbval-check-output"]
p_state = {v: sum(w for _, on, w in states if v in on) / total for v in labels}
print("p(label):", {v: f"{p:.4f}" for v, p in p_state.items()})
hex_head = with_scores(HexHead(graph, labels, 3, 4), graph.nodes)
loss = hex_head.loss(x, tabby, is_coarse=True)
print(f"loss of the coarse label: {loss:.4f} = -log {p_state['Tabby-Color']:.4f}")
assert np.isclose(loss.item(), -np.log(p_state["Tabby-Color"]))
assert np.allclose(hex_head.predictions(x)["log_probs"][0].exp().tolist(), [p_state[v] for v in breeds])

# %% [markdown]
# Compare with section 2: here only a **part** of the British Shorthair counts for *Tabby-Color*, its tabby
# state, so the three coats sum to 1. HEX has no path and no order of questions. One picture trains the answers
# to all questions at once. All breeds share the scores of the answers.

# %%
fig, ax = plt.subplots(figsize=(7.5, 2.4), layout="constrained")
names = [", ".join(on) for _, on, _ in states]
colors = ["#c8242f" if "Tabby-Color" in on else "#c9c9c4" for _, on, _ in states]
ax.barh(names, [w / total for _, _, w in states], color=colors)
ax.invert_yaxis()
ax.set(xlabel="p(state)", title="HEX: in the red states Tabby-Color is on")
ax.tick_params(axis="y", labelsize=8)
plt.show()

# %% [markdown]
# **How to read it.** Each bar is a legal state. The two red bars together are the likelihood of the coarse
# label *Tabby-Color*. Training on the label moves probability from the grey bars to the red ones.
#
# > **Deviation from the paper.** Section 2.4 says that this line of work "cannot deal with nondeterministic
# > paths". With one open question for each uncertain attribute it can, as above. It is a row beside our
# > tables (notebook 42).
#
# ## 7 Several labels: the noisy-or
#
# A paper on arXiv can be in several categories, so each category is a yes or no, a sigmoid. A coarse paper
# has its *archives* alone. The archive *cs* is present if **some** category below it is; if the categories
# are independent given the text,
#
# $$p(\text{cs}) = 1 - \prod_{c \text{ below cs}} (1 - p_c) .$$

# %% tags=["nbval-check-output"]
papers = graph_from_dict(yaml.safe_load("""
root: paper
groups:
  archive: {below: paper, exclusive: false, nodes: [cs, stat]}
  category: {exclusive: false, nodes: {cs.CV: [cs], cs.LG: [cs], stat.ML: [stat]}}
labels:
  categories: {groups: [category]}
  archives: {nodes: [cs, stat]}
"""), "papers.yaml")
p = {"cs.CV": 0.5, "cs.LG": 0.25, "stat.ML": 0.2}
p_cs, p_stat = 1 - (1 - p["cs.CV"]) * (1 - p["cs.LG"]), p["stat.ML"]
print(f"p(cs) = 1 - 0.50 x 0.75 = {p_cs:.4f}, p(stat) = {p_stat:.4f}")
print(f"loss of a paper of cs alone: -log {p_cs:.4f} - log {1 - p_stat:.4f} = {-np.log(p_cs) - np.log(1 - p_stat):.4f}")

# %%
several = FlatHead(papers, papers.label_nodes("categories", "archives"), 3, 4)
torch.nn.init.zeros_(several.score.weight)
several.score.bias.data = torch.logit(torch.tensor(list(p.values())))
several.below = several.below.double()
yes = torch.tensor([[False, False, False, True, False]])  # of the five labels the paper has the archive cs
assert np.isclose(several.loss(x, yes, is_coarse=True).item(), -np.log(p_cs) - np.log(1 - p_stat))

# %% [markdown]
# The noisy-or is for yes-no labels what the sum of section 2 is for a softmax: it says that at least one
# category is present. It does not say which one. The absent archive *stat* says more: **none** of its
# categories is present.
#
# ## 8 One coarse label, five models
#
# What does one picture with the label *Tabby-Color* train? For each model we take minus the gradient of its
# loss for the score of each node: red scores fall, blue scores rise.

# %%
leaf_z = torch.tensor([weight[v] for v in graph.nodes]).log().requires_grad_()
slot_of = torch.tensor([graph.index[prefix[-1]] for prefix in tree.prefixes])
logp = tree.label_log_probs(block_log_softmax(leaf_z[slot_of], tree.slot_block)[None])[0, tabby]
rows = {"label-aug": torch.autograd.grad(logp.sum(), leaf_z)[0]}
for name, g in (("flat, summed", trained(flat, tabby, True)), ("Pseudo Labels", trained(ffn, torch.tensor([0]), False))):
    rows[name] = torch.zeros(len(graph.nodes)).index_put((torch.tensor([graph.index[v] for v in breeds]),), g)
rows["Label Set"] = trained(label_set, tabby, True)
rows["HEX"] = trained(hex_head, tabby, True)

# %% tags=["nbval-check-output"]
print(f"{'':<18}" + "".join(f"{name:>15}" for name in rows))
for i, v in enumerate(graph.nodes[1:], start=1):
    print(f"{v:<18}" + "".join(f"{g[i] + 0.0:>15.4f}" for g in rows.values()))

# %%
fig, ax = plt.subplots(figsize=(8.5, 3.0), layout="constrained")
image = ax.imshow(torch.stack([g[1:] for g in rows.values()]), cmap="RdBu", vmin=-0.8, vmax=0.8, aspect="auto")
ax.set_yticks(range(len(rows)), list(rows))
ax.set_xticks(range(len(graph.nodes) - 1), graph.nodes[1:], rotation=35, ha="right")
fig.colorbar(image, label="minus the gradient")
ax.set_title("What one picture labelled Tabby-Color trains")
plt.show()

# %% [markdown]
# **How to read it.** Each row is a model, each column the score of a node. *label-aug* trains the species and
# the coat, and nothing else: its path. The two *flat* models have no score for a coat; they train breeds only.
# *Label Set* trains nearly every node and lowers both kinds of hair. *HEX* trains the coat, and through the
# states the hair and the breeds as well. It even lowers the British Shorthair, which has two states without
# *Tabby-Color*, and raises the Mau, which is always tabby. (WordTree has no row: it has no node for the label.)
#
# Which of them is best is a question for experiments: notebook 22 has the paper's baselines, notebook 42 has
# the others.
#
# ## What to take away
#
# | model | a coarse label is | uses augmented nodes | several coats of one breed |
# |---|---|---|---|
# | label-aug | reached by a path | yes | one path each |
# | flat, summed | a sum over breeds | no | the breed counts in full for each |
# | Pseudo Labels | a filter for guesses | no | not used |
# | Label Set | a set of nodes | yes | all present at once |
# | WordTree | a node of a tree | no, or those of one question | not possible |
# | HEX | a set of legal states | yes | one state each |
# | noisy-or | at least one category | no | (for several labels) |
#
# 1. A coarse label can be a sum, a guess, a set, a node, or a set of states. These are different likelihoods.
# 2. A sum excludes what the label forbids. It cannot say which of the allowed labels is right.
# 3. A set without questions marks open nodes as present or absent, and both are wrong.
# 4. Only models with nodes for attributes can learn from the label *Tabby-Color* what tabby is.
#
# ## Exercises
#
# **1.** What is the likelihood of *cat* in label-aug, in the flat softmax and in HEX, for our scores? Which of
# them learn something from a picture of a *cat*? Answer first.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
cat = torch.tensor([labels.index("cat")])
print(f"label-aug {p_reached[labels.index('cat')]:.4f}, flat {sum(p_breed[y] for y in below['cat']):.4f}, HEX {p_state['cat']:.4f}")
for name, head in (("flat", flat), ("HEX", hex_head)):
    print(f"{name:<5} length of the gradient {trained(head, cat, True).norm():.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# The flat softmax and HEX know only breeds of cats, so $p(cat) = 1$, the loss is 0, and they learn nothing. In
# label-aug *dog* competes with *cat*, so it learns the first step. (This is no advantage by itself: the test
# never asks *cat or dog*, and the effect on breeds goes through the shared weights only.)
#
# </details>
#
# **2.** In HEX, add 1 to the score of every coat. What changes? And in a flat softmax, what happens if you add
# 1 to the score of every breed?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
before = hex_head.predictions(x)["log_probs"][0].detach()
hex_head.score.bias.data[[graph.index[v] for v in truth]] += 1.0
after = hex_head.predictions(x)["log_probs"][0].detach()
hex_head.score.bias.data[[graph.index[v] for v in truth]] -= 1.0
print("HEX unchanged:", torch.allclose(before, after), "  p:", [f"{p:.4f}" for p in after.exp()])

# %% [markdown]
# <details><summary>Why</summary>
#
# Each legal state has exactly one coat on, so all states get the same factor $e$, which cancels. The same holds
# for the breeds of a flat softmax. But raise *one* coat, and in HEX the breeds change as well: a breed with
# three coats has three states, and so more weight than a breed with one. HEX counts states.
#
# </details>
#
# **3.** In the flat softmax the likelihood of a coarse label is the sum of $p(y)$ over the breeds below it. For
# which coarse labels is that true in HEX, too?
#
# <details><summary>Solution</summary>
#
# For those that each breed below has in *all* its states, such as *Shorthair* or *cat*. It is not true for a
# label that a breed has only in some of its states, such as *Tabby-Color*: there HEX counts these states alone.
#
# </details>
#
# **4.** The noisy-or assumes that categories are independent given the text. Two categories that nearly always
# come together have $p = 0.5$ each. What does the noisy-or say about the archive, and what would be right?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
print(f"noisy-or {1 - 0.5 * 0.5:.4f}, right (always together) {0.5:.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# If the two are present together or not at all, the archive is present as often as each of them: 0.5. The
# noisy-or counts them as two independent chances. So a coarse paper trains correlated categories less than it
# should if the archive is present, and more than it should if it is absent.
#
# </details>
