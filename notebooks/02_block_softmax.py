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
# # 02 · Block softmax: several questions at once, each with its own competition
#
# **What you will learn.** Why one softmax over all children of a node is wrong; the paper's block
# softmax (Sec. 3.2.4) in five lines and in one vectorised call; why its outputs are *not* a
# distribution over next steps; how to make one out of them so that all paths sum to 1; what goes
# wrong if the paper's words are taken literally; and how to compute it without overflow.
#
# **What it needs.** The idea of a label graph with competing groups
# ([notebook 01](01_label_graphs.ipynb), whose section 9 lists the symbols). What a softmax is. No
# data, no GPU.
#
# **How long it takes.** A few seconds to run, about half an hour to read.

# %% tags=["parameters"]
seed = 0  # int: of the random scores

# %%
import matplotlib.pyplot as plt
import torch
import yaml

from companion.records import profiles
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.prefix_tree import PrefixTree

profiles.check_parameters(globals(), ["seed"])
torch.set_default_dtype(torch.float64)  # double precision: the numbers below come out alike on every machine
_ = torch.manual_seed(seed)

# %% [markdown]
# The little cats graph of notebook 01 again: at *cat*, two questions are open, hair and colour.

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
labels = graph.label_nodes()  # 3 breeds, cat, dog

# %% [markdown]
# ## 1 One softmax over everything makes true answers fight
#
# A network gives each node $u$ a score $z_u$. (In notebook 03 it depends on the picture and on the
# path so far; here it is fixed, since only what is done *with* the scores matters.) A plain softmax over all five children of *cat*,
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
# *Shorthair* gets 3/8 and *Tabby-Color* 2/8: neither passes one half, although the scores prefer
# both clearly to their rivals. However long we train, two right answers can have at most 1/2 each.
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
louder = z + torch.tensor([0, 0, 0, 5.0, 0])
assert torch.allclose(block_log_softmax(louder, block)[:2].exp(), p[:2])

# %% [markdown]
# The same in a gradient: with the target *Shorthair*, the gradient of $-\log p$ is $p -
# \text{onehot}$ inside the hair block, and **exactly zero** for every colour. A plain softmax
# pushes all colours down instead.

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
# **How to read it.** Red: hair, blue: colour. On the left, being sure of the tabby coat drives
# *Shorthair* to zero: the network would have to be *unsure* of the coat in order to be sure of the
# hair. On the right, the red lines are flat: two questions, two answers. (Solid and pointed have
# the same score, so their curves coincide; on the left *Longhair*'s lies under them too.)
#
# ## 3 What is it a distribution of?
#
# Each block sums to 1, so the five children together sum to 2, the number of blocks. At *cat* there
# is a third block: a coarse sample's path ends there, so $\langle eop \rangle$ is possible too.

# %% [markdown]
# > **Deviation from the paper.** The paper does not say in which block $\langle eop \rangle$ is. We
# > give it a **block of its own**, legal only at labels. It competes with nothing: a picture
# > labelled *cat* teaches $p(cat \mid animal)$ and stops, and does *not* teach that the cat has no
# > breed. At a label with nothing below, $\langle eop \rangle$ is the only thing left, p = 1, and
# > is not written.

# %% tags=["nbval-check-output"]
with_eop = torch.cat([z, torch.zeros(1)])  # any score will do: alone in its block, p = 1   [6]
p_cat = block_log_softmax(with_eop, torch.tensor([0, 0, 1, 1, 1, 2])).exp()
print(" ".join(f"{x:.4f}" for x in p_cat), "  sum:", f"{p_cat.sum():.4f}")

# %% [markdown]
# The sum is 3. But Algorithm 1 *samples* the next node "from a multinomial distribution", and a
# likelihood of a path needs probabilities of steps that sum to 1. The paper leaves this open.
#
# > **Deviation from the paper.** We make it a distribution in two stages: first **which question**,
# > uniformly among the $n_v$ blocks that are legal at $v$; then **which answer**, by block softmax:
# >
# > $$p(v \to u) = \frac{1}{n_v} \cdot p_u .$$
# >
# > (This is also what a multinomial sampler does that is given the unnormalised union: it divides
# > by the sum, and the sum is $n_v$. So we say openly what such code would do silently.)
#
# The probability of a path is the product of its steps. In plain Python, from any node downwards:

