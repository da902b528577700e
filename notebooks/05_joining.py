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
# # 05 · Joining: Algorithm 1 on two datasets, step by step
#
# **What you will learn.** How two datasets become one list of labels and one training step. What a coarse label
# teaches: its path, and nothing below. What the coarse weight does. Why the classifier that you compare with
# must see as many pictures. When joining can help.
#
# **What it needs.** Label graphs ([01](01_label_graphs.ipynb)), the path distribution
# ([02](02_block_softmax.ipynb)) and Algorithm 1 ([04](04_objectives.ipynb)). It needs no data and no
# GPU: the "pictures" are vectors of twelve numbers that we draw here.
#
# **How long it takes.** Less than a minute to run, about half an hour to read.

# %% tags=["parameters"]
seed = 0  # int: of the first example
seeds = 6  # int: how many times each small training is repeated
steps = 40  # int: training steps of section 6

# %%
import inspect
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml

from companion.heads.baselines import FFNHead
from companion.records import profiles
from labelaug_core import losses
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.data import class_indices, joint_labels
from labelaug_core.graph_file import graph_from_dict
from labelaug_core.label_aug import PathHead, PathSettings
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier, TrainingSettings

profiles.check_parameters(globals(), ["seed", "seeds", "steps"])
torch.set_default_dtype(torch.float64)  # double precision: the numbers below come out alike on every machine
_ = torch.manual_seed(seed)

# %% [markdown]
# We need five words (the [glossary](glossary.md) has more). The **fine** dataset has the labels that a test
# asks for. The **coarse** dataset has labels that say less. The two together are the **fusion**, in the paper's
# word. An **arm** is one way of training that we compare with others. The **control** here is the arm that
# sees as many pictures in a step as the join, all of them fine. (In section 5 it is FFN, in section 6 label-aug.)
#
# Here is the little graph again, now with three coarse datasets to choose from. Their labels are the species,
# the hair and the coat pattern. The hair and the coats were augmented nodes in notebook 01. A node becomes a
# label as soon as some dataset has it as a class. Nothing else in the graph changes.

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
  hairs: {groups: [hair]}
  coats: {groups: [color]}
