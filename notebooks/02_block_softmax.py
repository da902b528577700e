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
# # 02 · Block softmax: one softmax for each question
#
# **What you will learn.** Why one softmax over all children of a node is wrong. The paper's block
# softmax (Sec. 3.2.4) in five lines and in one vectorised call. Why its outputs are *not* a
# distribution over next steps, and how we make one, so that all paths sum to 1. Where a path may
# stop, which the paper leaves open. What goes wrong if the paper's words are taken literally. How
# to compute it without overflow.
#
# **What it needs.** The idea of a label graph with competing groups
# ([notebook 01](01_label_graphs.ipynb), whose section 9 lists the symbols). What a softmax is. No
# data, no GPU.
#
# **How long it takes.** A few seconds to run, about half an hour to read.

# %% tags=["parameters"]
seed = 0  # int: of the random scores

# %%
import random

import matplotlib.pyplot as plt
import torch
import yaml

from companion.records import profiles
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.decoder import greedy
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.prefix_tree import PrefixTree

profiles.check_parameters(globals(), ["seed"])
torch.set_default_dtype(torch.float64)  # double precision: the numbers below come out alike on every machine
_ = torch.manual_seed(seed)

# %% [markdown]
# This is the little graph of notebook 01 again. At *cat*, two questions are open: hair and colour.

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
"""
graph = graph_from_dict(yaml.safe_load(text), "cats.yaml")
labels = graph.label_nodes()  # 3 breeds (the fine labels), then cat and dog (the coarse ones)

# %% [markdown]
# ## 1 One softmax over all children makes right answers compete
#
# A network gives each node $u$ a score $z_u$. (In notebook 03 the score depends on the picture and
# on the path so far. Here it is fixed, since this notebook is about what is done *with* the scores.)
# A plain softmax over all five children of *cat*,
#
# $$p_u = \frac{e^{z_u}}{\sum_{w \in children(cat)} e^{z_w}},$$
#
# says that exactly one of the five is true. But a tabby British Shorthair is *Shorthair* **and**
# *Tabby-Color*. We choose the scores as logarithms of small whole numbers, so that everything can
# be checked by hand: $e^z$ is 3 and 1 for the hair, 1, 2 and 1 for the colours, 8 in all.

# %% tags=["nbval-check-output"]
children = graph.children("cat")
weight = torch.tensor([3.0, 1.0, 1.0, 2.0, 1.0])  # exp(z) of each child   [5]
z = weight.log()  # the scores                                             [5]
for u, p in zip(children, z.softmax(0), strict=True):
    print(f"{u:<12} {p:.4f}")

# %% [markdown]
# *Shorthair* gets 3/8 and *Tabby-Color* 2/8. Neither passes one half, although each has the largest
# score of its question. However long we train, two right answers cannot both have more than 1/2.
#
# ## 2 The paper's block softmax (Sec. 3.2.4)
#
# $$p_u = \frac{e^{z_u}}{\sum_{w \in S_u} e^{z_w}}, \qquad S_u = \text{the competing nodes of } u \text{ (and } u \text{ itself)}.$$
#
# Only competitors share a sum. Written out, with a loop over the blocks:

# %%
def block_softmax(z, block):
    """z [E] scores, block [E] the block of each slot -> p [E]."""
    p = torch.empty_like(z)
    for b in block.unique():
        inside = block == b  # S_u, the same for all u of the block   [E] bool
        p[inside] = z[inside].exp() / z[inside].exp().sum()
    return p

# %% [markdown]
# (A **slot** is one possible answer at one place; `block` holds a number per slot, equal for slots
# that compete. $E$ is the number of slots.) Applied to *cat*, hair is block 0 and colour block 1:

# %% tags=["nbval-check-output"]
block = torch.tensor([0, 0, 1, 1, 1])  # [5]
p = block_softmax(z, block)
for u, p_u in zip(children, p, strict=True):
    print(f"{u:<12} {p_u:.4f}")

# %% [markdown]
# By hand: hair 3/(3+1) and 1/(3+1); colour 1/4, 2/4, 1/4. Now both right answers can approach 1.
#
# The core does all blocks in one call, on any number of leading dimensions, and in logarithms. Four
# properties: it equals the loop; each block sums to 1; with a single block it is the ordinary
# softmax; and raising the score of a colour leaves the hair alone.

# %%
assert torch.allclose(block_log_softmax(z, block).exp(), p)
assert torch.allclose(p[:2].sum(), torch.tensor(1.0)) and torch.allclose(p[2:].sum(), torch.tensor(1.0))
one_block = torch.zeros(5, dtype=torch.long)
assert torch.allclose(block_log_softmax(z, one_block), z.log_softmax(0))
raised = z + torch.tensor([0, 0, 0, 5.0, 0])
assert torch.allclose(block_log_softmax(raised, block)[:2].exp(), p[:2])

# %% [markdown]
# The same in a gradient: with the target *Shorthair*, the gradient of $-\log p$ is $p -
# \text{onehot}$ inside the hair block, and **exactly zero** for every colour. A plain softmax lowers
# the scores of all colours instead.

# %% tags=["nbval-check-output"]
for name, log_p in (("softmax", lambda z: z.log_softmax(0)), ("block softmax", lambda z: block_log_softmax(z, block))):
    scores = z.clone().requires_grad_()
    (-log_p(scores)[0]).backward()
    print(f"{name:<14}", " ".join(f"{g:8.4f}" for g in scores.grad + 0.0))

# %% [markdown]
# A picture of that independence: we raise the score of *Tabby-Color* and watch.

# %%
push = torch.linspace(-4, 6, 101)
scores = z + push[:, None] * torch.tensor([0, 0, 0, 1.0, 0])  # [101, 5]
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
curves = {"softmax": scores.softmax(1), "block softmax": block_log_softmax(scores, block).exp()}
for ax, (name, curve) in zip(axes, curves.items(), strict=True):
    for j, (color, style) in enumerate((("#c8242f", "-"), ("#c8242f", "--"), ("#6f8fb5", ":"), ("#6f8fb5", "-"), ("#6f8fb5", "--"))):
        ax.plot(push, curve[:, j], style, color=color, label=children[j], lw=2)
    ax.set(title=name, xlabel="added to the score of Tabby-Color")
axes[0].set_ylabel("p")
axes[1].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** Red lines belong to the hair, blue lines to the colour. On the left, a high
# score of the tabby coat moves *Shorthair* to zero: the network could be sure of the hair only if it
# were *unsure* of the coat. On the right, the red lines are flat: the two questions have two
# independent answers. (Solid and pointed have the same score, so their curves coincide. On the left
# the curve of *Longhair* lies under them, too.)
#
# ## 3 From blocks to paths: probabilities that sum to 1
#
# Each block sums to 1, so the five children together sum to 2, the number of blocks. But Algorithm 1
# *samples* the next node "from a multinomial distribution", and the likelihood of a path needs
# probabilities of steps that sum to 1. The paper leaves this open.
#
# > **Deviation from the paper.** We make it a distribution in two stages: first **which question**,
# > uniformly among the $n_v$ questions that are legal at $v$; then **which answer**, by block
# > softmax:
# >
# > $$p(v \to u) = \frac{1}{n_v} \cdot p_u .$$
# >
# > (A multinomial sampler over the union of the blocks does the same implicitly: it divides by the
# > sum, and the sum is $n_v$.)
#
# The probability of a path is the product of its steps. For now a path ends where nothing is left
# to answer: at a breed, or at *dog*. In plain Python, from any node downwards:

# %%
score = {"cat": 4, "dog": 1, "British Shorthair": 2, "Egyptian Mau": 1, "Birman": 1}  # exp(z_u)
score |= dict(zip(children, weight.tolist(), strict=True))


def path_distribution(v):
    """{path below v: probability}, for one score a node."""
    blocks, out = graph.blocks(v).values(), {}
    for answers in blocks:
        for u in answers:
            p_u = score[u] / sum(score[w] for w in answers)  # block softmax
            for rest, p_rest in (path_distribution(u) or {(): 1.0}).items():
                out[u, *rest] = p_u * p_rest / len(blocks)  # 1/n_v: the question
    return out

# %% tags=["nbval-check-output"]
paths = path_distribution("animal")
for path, p_path in paths.items():
    print(f"{p_path:.4f}  {' ∘ '.join(path)}")
print(f"{sum(paths.values()):.4f}  sum of all {len(paths)} paths")

# %% [markdown]
# Check the first line by hand. $p(cat) = 4/5$. There are two questions at *cat*, so the hair has
# 1/2. *Shorthair* has 3/4. *British Shorthair* has 2/(2+1) there, because the Birman is no child of
# *Shorthair*. Together $\frac45 \cdot \frac12 \cdot \frac34 \cdot \frac23 = \frac15 = 0.2$.
#
# **The sum is 1.** The core lays the same paths out as index tensors, a `PrefixTree` (notebook 03
# opens it). `slot_node` [E] says which node each slot answers with, `slot_block` [E] says in which
# block it competes, and `path_log_probs` adds up the slots along each path, and $-\log n_v$ for each
# question. The first three labels are **evaluated** (`n_evaluated=3`); *cat* and *dog* are coarse.

# %% tags=["nbval-check-output"]
tree = PrefixTree(graph, labels, n_evaluated=3)
z_node = torch.tensor([float(score.get(v, 1.0)) for v in (*graph.nodes, "<eop>")]).log()  # [N + 1]
slot_logp = block_log_softmax(z_node[tree.slot_node], tree.slot_block)[None]  # [1, E]
p_tree = dict(zip(tree.paths, tree.path_log_probs(slot_logp)[0].exp().tolist(), strict=True))
for path, p_path in p_tree.items():
    if abs(p_path - paths.get(path[1:], -1)) > 1e-6:  # a path that our dictionary lacks
        print(f"{p_path:.4f}  {' ∘ '.join(path)}")
assert len(p_tree) == 10 and all(abs(p_tree["animal", *path] - p_path) < 1e-6 for path, p_path in paths.items())

# %% [markdown]
# The core has our nine paths, with our probabilities, and one more: *animal ∘ cat*. It is not
# **complete**. A coarse label means "at least this", so the probability of the label *cat* is that
# of **reaching** the node, wherever the path ends later: 4/5. It must equal the sum of all complete
# paths through *cat*. And the complete paths must sum to 1 for *any* scores, here for 100 random
# ones.

# %%
z_random = 3 * torch.randn(100, len(tree.slot_node))  # [100, E]
p_random = tree.path_log_probs(block_log_softmax(z_random, tree.slot_block)).exp()  # [100, P]
assert torch.allclose(p_random[:, tree.complete].sum(1), torch.ones(100))
through_cat = torch.tensor(["cat" in path for path in tree.paths]) & tree.complete  # [P]
reached = tree.paths.index(("animal", "cat"))
assert torch.allclose(p_random[:, through_cat].sum(1), p_random[:, reached])

# %% [markdown]
# And the picture: the nine complete paths, one bar each, coloured by the label they end in.

# %%
hue = dict(zip(labels, ("#6f8fb5", "#c8242f", "#e0a030", "#9a9a9a", "#5d9c59"), strict=True))
fig, ax = plt.subplots(figsize=(8, 3.0), layout="constrained")
ax.barh([" ∘ ".join(path) for path in paths], list(paths.values()), color=[hue[path[-1]] for path in paths])
ax.invert_yaxis()
ax.set(xlabel="p(path)", title="The path distribution: nine paths, together 1")
plt.show()

# %% [markdown]
# **How to read it.** Bars of one colour end in one label. Their sum is the probability of that label:
# the four blue bars together are $p(\text{British Shorthair})$. A wrong first answer (*dog*) excludes
# all paths below *cat*.
#
# ## 4 Where a path may stop
#
# The paper closes each path with $\langle eop \rangle$, "end of path". At a breed that is simple:
# nothing is left below, so stopping is certain. But what if a label lies **above another label of
# the same dataset**? Suppose our fine dataset also has the class *cat*, "a cat of none of these
# breeds". A path may then stop at *cat*, or go on. In which block does $\langle eop \rangle$
# compete?
#
# > **Deviation from the paper.** The paper does not say in which block $\langle eop \rangle$ is. At
# > an evaluated label that has legal children, our first decision is **stop or go on**, a sigmoid
# > on the score of $\langle eop \rangle$. After *go on* the question is drawn, then its answer. All
# > complete paths still sum to 1:
# >
# > $$p(\text{stop at } v) = \sigma(z_{\langle eop \rangle}), \qquad p(v \to u) = (1 - \sigma(z_{\langle eop \rangle})) \cdot \frac{1}{n_v} \cdot p_u .$$
#
# The simple alternative is a block of its own, drawn uniformly like a question. A block with one
# member has $p = 1$ whatever its score is, so stopping then has the probability $1/(n_v + 1)$: at
# *cat* 1/3, for every picture, and no training can change it. Here are both rules, for three scores
# of $\langle eop \rangle$:

# %% tags=["nbval-check-output"]
p_cat, n_questions = 4 / 5, 2
print("e^z of <eop>    a block of its own    stop or go on")
for e in (1 / 9, 1.0, 9.0):
    alone = p_cat * (e / e) / (n_questions + 1)  # a block with one member: e / e
    ours = p_cat * e / (e + 1)  # the sigmoid of log e
    print(f"{e:<15.3f} {alone:<21.4f} {ours:.4f}")

# %% [markdown]
# With a block of its own the label *cat* has 0.2667 in every line: a constant. It can never be more
# probable than 1/3, not even for a picture that certainly shows none of the breeds. It is the most
# probable label only where the network is undecided between the breeds. On the pet graph *cat* has
# eight questions, and the constant would be 1/9. With *stop or go on* the probability depends on the
# score: here it goes from 0.08 to 0.72. So the network can learn it.
#
# The core does this where `n_evaluated` says that *cat* is evaluated. The value of a slot below
# *cat* then holds $p(\text{go on})$, too.

# %% tags=["nbval-check-output"]
nested = PrefixTree(graph, [*labels[:3], "cat"])  # four evaluated labels; cat lies above the other three
stops = nested.slot_node == len(graph.nodes)  # [E] bool: the <eop> slots
z_slot = z_node[nested.slot_node]  # e^z of <eop> is 1: stop and go on have 1/2 each
go_on = torch.where(nested.slot_stop >= 0, 0.5, 1.0)  # beside an <eop> slot: p(go on)
logp = torch.where(stops, torch.tensor(0.5).log(), block_log_softmax(z_slot, nested.slot_block) + go_on.log())[None]
for path, p_path in zip(nested.paths, nested.path_log_probs(logp)[0].exp(), strict=True):
    print(f"{p_path:.4f}  {' ∘ '.join(path)}")
print(f"{nested.path_log_probs(logp)[0].exp().sum():.4f}  sum")

# %% [markdown]
# By hand: only the species *cat* leads to these labels, so $p(cat) = 1$. Stopping has 1/2. The first
# breed path has $\frac12 \cdot \frac12 \cdot \frac34 \cdot \frac23 = 0.125$.
#
# A **coarse** label is treated differently, as we saw in section 3: it is only reached. A picture
# that the second dataset calls *cat* may well show a Birman. So it teaches $p(cat \mid animal)$, and
# it must not teach the network to stop there. In our trees $\langle eop \rangle$ has a slot only at
# evaluated labels that have something below; for the graph with three evaluated breeds there is
# none.

# %%
assert not tree.has_stops and nested.has_stops and int(stops.sum()) == 1

# %%
push = torch.linspace(-6, 6, 101)
fig, ax = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for n, style in ((2, "-"), (8, "--")):
    ax.axhline(1 / (n + 1), color="#777777", ls=style, label=f"a block of its own, beside {n} questions")
ax.plot(push, torch.sigmoid(push), color="#c8242f", lw=2, label="stop or go on (ours)")
ax.set(xlabel=r"the score of $\langle eop\rangle$ at cat", ylabel="p(stop at cat)", ylim=(-0.03, 1.03))
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** The red line shows the probabilities of stopping that the network can give. The
# grey lines show what it can give if $\langle eop \rangle$ is a block of its own: a single number,
# which is smaller where there are more questions.

# %% [markdown]
# ## 5 What the literal rules break
#
# The paper has two more rules that give wrong results if they are taken literally. The core has them
# as `PrefixTree(..., literal=True)`, so that you can compare.
#
# **First: "Index of Max value in prob" (Algorithm 2), over the union of all blocks.** A block with a
# single member has $p = 1$, whatever its score is. So a question with one answer is always chosen. We
# give our cats such a question: *No-Tail*, an answer that only the Manx has. (`greedy` is Algorithm 2: at
# each node it takes the most probable answer, until the path ends. Notebook 03 shows its code.)
#
# > **Deviation from the paper.** A question with a single legal answer gives no information, so
# > greedy decoding asks it only where no other question is left.

# %% tags=["nbval-check-output"]
with_tail = text.replace("  breed:", "  tail: {below: cat, nodes: [No-Tail]}\n  breed:").replace("[hair, color]", "[hair, color, tail]")
for row in ("Point-Color]]", "Shorthair, Tabby-Color]", "Longhair, Point-Color]"):
    with_tail = with_tail.replace(f"{row}\n", f"{row[:-1]}, []]\n")  # these breeds have no entry for the tail
with_tail = with_tail.replace("labels:", "      Manx: [Shorthair, [Solid-Color, Tabby-Color], No-Tail]\nlabels:")
tails = graph_from_dict(yaml.safe_load(with_tail), "cats.yaml")
z_random = 3 * torch.randn(1000, 50)  # 1000 pictures, any network
for literal in (True, False):
    t = PrefixTree(tails, tails.label_nodes("breeds"), literal=literal)
    end = t.path_label[greedy(t, block_log_softmax(z_random[:, : len(t.slot_node)], t.slot_block))]  # [1000]
    counts = ", ".join(f"{v} {int((end == k).sum())}" for k, v in enumerate(t.labels))
    print("literal:" if literal else "ours:   ", counts)

# %% [markdown]
# With the literal rule **each of the thousand pictures gets the label Manx**: at *cat* the question
# about the tail has $p = 1$. With our rule, questions that have several answers come first.
#
# Such questions appear when few labels are asked for, because then few answers are legal. We draw
# $k$ of the 37 pet breeds, 100 times, and count the draws in which some state (a place in the tree)
# offers a one-answer question beside a real one:

# %% tags=["nbval-check-output"]
pet = load_graph("pet")
breeds, rng = pet.label_nodes("oxford-iiit-pet"), random.Random(seed)
for k in (2, 4, 8, 37):
    found = 0
    for _ in range(100):
        t = PrefixTree(pet, rng.sample(breeds, k))
        lone = torch.bincount(t.block_state, weights=(t.block_size == 1).double())  # one-answer questions  [S]
        found += bool(((lone > 0) & (lone < torch.bincount(t.block_state))).any())
    print(f"{k:>2} breeds: {found} of 100 draws")

# %% [markdown]
# With two labels most draws have such a question. With all 37 breeds no draw has one.

# %% [markdown]
# **Second: "$S_u$ denotes the set of competing nodes of node $u$".** Read literally, $S_u$ is the
# *whole* group, with the members that are not children of the current node. At *Shorthair* the sum
# would include the Birman, where the path cannot go. The probability that it gets is lost:

# %% tags=["nbval-check-output"]
literal_tree = PrefixTree(graph, labels, n_evaluated=3, literal=True)
literal_logp = block_log_softmax(z_node[literal_tree.slot_node], literal_tree.slot_block)[None]
p_literal = literal_tree.path_log_probs(literal_logp)[0].exp()  # [P]
print(f"sum over the complete paths: {p_literal[literal_tree.complete].sum():.4f}")
assert torch.isclose(1 - p_literal[literal_tree.complete].sum(), torch.tensor(0.275))
birman = torch.tensor([path[-1] == "Birman" for path in tree.paths])  # [P], the same paths in both trees
assert p_literal[birman].sum() < tree.path_log_probs(slot_logp)[0].exp()[birman].sum() / 2

# %% [markdown]
# By hand: after *Shorthair* the Birman's 1/4 is lost, after *Longhair* everything but the Birman,
# 3/4, after *Solid-Color* 1/2, after *Tabby-Color* 1/4 and after *Point-Color* 1/4. Weighted by the
# probability of getting there,
# $\frac45 \cdot \frac12 (\frac34 \cdot \frac14 + \frac14 \cdot \frac34 + \frac14 \cdot \frac12 + \frac12 \cdot \frac14 + \frac14 \cdot \frac14) = 0.275$.
#
# > **Deviation from the paper.** We normalise over the **children that compete**: $S_u = \{w \in
# > children(v) : group(w) = group(u)\}$. Then no probability is lost, and at a node whose only child
# > is *Birman* the answer is *Birman*.

# %%
fig, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
for row, (name, t, logp) in enumerate((("ours", tree, slot_logp), ("literal", literal_tree, literal_logp))):
    left, p_paths = 0.0, t.path_log_probs(logp)[0].exp()
    for k in (0, 1, 2, 4):  # cat is only reached
        p_label = float(p_paths[t.path_label == k].sum())
        ax.barh(name, p_label, left=left, color=hue[labels[k]], label=None if row else labels[k])
        left += p_label
    if row:
        ax.barh(name, 1 - left, left=left, color="white", edgecolor="#c8242f", hatch="xx", label="lost")
ax.set(xlabel="probability", xlim=(0, 1))
ax.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** Both bars have the same scores. The hatched part is the probability of steps to
# nodes that are no children of the current node. The labels do not lose the same share: the Birman
# loses more than half of its probability: at *Longhair*, whose only child it is, 3/4 are lost.

# %% [markdown]
# ## 6 Groups whose members do not compete
#
# On arXiv a paper may be in *cs.LG* and in *stat.ML*. Such a group is marked `exclusive: false`;
# each member is then a yes/no question of its own, a softmax over $\{z_u, 0\}$, better known as a
# sigmoid: $p_u = 1/(1 + e^{-z_u})$.

# %% tags=["nbval-check-output"]
z_papers = torch.tensor([2.0, 1.0, 1.0, 1.0])  # two answers that compete, two categories that do not
log_p = block_log_softmax(z_papers, torch.tensor([0, 0, 1, 1]), exclusive=torch.tensor([True, False]))
print(" ".join(f"{x:.4f}" for x in log_p.exp()))
assert torch.allclose(log_p.exp()[2:], torch.sigmoid(z_papers[2:]))

# %% [markdown]
# By hand: $e^2/(e^2+e) = 1/(1+e^{-1}) = 0.7311$ for the first, and the same $\sigma(1) = 0.7311$
# for the last two, whose sum is no longer 1.
#
# ## 7 Computing without overflow
#
# $e^{z}$ overflows for $z > 710$ in double precision and for $z > 89$ in single precision, and a
# network in training can reach such scores. The usual solution is to subtract the block's largest
# score $m$, which changes nothing:
#
# $$\log p_u = z_u - m - \log \sum_{w \in S_u} e^{z_w - m}, \qquad m = \max_{w \in S_u} z_w .$$
#
# Now every exponent is at most 0 and the sum is at least 1. The maximum has to be that of the
# *block*: with the maximum of all scores, the exponentials of a block with small scores would all be
# rounded to 0.

# %% tags=["nbval-check-output"]
extreme = torch.tensor([1000.0, 999.0, -1000.0, -1001.0])  # a block of large scores and one of small ones
pair = torch.tensor([0, 0, 1, 1])
print("naive:", [f"{x:.4f}" for x in block_softmax(extreme, pair)])
print("core: ", [f"{x:.4f}" for x in block_log_softmax(extreme, pair).exp()])

# %% [markdown]
# The loop gives NaN in both blocks (inf/inf and 0/0). The core gives $\sigma(1)$ and $1 -
# \sigma(1)$ in each.
#
# A score of $-\infty$ **masks** a slot: the answer is illegal. A block whose slots are all masked
# must not turn the other blocks, or their gradients, into NaN. And the results must be finite in low
# precision, too, which is used for training on a GPU.

# %%
masked = torch.tensor([0.5, -torch.inf, -torch.inf, -torch.inf], requires_grad=True)
out = block_log_softmax(masked, pair)
out[0].backward()
assert out[0] == 0 and (out[1:] == -torch.inf).all() and torch.isfinite(masked.grad).all()
for dtype in (torch.float32, torch.bfloat16):
    assert torch.isfinite(block_log_softmax(extreme.to(dtype), pair)).all()

# %% [markdown]
# The tree of the pet graph has many more slots and blocks, so one vectorised call is much faster than
# a loop. The two agree there as well.

# %% tags=["nbval-check-output"]
pet_tree = PrefixTree(pet, pet.label_nodes())
z_pet = torch.randn(len(pet_tree.slot_node))
difference = block_log_softmax(z_pet, pet_tree.slot_block).exp() - block_softmax(z_pet, pet_tree.slot_block)
print(len(pet_tree.slot_node), "slots in", len(pet_tree.block_state), "blocks; largest difference below 1e-12:",
      bool(difference.abs().max() < 1e-12))

# %% [markdown]
# ## What to take away
#
# 1. Competition belongs inside a question. Block softmax is one softmax for each question.
# 2. Its outputs at a node sum to the number of questions. Divided by that number they are a distribution over steps,
#    and the probabilities of all complete paths sum to 1.
# 3. At an evaluated label above other labels, *stop or go on* is a decision of its own, and it is
#    learned. A coarse label is only reached.
# 4. Probabilities of blocks of unequal sizes cannot be compared fairly. A block with one member always has the largest.
#    Our rule corrects this case alone: greedy decoding still compares two kinds of hair with three colours.
# 5. Subtract the maximum *of the block*.
#
# ## Exercises
#
# **1.** Add 7 to every colour score. What changes under block softmax, what under a plain softmax?
# Then add 7 to *all five* scores. Answer first, then run.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
for what, shift in (("colours", torch.tensor([0, 0, 7.0, 7, 7])), ("all", torch.full((5,), 7.0))):
    same_block = torch.allclose(block_log_softmax(z + shift, block), block_log_softmax(z, block))
    print(f"{what:<8} block softmax unchanged: {same_block}; softmax unchanged: {torch.allclose((z + shift).softmax(0), z.softmax(0))}")

# %% [markdown]
# <details><summary>Why</summary>
#
# A softmax does not change if the same number is added to all its members. In a block softmax this
# holds *for each block*.
#
# </details>
#
# **2.** Show that a block of two is a sigmoid of the difference of the two scores. Why is *stop or
# go on* then the same as a block of two?
#
# <details><summary>Solution</summary>
#
# $\frac{e^a}{e^a + e^b} = \frac{1}{1 + e^{-(a - b)}} = \sigma(a - b)$. *Stop* competes with *go on*,
# whose score is fixed at $b = 0$: $p(\text{stop}) = \sigma(z_{\langle eop \rangle})$. A member of a
# group that is not exclusive (section 6) competes with its own absence in the same way.
#
# </details>
#
# **3.** Must the question be drawn *uniformly*? Replace $1/n_v$ by weights of your own, say colour
# twice as likely as hair. Do all paths still sum to 1? What happens to $p(\text{Birman})$? (Hint:
# `tree.answer_log_probs` is `path_log_probs` without the $-\log n_v$.)

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
prior = torch.tensor([{"hair": 1.0, "color": 2.0}.get(g, 1.0) for g in tree.block_group])  # [blocks]
prior = prior / torch.zeros(len(tree.state_node)).scatter_add(0, tree.block_state, prior)[tree.block_state]
p_mine = tree.answer_log_probs(slot_logp + prior.log()[tree.slot_block])[0].exp()  # [P]
birman = tree.path_label == labels.index("Birman")
print(f"sum {p_mine[tree.complete].sum():.4f}, p(Birman) {p_mine[birman].sum():.4f}, with uniform questions",
      f"{tree.label_log_probs(slot_logp)[0, labels.index('Birman')].exp():.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# Any distribution over the questions gives paths that sum to 1. The probability of the Birman changes
# because the two questions give it different probabilities: hair 1/4, colour 1/12. The weights decide
# which question counts more. Learned weights would be a few lines of code, and one more thing that
# can overfit.
#
# </details>
#
# **4.** The literal rule lost 0.275 of the probability. Compute by hand how much is lost behind
# *Longhair* alone.
#
# <details><summary>Solution</summary>
#
# $p(cat) \cdot \frac12 \cdot p(Longhair) = \frac45 \cdot \frac12 \cdot \frac14 = \frac{1}{10}$
# arrives at *Longhair*. The group "breed" has weights 2, 1, 1, and only the Birman (1 of 4) is a
# child: $\frac34 \cdot \frac1{10} = \frac3{40}$ is lost.
#
# </details>