# %%
score = {"cat": 4, "dog": 1, "British Shorthair": 2, "Egyptian Mau": 1, "Birman": 1, "<eop>": 1}  # exp(z_u)
score |= dict(zip(children, weight.tolist(), strict=True))


def path_distribution(v):
    """{path below v: probability}, for one score a node."""
    blocks = [*graph.blocks(v).values(), *([("<eop>",)] if v in labels else [])]
    out = {}
    for answers in blocks:
        for u in answers:
            p_u = score[u] / sum(score[w] for w in answers)  # block softmax
            for rest, p_rest in ({(): 1.0} if u == "<eop>" else path_distribution(u)).items():
                out[u, *rest] = p_u * p_rest / len(blocks)  # 1/n_v: the question
    return out

# %% tags=["nbval-check-output"]
paths = path_distribution("animal")
for path, p_path in paths.items():
    print(f"{p_path:.4f}  {' ∘ '.join(path)}")
print(f"{sum(paths.values()):.4f}  sum of all {len(paths)} paths")

# %% [markdown]
# Check the first line by hand: $p(cat) = 4/5$; three blocks at *cat*, so the hair question has 1/3;
# *Shorthair* has 3/4; *British Shorthair* has 2/(2+1) there, the Birman being no child of
# *Shorthair*. Together $\frac45 \cdot \frac13 \cdot \frac34 \cdot \frac23 = \frac{2}{15} = 0.1333$.
#
# **The sum is 1.** The core lays the same ten paths out as index tensors, a `PrefixTree` (notebook
# 03 opens it): `slot_node` [E] says which node each slot answers with, `slot_block` [E] in which
# block it competes, and `path_log_probs` adds up the slots along each path and $-\log n_v$ for each
# question that was drawn. It must give the same numbers, and the sum must be 1 for *any* scores, here for 100
# random ones.

# %%
tree = PrefixTree(graph, labels)
z_node = torch.tensor([score.get(v, 1.0) for v in (*graph.nodes, "<eop>")]).log()  # [N + 1]
slot_logp = block_log_softmax(z_node[tree.slot_node], tree.slot_block)[None]  # [1, E]
mine = {("animal", *path[:-1]): q for path, q in paths.items()}  # the core writes no <eop>
for path, q in zip(tree.paths, tree.path_log_probs(slot_logp)[0].exp(), strict=True):
    assert abs(mine[path] - q) < 1e-6
z_random = 3 * torch.randn(100, len(tree.slot_node))  # [100, E]
log_p = tree.path_log_probs(block_log_softmax(z_random, tree.slot_block))  # [100, P]
assert torch.allclose(log_p.exp().sum(1), torch.ones(100), atol=1e-6)

# %% [markdown]
# And the picture: all ten paths, one bar each, coloured by the label they end in.

# %%
hue = dict(zip(labels, ("#6f8fb5", "#c8242f", "#e0a030", "#9a9a9a", "#5d9c59"), strict=True))
ends = [path[-1] if path[-1] != "<eop>" else path[-2] for path in paths]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.barh([" ∘ ".join(path) for path in paths], list(paths.values()), color=[hue[e] for e in ends])
ax.invert_yaxis()
ax.set(xlabel="p(path)", title="The path distribution: ten paths, together 1")
plt.show()

# %% [markdown]
# **How to read it.** Bars of one colour end in one label; their sum is that label's probability:
# blue, 4 paths, is $p(\text{British Shorthair})$. A wrong turn early (*dog*) closes all paths below
# *cat*. The grey bar is the probability to stop at *cat*: it is $p(cat)/3$ whatever the picture,
# since the question is drawn uniformly.

# %% [markdown]
# ## 4 What the literal rule breaks
#
# Taken at its word, the paper has two more rules, and each breaks something. The core keeps both
# behind `literal=True`, so that nobody needs to take our word for it.
#
# **First: "Index of Max value in prob" (Algorithm 2), over the union of all blocks.** A block with
# a single member has p = 1, always, whatever the network says: it wins every time.
#
# > **Deviation from the paper.** A question with a single legal answer says nothing, so greedy
# > decoding asks it only where no other question is left.

# %% tags=["nbval-check-output"]
z_random = 3 * torch.randn(1000, len(tree.slot_node))  # 1000 pictures, any network
logp = block_log_softmax(z_random, tree.slot_block)
for literal in (True, False):
    end = tree.path_label[tree.greedy(logp, literal=literal)]
    counts = ", ".join(f"{v} {int((end == k).sum())}" for k, v in enumerate(labels))
    print("literal:" if literal else "ours:   ", counts)