"""
graph = graph_from_dict(yaml.safe_load(text), "cats.yaml")

# %% [markdown]
# ## 1 Two datasets, one list of labels
#
# The **fine** dataset has breeds, and a test asks for breeds. The **coarse** dataset has species. The
# joint list of labels has the fine labels first, then the labels that only the coarse dataset has. A
# class is an index into this list, in both datasets.

# %% tags=["nbval-check-output"]
labels, n_fine = joint_labels(graph, "breeds", "species")
for k, v in enumerate(labels):
    print(k, f"{v:<18}", "evaluated" if k < n_fine else "coarse")
y = torch.from_numpy(class_indices(graph, "breeds", labels, ["British Shorthair", "Egyptian Mau", "Birman", "Birman"]))
y_coarse = torch.from_numpy(class_indices(graph, "species", labels, ["cat", "dog", "cat", "cat"]))
print("y =", y.tolist(), "  y_coarse =", y_coarse.tolist())

# %% [markdown]
# One head scores the paths to all of them. It has two trees: `fine_tree` holds the paths to the
# evaluated labels, and `tree` those to all labels.

# %% tags=["nbval-check-output"]
head = PathHead(graph, labels, n_fine, d=3, settings=PathSettings(hidden=6))
x, x_coarse = torch.randn(4, 3), torch.randn(4, 3)  # the features of four fine and four coarse pictures   [B, d]
for name in ("fine_tree", "tree"):
    t = getattr(head, name)
    total = t.path_log_probs(head.decoder.slot_log_probs(x, t)).exp()[0, t.complete].sum()
    print(f"{name:<10} {len(t.paths):>2} paths, {int(t.complete.sum())} complete, which sum to {total:.4f}")

# %% [markdown]
# ## 2 One training step
#
# Each step takes a batch of the fine dataset and a batch of the coarse one:
#
# $$L = L(\text{fine batch}) + w \cdot L(\text{coarse batch}),$$
#
# with $w$ the coarse weight. The loss of each batch is that of Algorithm 1, a mean over the batch. The
# fine batch is scored on `fine_tree`, as in evaluation. The coarse batch is scored on `tree`. This is
# the whole of it in the core:

# %%
print(textwrap.dedent(inspect.getsource(Classifier.forward)))

# %% [markdown]
# > **Deviation from the paper.** The paper does not say how the two datasets are mixed. Algorithm 1 has one
# > batch of "images" and "paths". We take a batch of each dataset in each step, so a step has the same number
# > of fine pictures with and without joining, however large the coarse dataset is. The paper has no coarse
# > weight; ours is 1 by default.
#
# Check it: a classifier without an encoder of its own and without dropout gives the sum of the two
# losses. (Both draw the same random numbers, because part 2 of Algorithm 1 samples paths. `eval()`
# keeps the running baseline as it is.)

# %% tags=["nbval-check-output"]
settings, encoder = TrainingSettings(coarse_weight=0.5, trunk=8, dropout=0.0), torch.nn.Identity()
encoder.dim = 3  # the size of its features
model = Classifier(encoder, lambda width: PathHead(graph, labels, n_fine, width, PathSettings(hidden=6)), settings).eval()
torch.manual_seed(seed)
whole = model(x, y, x_coarse, y_coarse)
torch.manual_seed(seed)
L_fine = model.head.loss(model.features(x), y)
L_coarse = model.head.loss(model.features(x_coarse), y_coarse, is_coarse=True)
assert torch.allclose(whole, L_fine + 0.5 * L_coarse)
print(f"L = {L_fine:.4f} + 0.5 x {L_coarse:.4f} = {whole:.4f}")

# %% [markdown]
# What is inside the two losses? The fine batch has both parts of Algorithm 1: teacher forcing on the
# deterministic paths of each breed, and a sampled path for each British Shorthair, whose coat its label
# leaves open. The coarse batch here has the first part alone, since the only path to *cat* is
# deterministic. So this batch samples nothing. (A coarse label can have several paths, too, some of them
# nondeterministic. Then it has a second part like a fine label.)
#
# ## 3 What a coarse label teaches: its path only
#
# The path *animal ∘ cat* is deterministic, so a coarse picture has part 1 of Algorithm 1 alone: teacher
# forcing, $-\log p(cat \mid animal)$. We compute it with the plain decoder of notebook 03:

# %% tags=["nbval-check-output"]
f_coarse = model.features(x_coarse)
plain = [-model.head.decoder.steps_of_path(f_coarse[i : i + 1], model.head.tree, ("animal", labels[k])).sum() for i, k in enumerate(y_coarse)]
print("L of each coarse picture:", " ".join(f"{value:.4f}" for value in plain), f"  mean {sum(plain) / 4:.4f}")
assert torch.allclose(sum(plain) / 4, L_coarse)

# %% [markdown]
# This equals $-\log$ of the summed probability of **all complete paths through** *cat*: "it is some
# cat". So nothing below *cat* gets a gradient. We look at the gradient of $\log p(\text{label})$ for
# the score of each answer, on a tree with all labels: for two coarse labels, and for a fine label. (The Mau has
# two paths. Here $p$ is their sum. Algorithm 1 takes the mean of their $\log p$, which trains the same answers
# with other weights.)

# %%
everything = graph.label_nodes()  # breeds, species, hairs, coats
big = PrefixTree(graph, everything, n_evaluated=3)


def gradient(label):
    """d log p(label) / d score of each slot, all scores being 0. -> [E]"""
    z = torch.zeros(len(big.slot_node), requires_grad=True)
    label_logp = big.label_log_probs(block_log_softmax(z, big.slot_block)[None])
    losses.marginal_likelihood(label_logp, torch.tensor([everything.index(label)])).backward()
    return -z.grad + 0.0

# %% tags=["nbval-check-output"]
shown = ("cat", "Tabby-Color", "Egyptian Mau")
rows = torch.stack([gradient(label) for label in shown])  # [3, E]
print(f"{'answer':<48}" + "".join(f"{label:>14}" for label in shown))
for e, prefix in enumerate(big.prefixes):
    print(f"{' ∘ '.join(prefix):<48}" + "".join(f"{value:>14.4f}" for value in rows[:, e]))

# %% [markdown]
# By hand: *cat* has $p = \frac12$ against *dog*, so its gradient is $1 - \frac12$. The label *Tabby-Color*
# teaches two steps, the species and the coat, with $1 - \frac13$ for the coat. It teaches nothing about the
# hair and nothing about the breed below it. We assert it for each coarse label: only the answers on its path,
# and the answers that compete with them, get a gradient.

# %%
for label in everything[3:]:
    path = graph.paths(label)[0]
    asked = {(v, graph.group[u]) for v, u in zip(path, path[1:], strict=False)}  # the questions on the way
    for prefix, value in zip(big.prefixes, gradient(label), strict=True):
        assert (abs(value) > 1e-9) == ((prefix[-2], graph.group[prefix[-1]]) in asked)

# %%
fig, ax = plt.subplots(figsize=(9, 2.9), layout="constrained")
image = ax.imshow(rows, cmap="RdBu", vmin=-0.7, vmax=0.7, aspect="auto")
ax.set_yticks(range(len(shown)), [f"label {label}" for label in shown])
ax.set_xticks(range(len(big.prefixes)), [" ∘ ".join(prefix[-2:]) for prefix in big.prefixes], rotation=60, ha="right", fontsize=8)
fig.colorbar(image, label="gradient of log p(label)")
ax.set_title("A coarse label teaches its own path only")
plt.show()

# %% [markdown]
# **How to read it.** Each row is a label and each column an answer. A blue answer is made more
# probable, a red one less probable, and a white one is not touched. The first two rows are coarse
# labels: they are white in all columns below their own node. The last row is a fine label: it teaches
# the whole way down.
#
# > **Deviation from the paper.** The paper says that a path closes with $\langle eop \rangle$. If the
# > path of a coarse label closed there, the label would teach the decoder to *stop* at *cat*, although
# > each picture shows some breed. Our coarse labels are only reached.
#
# The scores below *cat* get no gradient, but the network **shares its weights**: encoder, first state
# and GRU are the same for all steps. So an update on coarse pictures changes the breeds' probabilities,
# too. We look at two probabilities of a fine picture, before and after one step of gradient descent on
# the three coarse pictures of cats.

# %%
def two_probabilities(model):
    """p(cat) on the joint tree and p(Birman) on the tree of the breeds, for the third fine picture."""
    f, h = model.features(x[2:3]), model.head
    p_joint = h.tree.label_log_probs(h.decoder.slot_log_probs(f, h.tree)).exp()[0]
    return p_joint[labels.index("cat")].item(), h.log_probs(f).exp()[0, 2].item()


# %% tags=["nbval-check-output"]
before = two_probabilities(model)
loss = model.head.loss(model.features(x_coarse[[0, 2, 3]]), y_coarse[[0, 2, 3]], is_coarse=True)  # three cats
weights = list(model.parameters())
with torch.no_grad():
    for weight, g in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        weight -= 0.1 * (0 if g is None else g)
for name, a, b in zip(("p(cat)", "p(Birman)"), before, two_probabilities(model), strict=True):
    print(f"{name:<10} {a:.4f} -> {b:.4f}")

# %% [markdown]
# *cat* becomes more probable. The probability of the Birman changes as well, but much less. The coarse labels
# do not determine in which direction it changes. This indirect effect comes from the shared features. It can
# help or harm.
#
# ## 4 The coarse weight
#
# The gradient of the step is linear in $w$: the fine gradient plus $w$ times the coarse one. And each
# loss is a *mean* over its batch. So $w$ weighs the two datasets, not their pictures: a coarse batch
# that is twice as large has the same weight, and less noise. We check both: the gradient for $w = 3$ is
# the sum, and a batch that has each coarse picture twice changes nothing.

# %%
def grad_of(w, repeat=1):
    """The gradient of one joint step, as one vector; repeat: each coarse picture so many times."""
    torch.manual_seed(seed)
    model.coarse_weight = w
    model(x, y, x_coarse.repeat(repeat, 1), y_coarse.repeat(repeat)).backward()
    out = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return out


# %% tags=["nbval-check-output"]
fine_part, joint = grad_of(0.0), grad_of(1.0)
coarse_part = joint - fine_part
assert torch.allclose(grad_of(3.0), fine_part + 3 * coarse_part) and torch.allclose(grad_of(1.0, repeat=2), joint)
print(f"length of the gradient: fine {fine_part.norm():.4f}, coarse {coarse_part.norm():.4f}")
print(f"cosine of the angle between them {torch.cosine_similarity(fine_part, coarse_part, 0):.4f}")

# %% [markdown]
# A cosine near 0 means that the two batches train different directions. A large negative one would
# mean that they disagree.
#
# How large should $w$ be? For $w = 0$ the coarse data are not used. For a very large $w$ the fine labels hardly
# count, although the test asks for them. Between these extremes, theory gives no best value. It depends on how
# much the coarse labels say, and on how well the features fit both datasets. So $w$ is chosen on validation
# data, like a learning rate, and the control gets as much tuning as the joined arm (notebook 12).
#
# ## 5 Same compute: the control must see as many pictures
#
# A joint step sees $B$ fine and $B_c$ coarse pictures. A plain classifier (**FFN**, a linear layer and a
# softmax) that is trained on $B$ fine pictures a step sees fewer. If joining is then better, we do not know
# why: because of the coarse labels, or because more pictures were seen? So we always train a second FFN, **same
# compute**, with $B + B_c$ fine pictures a step.
#
# Both arms take the same number of *steps*. One could also compare the same number of *epochs*, that is, passes
# over the data. That would be unfair in another way. The fusion is a larger dataset, so the same number of
# epochs would give it more steps.
#
# We show this with a "second dataset" that has no new information: a **copy of the fine dataset**. First, our
# drawn animals. Each picture is a sum of directions for its breed, coat and hair, and noise.

# %%
directions = torch.randn(7, 12, generator=torch.Generator().manual_seed(7))  # 3 coats, 2 hairs, Mau or other breed


def animals(n, rng, clear=0.0):
    """n pictures [n, 12] and their labels: breeds, hairs, coats [n] each. clear: how plainly the hair is seen."""
    breed = torch.randint(3, (n,), generator=rng)
    coat = torch.where(breed == 0, torch.randint(3, (n,), generator=rng), torch.where(breed == 1, 1, 2))
    hair = (breed == 2).long()  # only the Birman has long hair
    x = 0.5 * directions[coat] + (0.3 + clear) * directions[3 + hair] + 0.7 * directions[5 + (breed == 1).long()]
    return x + 1.2 * torch.randn(n, 12, generator=rng), breed, hair, coat


x_test, y_test, _, _ = animals(1500, torch.Generator().manual_seed(999), clear=1.5)

# %% [markdown]
# A small training loop for all that follows: a trunk with one hidden layer, a head, and in each step a
# fine batch and perhaps a coarse one.

# %%
def train(make_head, fine, coarse=None, batch=16, steps=steps, s=0):
    """Train on fine = (x, y), and on coarse = (x, y, is_coarse) if given; -> x -> log p(breed)."""
    torch.manual_seed(s)
    rng = torch.Generator().manual_seed(s)
    trunk = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Dropout(0.2))
    head = make_head(32)
    optimiser = torch.optim.AdamW([*trunk.parameters(), *head.parameters()], lr=0.02, weight_decay=0.05)
    for _ in range(steps):
        i = torch.randint(len(fine[1]), (batch,), generator=rng)
        loss = head.loss(trunk(fine[0][i]), fine[1][i])
        if coarse:
            j = torch.randint(len(coarse[1]), (batch,), generator=rng)
            loss = loss + head.loss(trunk(coarse[0][j]), coarse[1][j], coarse[2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trunk.eval()
    return lambda x: head.predictions(trunk(x))["log_probs"].detach()


def accuracy(predict, x, y):
    """The share of pictures whose most probable breed is right."""
    return (predict(x).argmax(1) == y).double().mean().item()

# %% [markdown]
# Sixty fine pictures, ten steps, twenty repetitions. Three arms: FFN with 8 pictures a step; FFN with 8
# pictures and 8 of the copy; FFN with 16 pictures. (The hair is easy to see here.)

# %% tags=["nbval-check-output"]
def ffn(d):
    return FFNHead(graph, graph.label_nodes("breeds"), 3, d)


compute = {"FFN, 8 a step": [], "joined with a copy, 8 + 8": [], "FFN, same compute, 16": []}
for s in range(20):
    fine = animals(60, torch.Generator().manual_seed(s), clear=1.5)[:2]
    for name, batch, copy in zip(compute, (8, 8, 16), (None, (*fine, False), None), strict=True):
        compute[name].append(accuracy(train(ffn, fine, copy, batch, 10, s), x_test, y_test))
for name, values in compute.items():
    print(f"{name:<27} accuracy {np.mean(values):.3f}, standard error {np.std(values, ddof=1) / 20**0.5:.3f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
for row, (_, values) in enumerate(compute.items()):
    ax.plot(values, [row] * 20, "o", color="#6f8fb5", alpha=0.4)
    ax.plot(np.mean(values), row, "D", color="#c8242f")
ax.set_yticks(range(3), list(compute))
ax.set_ylim(2.5, -0.5)
ax.set(xlabel="test accuracy", title="A copy of the data 'helps', until the control sees as many pictures")
plt.show()

# %% [markdown]
# **How to read it.** Each blue dot is one repetition, each red diamond a mean. The copy has no
# information that the fine dataset lacks, yet the second row is better than the first: each step sees
# more pictures, so its gradient has less noise. The third row has the same advantage without any second
# dataset. (It is the same training: only the factor of the loss differs, and Adam ignores it.) A gain
# of joining must be measured against the third row.
#
# > **Deviation from the paper.** The paper compares its fusion columns with the original columns and
# > does not say how many steps and pictures each had. All our tables have the row *fine, same compute*.
# > The reference is the FFN that is better on validation data: with the fine batch, or with the same compute.
#
# ## 6 When joining can help
#
# For a direct gain two conditions must hold: the coarse label says something about the fine label, and the
# classifier cannot predict the coarse label yet. (Indirect effects through shared weights are possible without
# them, see section 3.)
#
# **The coarse label must say something about the fine label.** How much, in bits, is the mutual
# information: the uncertainty about the breed before the coarse label is known, minus the uncertainty
# after it. For our animals it is a small sum over a table of probabilities.

# %% tags=["nbval-check-output"]
third = 1 / 3
joint_tables = {  # p(breed, coarse label): a row for each breed
    "species": [[third], [third], [third]],
    "hairs": [[third, 0], [third, 0], [0, third]],
    "coats": [[third / 3, third / 3, third / 3], [0, third, 0], [0, 0, third]],
}
for name, table in joint_tables.items():
    p = torch.tensor(table)
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    bits = torch.where(p > 0, p * (p / independent).log2(), 0.0).sum()
    print(f"{name:<8} {bits:.4f} bits of {np.log2(3):.4f}")

# %% [markdown]
# By hand for the hair: before, three breeds are equally likely, $\log_2 3 = 1.585$ bits. After *short* (two
# times in three) two breeds are left, 1 bit; after *long* none is open. $1.585 - \frac23 = 0.9183$. The species
# gives no information: all our breeds are cats.
#
# **The classifier must not predict the coarse label already.** If the hair is easy to see, an FFN that was
# trained on breeds alone answers "short or long?" correctly. Then the coarse pictures repeat what it has
# learned. To see the difference, we draw animals a second time, with the hair plainly visible (`clear=1.5`).
# Before we join, we ask the FFN the coarse question: sum its probabilities over the breeds with each hair.

# %% tags=["nbval-check-output"]
def coarse_accuracy(clear, s):
    """How often an FFN that knows 12 fine pictures answers the question for the hair."""
    rng = torch.Generator().manual_seed(s)
    predict = train(ffn, animals(12, rng, clear)[:2], batch=32, s=s)
    x, _, hair, _ = animals(1500, torch.Generator().manual_seed(999), clear)
    p_long = predict(x).exp()[:, 2]  # the Birman is the only breed with long hair
    return ((p_long > 0.5).long() == hair).double().mean().item()


for name, clear in (("hair hard to see", 0.0), ("hair plainly visible", 1.5)):
    print(f"{name:<21} FFN answers 'short or long?' correctly: {np.mean([coarse_accuracy(clear, s) for s in range(seeds)]):.3f}")

# %% [markdown]
# Now the joins, by Algorithm 1: 12 fine pictures and 300 coarse ones, six repetitions. The control of
# each world is label-aug on the fine data with the same compute.

# %%
def join(kind, clear, s):
    """Test accuracy of label-aug: kind `none` (fine, same compute) or a coarse dataset."""
    rng = torch.Generator().manual_seed(s)
    fine, (x_c, _, hair, coat) = animals(12, rng, clear)[:2], animals(300, rng, clear)
    off = {"none": None, "species": torch.zeros_like(hair), "hairs": hair, "coats": coat}[kind]
    names, n = joint_labels(graph, "breeds", None if kind == "none" else kind)
    coarse = None if off is None else (x_c, n + off, True)
    predict = train(lambda d: PathHead(graph, names, n, d, PathSettings(hidden=12)), fine, coarse, 16 if coarse else 32, s=s)
    return accuracy(predict, *animals(1500, torch.Generator().manual_seed(999), clear)[:2])


arms = [("none", 0.0), ("species", 0.0), ("hairs", 0.0), ("none", 1.5), ("hairs", 1.5)]
found = {arm: np.array([join(*arm, s) for s in range(seeds)]) for arm in arms}

# %% tags=["nbval-check-output"]
rows = []
for kind, clear in arms:
    if kind != "none":
        gain = found[kind, clear] - found["none", clear]  # of each repetition
        rows.append((f"{kind}, hair {'plainly visible' if clear else 'hard to see'}", gain))
        print(f"{rows[-1][0]:<30} accuracy {found[kind, clear].mean():.3f}, gain {100 * gain.mean():+.1f} points, "
              f"standard error {100 * gain.std(ddof=1) / seeds**0.5:.1f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
for row, (_, gain) in enumerate(rows):
    ax.plot(100 * gain, [row] * seeds, "o", color="#6f8fb5", alpha=0.5)
    ax.plot(100 * gain.mean(), row, "D", color="#c8242f")
ax.axvline(0, color="#777777", lw=0.8)
ax.set_yticks(range(len(rows)), [name for name, _ in rows])
ax.set_ylim(len(rows) - 0.5, -0.5)
ax.set(xlabel="gain over the fine data, same compute (points of accuracy)", title="The gain by joining in three settings")
plt.show()

# %% [markdown]
# **How to read it.** Each dot is one repetition: the accuracy with joining minus that of the control, with the
# same fine pictures. The species has no information about the breed. The hair has 0.92 bits. Where it is hard
# to see, the mean gain is several standard errors above zero. Where it is plainly visible, the mean gain is
# small: the fine pictures were enough to learn it. (Six repetitions on drawn animals prove little. Notebook 22
# has other data and intervals.)
#
# > **Deviation from the paper.** The paper joins photographs of 37 breeds with photographs of cats and dogs,
# > and reports a gain. With a pre-trained encoder an FFN may answer the question *cat or dog* already. Before
# > you join, ask your FFN the coarse question, as above.
#
# A join can fail for more reasons. The pictures of the two datasets can differ so much (drawings and
# photographs) that what is learned on one does not hold for the other. The coarse labels can be wrong. The
# graph can be wrong: if a coarse label lies above the wrong breeds, its pictures train wrong answers. And the
# encoder can be frozen, so that only the last layers can use what the coarse pictures show. Our experiments
# change two of these: the coarse labels (notebook 44) and the graph (notebook 45).
#
# A short list for a join of your own (notebook 99):
#
# 1. Which fine labels does each coarse label allow? If it allows all of them, it gives no information.
# 2. How often does an FFN, trained on the fine data alone, answer the coarse question? If nearly always,
#    expect no gain.
# 3. Does the control see as many pictures in a step, and was it tuned as much?
# 4. Is the gain larger than the differences between seeds?
#
# And the method must pass the gain on. On CIFAR-100 the coarse labels say much that an FFN does not know. A flat
# softmax gains much by the join, Algorithm 1 hardly (notebook 22). We see two reasons, and each explains a part.
#
# - **Most paths do not ask the coarse question.** A coarse label teaches the answers to one question, here the
#   superclass. The graph of CIFAR-100 has six questions at the root, and a path asks one of them. After the join about
#   one greedy path in five asks for the superclass (notebook 43). WordTree has no other question. It gains more by the
#   join than Algorithm 1, but it stays below FFN, too (notebook 22).
# - **Each block is normalised by itself.** WordTree gains less than the flat softmax. A likely reason: if the first
#   answer is wrong, no later score can correct it, because each block sums to 1. Where the scores of whole paths are
#   normalised together ("direct and global scores" in notebook 22), the gain is that of the flat softmax.

# %% [markdown]
# ## What to take away
#
# 1. The joint list has the fine labels first. A test asks for them alone.
# 2. A step adds the loss of a fine batch and $w$ times that of a coarse batch.
# 3. A coarse label teaches the steps of its path. Below it nothing gets a gradient, except through shared weights.
# 4. Compare with a classifier that sees as many pictures. Otherwise a gain from more compute looks like a gain
#    from joining.
# 5. Joining can help directly if the coarse label says something about the fine label that the classifier
#    cannot predict yet.
#
# ## Exercises
#
# **1.** The coarse label *dog* is related to no breed. Does a picture of a dog teach anything? Which
# scores get a gradient? Answer first.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
for prefix, value in zip(big.prefixes, gradient("dog"), strict=True):
    if abs(value) > 1e-9:
        print(f"{' ∘ '.join(prefix)}: {value:.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# It teaches the first question, *cat or dog*. On `fine_tree` this question has one answer, so the test
# on breeds does not ask it. The picture can act on breeds only through the shared weights.
#
# </details>
#
# **2.** How many times does a training of 40 steps show each fine picture, and each coarse picture, in
# section 6? What changes for the control?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
print(f"joined: each fine picture {40 * 16 / 12:.1f} times, each coarse one {40 * 16 / 300:.1f} times")
print(f"control: each fine picture {40 * 32 / 12:.1f} times")

# %% [markdown]
# <details><summary>Why</summary>
#
# The pictures of a step are drawn at random, so these are means. The control shows each fine picture
# twice as often. That is not always an advantage: with few pictures it may overfit. So we compare with
# the FFN that is better on validation data.
#
# </details>
#
# **3.** The fine dataset gets a fourth class, *cat* ("a cat of none of these breeds"), and the coarse
# dataset has *cat*, too. Then *cat* is one node and an evaluated label. What does a coarse picture of
# *cat* teach now? Is that right?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
for name, n in (("cat is coarse   ", 3), ("cat is evaluated", 4)):
    h = PathHead(graph, [*labels[:3], "cat"], n, d=3, settings=PathSettings(hidden=6))
    h.loss(x_coarse, torch.full((4,), 3), is_coarse=True).backward()
    bias = h.decoder.score.bias.grad
    print(f"{name}: gradient of the <eop> score {0.0 if bias is None else bias[-1]:.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# An evaluated label is predicted by a path that **stops** there. So the coarse pictures now teach *stop
# at cat*, although many of them show one of the breeds. That is wrong if the coarse dataset means "any
# cat". The two classes have the same name and different meanings: give the fine class a node of its own
# below *cat*, say *other cat*.
#
# </details>
#
# **4.** All coarse pictures are labelled *cat*, and the graph has no *dog*. What is the coarse loss?
#
# <details><summary>Solution</summary>
#
# The question at *animal* has one answer, so $p(cat) = 1$ and the loss is 0, with gradient 0: the
# pictures teach nothing at all. A coarse label teaches only where its question has another answer.
#
# </details>