# %% [markdown]
# With the literal rule **no picture of the thousand is ever given a breed**: at *cat* the
# one-member block $\langle eop \rangle$ has p = 1 and ends the path. With ours, no path stops at
# *cat* as long as a real question is open there.
#
# It is not only $\langle eop \rangle$: any question with one legal answer does the same, and
# evaluating on a subset of the labels creates many of them. Here, real pets: the share of states of
# the path tree that offer a one-answer question beside a real one.

# %% tags=["nbval-check-output"]
for name in ("pet", "critters"):
    g = load_graph(name)
    t = PrefixTree(g, g.label_nodes())
    size = torch.bincount(t.slot_block)  # members of each block          [blocks]
    idle = torch.bincount(t.block_state, weights=(size == 1).double())  # [S]
    print(f"{name:<9} {int(((idle > 0) & (idle < t.state_blocks)).sum())} of {int((t.state_blocks > 1).sum())}",
          "states with several questions have one with a single answer")

# %% [markdown]
# Those states are *cat* and *dog*, that is, every one at which there is something to choose between
# questions: the literal rule would never name a breed of any pet.
#
# **Second: "$S_u$ denotes the set of competing nodes of node $u$".** Read literally, $S_u$ is the
# *whole* group, also those members that are not children of the node we stand on. At *Shorthair*
# the sum would include the Birman, where the path cannot go. What is given to it is lost:

# %% tags=["nbval-check-output"]
literal_tree = PrefixTree(graph, labels, literal=True)
literal_logp = block_log_softmax(z_node[literal_tree.slot_node], literal_tree.slot_block)[None]
p_literal = literal_tree.path_log_probs(literal_logp)[0].exp()  # [P]
print(f"sum over all {len(p_literal)} paths: {p_literal.sum():.4f}")

# %% [markdown]
# By hand: what is lost after *Shorthair* is the Birman's 1/4, after *Longhair* everything but the
# Birman, 3/4, and so on; weighted by the probability of getting there it is 1 - 0.8167 = 0.1833.
#
# > **Deviation from the paper.** We normalise over the **children that compete**: $S_u = \{w \in
# > children(v) : group(w) = group(u)\}$. Every path's probability then counts, and a node whose
# > only child is *Birman* says *Birman*.

# %%
fig, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
for row, (name, t, p_paths) in enumerate((("ours", tree, tree.path_log_probs(slot_logp)[0].exp()), ("literal", literal_tree, p_literal))):
    left = 0.0
    for k, v in enumerate(labels):
        p_label = float(p_paths[t.path_label == k].sum())
        ax.barh(name, p_label, left=left, color=hue[v], label=v if row == 0 else None)
        left += p_label
    ax.barh(name, 1 - left, left=left, color="white", edgecolor="#c8242f", hatch="xx", label="lost" if row else None)
ax.set(xlabel="probability", xlim=(0, 1))
ax.legend(frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** The same scores under both rules. Hatched: the probability of stepping to a
# node that is not there. The loss is not shared fairly: the Birman loses more than half of its
# probability, because the nodes above it have the fewest children.

# %% [markdown]
# ## 5 Groups whose members do not compete
#
# On arXiv a paper may be in *cs.LG* and in *stat.ML*. Such a group is marked `exclusive: false`;
# each member is then a yes/no question of its own, a softmax over $\{z_u, 0\}$, better known as a
# sigmoid: $p_u = 1/(1 + e^{-z_u})$.

# %% tags=["nbval-check-output"]
z_papers = torch.tensor([2.0, 1.0, 1.0, 1.0])  # two archives that compete, two categories that do not
log_p = block_log_softmax(z_papers, torch.tensor([0, 0, 1, 1]), exclusive=torch.tensor([True, False]))
print(" ".join(f"{x:.4f}" for x in log_p.exp()))
assert torch.allclose(log_p.exp()[2:], torch.sigmoid(z_papers[2:]))

# %% [markdown]
# By hand: $e^2/(e^2+e) = 1/(1+e^{-1}) = 0.7311$ for the first, and the same $\sigma(1) = 0.7311$
# for the last two, whose sum is no longer 1.
#
# ## 6 Numbers that do not blow up
#
# $e^{z}$ overflows for $z > 710$ in double precision, for $z > 89$ in single, and a network under
# training gets there. The cure is as old as softmax: subtract the block's largest score $m$, which
# changes nothing,
#
# $$\log p_u = z_u - m - \log \sum_{w \in S_u} e^{z_w - m}, \qquad m = \max_{w \in S_u} z_w .$$
#
# Now every exponent is at most 0 and the sum is at least 1. The maximum has to be that of the
# *block*: with a global maximum, a quiet block beside a loud one would vanish.

# %% tags=["nbval-check-output"]
loud = torch.tensor([1000.0, 999.0, -1000.0, -1001.0])  # a loud block and a quiet one
pair = torch.tensor([0, 0, 1, 1])
print("naive:", [f"{x:.4f}" for x in block_softmax(loud, pair)])
print("core: ", [f"{x:.4f}" for x in block_log_softmax(loud, pair).exp()])

# %% [markdown]
# The naive loop gives *nan* in both blocks (inf/inf and 0/0); the core gives $\sigma(1)$ and $1 -
# \sigma(1)$ in each.
#
# A score of $-\infty$ **masks** a slot: an illegal answer. Even a block that is masked altogether
# must not poison the others, nor their gradients. And low precision, where training on a GPU
# happens, must stay finite.

# %%
masked = torch.tensor([0.5, -torch.inf, -torch.inf, -torch.inf], requires_grad=True)
out = block_log_softmax(masked, pair)
out[0].backward()
assert out[0] == 0 and (out[1:] == -torch.inf).all() and torch.isfinite(masked.grad).all()
for dtype in (torch.float32, torch.bfloat16):
    assert torch.isfinite(block_log_softmax(loud.to(dtype), pair)).all()

# %% [markdown]
# Last, the reason to have one vectorised call instead of a loop: the pet graph's tree has many more
# slots and blocks. The two agree there as well.

# %% tags=["nbval-check-output"]
pet = load_graph("pet")
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
# 3. The argmax over a union of blocks of unequal sizes is meaningless: a block of one always wins.
# 4. Subtract the maximum *of the block*.
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
# Each softmax ignores what its members have in common. Block softmax has one such freedom *for each
# block*.
#
# </details>
#
# **2.** Show that a block of two is a sigmoid of the difference of the two scores. Why then is a
# non-exclusive member described as "a two-way block of its own"?
#
# <details><summary>Solution</summary>
#
# $\frac{e^a}{e^a + e^b} = \frac{1}{1 + e^{-(a - b)}} = \sigma(a - b)$. A non-exclusive member
# competes with its own absence, whose score is fixed at $b = 0$: $p_u = \sigma(z_u)$.
#
# </details>
#
# **3.** Must the question be drawn *uniformly*? Replace $1/n_v$ by weights of your own, say colour
# twice as likely as hair. Do all paths still sum to 1? What happens to $p(\text{Birman})$? (Hint:
# `tree.answer_log_probs` is `path_log_probs` without the $-\log n_v$.)

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
prior = torch.tensor([{"hair": 1.0, "color": 2.0}.get(g, 1.0) for g in tree.block_group])  # [blocks]
prior = prior / torch.zeros(len(tree.state_blocks)).scatter_add(0, tree.block_state, prior)[tree.block_state]
log_p = tree.answer_log_probs(slot_logp + prior.log()[tree.slot_block])[0]  # [P]
birman = tree.path_label == labels.index("Birman")
print(f"sum {log_p.exp().sum():.4f}, p(Birman) {log_p.exp()[birman].sum():.4f}, with uniform questions",
      f"{tree.label_log_probs(slot_logp)[0, labels.index('Birman')].exp():.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# Any distribution over the questions gives paths that sum to 1. The Birman's probability moves
# because the two questions disagree about it (hair says 1/4, colour 1/12): the prior over questions
# decides whom to believe. A learned prior would be a few lines of code, and one more thing to
# overfit.
#
# </details>
#
# **4.** The literal rule lost 0.1833 of the probability. Compute by hand what is lost behind
# *Longhair* alone.
#
# <details><summary>Solution</summary>
#
# $p(cat) \cdot \frac13 \cdot p(Longhair) = \frac45 \cdot \frac13 \cdot \frac14 = \frac{1}{15}$
# arrives at *Longhair*. The group "breed" has weights 2, 1, 1, and only the Birman (1 of 4) is a
# child: $\frac34 \cdot \frac1{15} = 0.05$ is lost.
#
# </details>
