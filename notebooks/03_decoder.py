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
# # 03 · The decoder: a path, one question at a time
#
# **What you will learn.** How a GRU turns a picture's features into a path (Eq. 1, Figure 3).
# Algorithm 2, greedy decoding, with every number printed. Why illegal answers must be masked. How
# all paths are scored at once, and why that equals the plain form. Why the label of the greedy path
# is not always the most probable label.
#
# **What it needs.** Paths ([notebook 01](01_label_graphs.ipynb)) and block softmax
# ([notebook 02](02_block_softmax.ipynb)). You should know that a recurrent network has a hidden
# state; the GRU is written out below. No data and no GPU: the features are random vectors and the
# weights are not trained, so *what* is predicted means nothing here. The subject is *how* it is
# predicted.
#
# **How long it takes.** A few seconds to run, about half an hour to read.

# %% tags=["parameters"]
seed = 145  # int: of the weights and features; chosen so that the walk of section 4 has a decision at every level
d = 4  # int: size of the encoder's features
hidden = 5  # int: H, size of the decoder's state
profile = "toy"  # str: Figure 3 is written to figures/<profile>/

# %%
import inspect
import textwrap

import matplotlib.pyplot as plt
import torch
import yaml

from companion import drawing
from companion.records import profiles
from labelaug_core.decoder import PathDecoder, greedy
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.prefix_tree import PrefixTree
from companion.tables.writing import write_figure

profiles.check_parameters(globals(), ["seed", "d", "hidden", "profile"])
torch.set_default_dtype(torch.float64)  # double precision: the numbers below come out alike on every machine
_ = torch.manual_seed(seed)

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
fine, everything = graph.label_nodes("breeds"), graph.label_nodes()  # 3 labels; 5 labels
tree, big_tree = PrefixTree(graph, fine), PrefixTree(graph, everything)  # all their labels are evaluated


def show(function):
    """Print the source of a function of the core."""
    print(textwrap.dedent(inspect.getsource(function)))

# %% [markdown]
# ## 1 The parts
#
# The paper's model (Sec. 3.2.7) is an **encoder** $g_{enc}$, any network that turns a picture or a
# text into a feature vector $f \in \mathbb{R}^d$, and a **decoder** $g_{dec}$, a GRU that predicts a
# path through the graph. The decoder has four parts:
#
# | part | shape | what it does |
# |---|---|---|
# | `start` | $d \to H$ | the encoder's features become the first state $f_0$ |
# | `embedding` | $N \times H$ | row $v$ is $e_v$, the vector of node $v$ |
# | `cell` | $H, H \to H$ | the GRU, $g$ of Eq. 1 |
# | `score` | $H \to N + 1$ | a score $z_u$ for each node, and for $\langle eop \rangle$ |
#
# The core has each function twice: in a **plain form**, node by node, and in a **packed form**, for
# all paths and samples at once. This notebook explains the plain form, prints it from the core, and
# then checks that the packed form gives the same numbers.
#
# We draw larger weights than for training, so that the printed probabilities are not all near one
# half.

# %% tags=["nbval-check-output"]
decoder = PathDecoder(graph, d, hidden)
for weight in decoder.parameters():
    torch.nn.init.normal_(weight, std=1.2)
decoder.requires_grad_(False)
x = torch.randn(d)  # the features of one picture   [d]
print("N =", len(graph.nodes), " H =", hidden, " features:", [f"{value:.4f}" for value in x])

# %% [markdown]
# ## 2 Equation 1: one step of the GRU
#
# $$f_t = g(e_t, f_{t-1}) \tag{1}$$
#
# $f_{t-1}$ is the state of the decoder so far, and $e_t$ is the vector of the node that it has just
# reached. For a GRU (Cho et al., 2014) $g$ is, with $\sigma$ the sigmoid and $\odot$ the product
# entry by entry,
#
# $$\begin{aligned}
# r &= \sigma(W_r e_t + U_r f_{t-1} + b_r) && \text{reset: how much of the past enters the proposal} \\
# k &= \sigma(W_k e_t + U_k f_{t-1} + b_k) && \text{keep: how much of the past stays (PyTorch calls it z)} \\
# n &= \tanh(W_n e_t + b_n + r \odot (U_n f_{t-1} + c_n)) && \text{the proposal} \\
# f_t &= (1 - k) \odot n + k \odot f_{t-1} .
# \end{aligned}$$
#
# PyTorch stacks the three $W$ into `weight_ih` $[3H, H]$ and the three $U$ into `weight_hh` $[3H,
# H]$.

# %%
def g(e, f, cell):
    """Eq. 1 as a GRU: e [H], f [H] -> [H]."""
    r_e, k_e, n_e = (cell.weight_ih @ e + cell.bias_ih).chunk(3)  # each [H]
    r_f, k_f, n_f = (cell.weight_hh @ f + cell.bias_hh).chunk(3)
    r, k = torch.sigmoid(r_e + r_f), torch.sigmoid(k_e + k_f)
    n = torch.tanh(n_e + r * n_f)
    return (1 - k) * n + k * f

# %% [markdown]
# An example by hand: a GRU with $H = 1$ whose weights are all zero. Then $r = k = \sigma(0) =
# \frac12$ and $n = \tanh(0) = 0$, so a step *halves* the state, for any input.

# %% tags=["nbval-check-output"]
zero = torch.nn.GRUCell(1, 1)
for weight in zero.parameters():
    torch.nn.init.zeros_(weight)
f = torch.ones(1)
for t in range(3):
    f = g(torch.randn(1), f, zero)
    print(f"step {t + 1}: f = {f.item():.4f}")

# %% [markdown]
# The core's plain form is one line, a call of `nn.GRUCell`:

# %%
show(PathDecoder.step)

# %% [markdown]
# Property: for random inputs and the decoder's own weights our $g$ gives the same numbers.

# %%
node, f = torch.randint(len(graph.nodes), (100,)), torch.randn(100, hidden)
mine = torch.stack([g(decoder.embedding.weight[v], f_v, decoder.cell) for v, f_v in zip(node, f, strict=True)])
assert torch.allclose(mine, decoder.step(node, f), atol=1e-12)

# %% [markdown]
# The first state comes from the picture, the first token is $\langle START \rangle$:
#
# $$f_0 = \tanh(W_0 f + b_0), \qquad e_1 = e_{\langle START \rangle}, \qquad f_1 = g(e_1, f_0).$$
#
# > **Deviation from the paper.** It says "Initial $f_0$ by $f$" and leaves the sizes and $\langle
# > START \rangle$ open. We use a linear layer and a tanh, which keeps $f_0$ in the GRU's own range
# > (-1, 1), and take the **vector of the root** as $\langle START \rangle$: every path starts there.
# > Algorithms 1 (part 2) and 2 call $g_{dec}(G, f, t)$ *without* the state $f_{i-1}$. Taken
# > literally, the decoder would not know the path so far. We pass the state on, as Eq. 1 does.
# > They also give the features $f$ to $g_{dec}$ at every step, and Eq. 1 does not. Here $f$ enters through
# > $f_0$ alone; with `feed=True` a linear layer of it is added to each $e_t$, too (measured in notebook 23).

# %% tags=["nbval-check-output"]
f0 = torch.tanh(decoder.start(x))  # [H]
f1 = g(decoder.embedding.weight[graph.index["animal"]], f0, decoder.cell)  # [H]
print("f_0 =", [f"{value:7.4f}" for value in f0])
print("f_1 =", [f"{value:7.4f}" for value in f1])

# %% [markdown]
# ## 3 From the state to probabilities
#
# At node $v$ the layer `score` gives a $z_u$ for **all** $N + 1$ nodes, but only a few of them are
# possible next steps. An answer $u$ is **legal** if it is a child of $v$ and is a label that we may
# predict, or leads to one. The core's `decisions` lists them with their log-probabilities, in plain
# Python. (Read `block` first: it holds the nodes that compete.)

# %%
show(PathDecoder.decisions)

# %% [markdown]
# Three parts of it come from notebook 02: the block softmax inside a question, the sigmoid of a
# group whose members do not compete, and *stop or go on* at a label that has something below. Which
# answers are legal depends on the labels that are asked for:

# %% tags=["nbval-check-output"]
f1 = f1[None]  # [B, H] with B = 1
for t, name in ((big_tree, "all labels"), (tree, "breeds only")):
    for v in ("animal", "cat", "Longhair"):
        print(f"{name:<12} at {v:<9}", ", ".join(decoder.decisions(f1, t, v)))

# %% [markdown]
# With breeds only, *dog* is gone, and so is $\langle eop \rangle$ at *cat*: a test on breeds never
# ends at *cat*.
#
# > **Deviation from the paper.** The paper passes the graph $G$ to the decoder and does not say
# > what for. We leave illegal answers out of the softmax, in training and in evaluation. At
# > evaluation a path may end only at the labels of the evaluated dataset.
#
# By hand for the root: two answers compete, so $p(cat) = \sigma(z_{cat} - z_{dog})$.

# %% tags=["nbval-check-output"]
z = decoder.score(f1)[0]  # [N + 1]
by_hand_p = torch.sigmoid(z[graph.index["cat"]] - z[graph.index["dog"]])
found = {u: logp.exp().item() for u, logp in decoder.decisions(f1, big_tree, "animal").items()}
assert abs(found["cat"] - by_hand_p) < 1e-12
print({u: f"{p:.4f}" for u, p in found.items()})

# %% [markdown]
# ## 4 Algorithm 2, step by step
#
# Greedy decoding in words: start at the root. At each step feed the node just reached, compute the
# probabilities, take the most probable answer and append it. Stop at $\langle eop \rangle$.
#
# > **Deviation from the paper.** Algorithm 2 writes the chosen node into $t_i$, the variable that it
# > has just read, and never sets $t_{i+1}$: as printed, step $i+1$ would be fed nothing. We feed the
# > chosen node. At a label with something below we first compare *stop* with *go on*. And a question
# > that has one legal answer ($p = 1$ by construction) is asked only where no other is left: notebook
# > 02 shows that it would always be chosen otherwise.
#
# The plain form, from the core:

# %%
show(PathDecoder.decode)

# %% [markdown]
# To see every number, we follow the decoded path once more and print the decisions.

# %%
def walk(x, tree, path):
    """What was decided at each node of a path: [(node fed, answer taken, {question: {answer: p}}), ...]."""
    f, steps = decoder.first_state(x[None]), []
    for v, u in zip(path, (*path[1:], "<eop>"), strict=True):
        f = decoder.step(torch.tensor([graph.index[v]]), f)
        blocks = {}
        for w, logp in decoder.decisions(f, tree, v).items():
            blocks.setdefault(graph.group.get(w, "stop"), {})[w] = logp.exp().item()
        if blocks:  # at a breed nothing is left to decide
            steps.append((v, u, blocks))
    return steps

# %% tags=["nbval-check-output"]
path = decoder.decode(x[None], big_tree)
steps = walk(x, big_tree, path)
for t, (v, u, blocks) in enumerate(steps, start=1):
    print(f"t = {t}: fed {v}")
    for question, answers in blocks.items():
        print(f"   {question:<9}", "  ".join(f"{'*' if w == u else ''}{w} {p:.4f}" for w, p in answers.items()))
print("path:", " ∘ ".join(path))

# %% [markdown]
# Read it from top to bottom. The star is the answer taken. At *cat* the probability of $\langle eop
# \rangle$ is larger than that of any single answer, but smaller than that of going on, so the decoder
# goes on. Then it takes the largest number among all answers. The answers of each question sum to
# $p(\text{go on})$ there, and to 1 elsewhere. Note how the *question* is chosen: the decoder asks the
# question whose best answer is most probable.
#
# Property: the packed form takes the same path, for 200 pictures and for both sets of labels.

# %%
X = torch.randn(200, d)  # [B, d]
for t in (big_tree, tree):
    taken = greedy(t, decoder.slot_log_probs(X, t))  # [B] indices of paths
    assert [t.paths[i] for i in taken] == [decoder.decode(x_b[None], t) for x_b in X]

# %% [markdown]
# The same 200 pictures, decoded with all labels and with the breeds only:

# %% tags=["nbval-check-output"]
for t, name in ((big_tree, "all labels"), (tree, "breeds only")):
    ends = [t.paths[i][-1] for i in greedy(t, decoder.slot_log_probs(X, t))]
    print(f"{name:<12}", {v: ends.count(v) for v in everything})

# %% [markdown]
# ## 5 Figure 3: the architecture, with this picture's numbers

# %%
fig = drawing.figure_3(steps)
write_figure(fig, profile, "figure3")
plt.show()

# %% [markdown]
# **Figure 3, and how to read it.** From left to right: the encoder sees the picture once. Its
# features give the first state of the GRU, and the state is passed on along the grey line. From
# bottom to top at each step: the node just reached goes in as $e_t$, the state $f_t$ comes out, and
# one block softmax for each question turns it into probabilities. The red answer is fed to the next
# step. The picture enters through $f_0$ only.

# %% [markdown]
# ## 6 All paths at once: the prefix tree
#
# For training and for exact probabilities we need the score of *every* path, not only of the greedy
# one. The plain form takes one path after the other (Eq. 2 is minus the sum of these numbers):

# %%
show(PathDecoder.steps_of_path)

# %% [markdown]
# For each path the GRU runs through *animal* and *cat* again. But paths that begin with the same
# nodes have the same state there, because Eq. 1 depends on these nodes only. So the core keeps a
# **prefix tree**: one **state** for each prefix at which there is something to answer, one **slot**
# for each possible answer, one **block** for each question.

# %% tags=["nbval-check-output"]
print("slot state block  answers at                   answer")
for e, prefix in enumerate(tree.prefixes):
    end = f"  ends path {int(tree.slot_path[e])}" if tree.slot_path[e] >= 0 else ""
    print(f"{e:>4}{int(tree.slot_state[e]):>6}{int(tree.slot_block[e]):>6}  {' ∘ '.join(prefix[:-1]):<28} {prefix[-1]}{end}")

# %% [markdown]
# Check by hand: 7 states (*animal*, *cat* and the five attributes) and 14 slots, of which 8 end a
# path. The level of a slot is its depth. The packed form, `slot_log_probs`, computes all states of
# one level together, for the whole batch.
#
# Property: **the packed form equals the plain form**, for every path, for 50 pictures, and for three
# trees: breeds only; breeds and the coarse labels *cat* and *dog*, which are only reached; and all
# five labels evaluated, with *stop or go on* at *cat*.

# %% tags=["nbval-check-output"]
joint_tree = PrefixTree(graph, everything, n_evaluated=3)
for t, name in ((tree, "breeds only"), (joint_tree, "breeds, and coarse labels"), (big_tree, "all five evaluated")):
    packed = t.answer_log_probs(decoder.slot_log_probs(X[:50], t))  # [B, P]
    plain = torch.stack([decoder.steps_of_path(X[:50], t, path).sum(1) for path in t.paths], 1)  # [B, P]
    assert torch.allclose(packed, plain, atol=1e-10)
    total = t.path_log_probs(decoder.slot_log_probs(X[:50], t)).exp()[:, t.complete].sum(1)
    print(f"{name:<26}{len(t.paths):>3} paths, {int(t.complete.sum())} complete; these sum to {total.mean():.4f}")

# %% [markdown]
# And the number of GRU steps that each form needs, for the breeds. (The last node of a path is a breed. It is not
# fed, since nothing is asked below it.)

# %% tags=["nbval-check-output"]
print("GRU steps path by path:", sum(len(path) - 1 for path in tree.paths), "  in the tree:", len(tree.state_node))

# %% [markdown]
# On this graph of eleven nodes the tree needs less than a third of the steps. On the graphs of the
# experiments:

# %% tags=["nbval-check-output"]
for name, dataset in (("critters", "critters"), ("pet", "oxford-iiit-pet")):
    large = load_graph(name)
    t = PrefixTree(large, large.label_nodes(dataset))
    print(f"{name:<9} {len(t.paths):>4} paths: {sum(len(p) - 1 for p in t.paths):>5} steps path by path, {len(t.state_node)} in the tree")

# %% [markdown]
# ## 7 From paths to labels: exact probabilities
#
# A label is predicted by *any* path that ends in it, so its probability is a sum,
#
# $$p(y \mid x) = \sum_{P \text{ ends in } y} p(P \mid x), \qquad p(P \mid x) = \prod_t \frac{1}{n_{v_t}} \, p(v_{t+1} \mid v_t, f_t),$$
#
# with $n_v$ the number of questions at $v$. The tree has all paths, so the sum is exact: nothing is
# sampled.

# %% tags=["nbval-check-output"]
slot_logp = decoder.slot_log_probs(x[None], tree)  # [1, E]
p_path = tree.path_log_probs(slot_logp)[0].exp()  # [P]
p_label = torch.stack([p_path[tree.path_label == k].sum() for k in range(len(fine))])  # [K]
assert torch.allclose(p_label, tree.label_log_probs(slot_logp)[0].exp(), atol=1e-6)
assert torch.allclose(p_label.sum(), torch.tensor(1.0), atol=1e-6)
print({label: f"{p:.4f}" for label, p in zip(fine, p_label, strict=True)})

# %% [markdown]
# ## 8 Greedy and exact can disagree
#
# Algorithm 2 follows *one* path. A label with several ground-truth paths may be the most probable
# one although none of its steps is the largest on the way. For an example by hand we set the
# probabilities of the answers at *cat* and below ourselves.
#
# | at *cat* | | then: British Shorthair | Egyptian Mau | Birman |
# |---|---|---|---|---|
# | Shorthair | 0.4 | 0.9 | 0.1 | |
# | **Longhair** | **0.6** | | | 1 |
# | Solid-Color | 0.5 | 1 | | |
# | Tabby-Color | 0.3 | 0.9 | 0.1 | |
# | Point-Color | 0.2 | 0.5 | | 0.5 |
#
# The largest number at *cat* is 0.6: greedy goes to *Longhair* and must end at the **Birman**. But
#
# $$p(\text{British Shorthair}) = \tfrac12 (0.4 \cdot 0.9) + \tfrac12 (0.5 \cdot 1 + 0.3 \cdot 0.9 + 0.2 \cdot 0.5) = 0.18 + 0.435 = 0.615 .$$

# %%
BS, Mau = "British Shorthair", "Egyptian Mau"
step = {"cat": 1, "Shorthair": 0.4, "Longhair": 0.6, "Solid-Color": 0.5, "Tabby-Color": 0.3, "Point-Color": 0.2}
step |= {("Shorthair", BS): 0.9, ("Shorthair", Mau): 0.1, ("Longhair", "Birman"): 1, ("Solid-Color", BS): 1}
step |= {("Tabby-Color", BS): 0.9, ("Tabby-Color", Mau): 0.1, ("Point-Color", BS): 0.5, ("Point-Color", "Birman"): 0.5}
by_hand = torch.tensor([[step.get(p[-2:], step.get(p[-1])) for p in tree.prefixes]], dtype=torch.float64).log()  # [1, E]

# %% tags=["nbval-check-output"]
chosen = tree.paths[int(greedy(tree, by_hand)[0])]
exact = tree.label_log_probs(by_hand)[0].exp()
print("greedy path:", " ∘ ".join(chosen))
print("exact:      ", {label: f"{p:.4f}" for label, p in zip(fine, exact, strict=True)})
assert abs(exact[0] - (0.18 + 0.435)) < 1e-6 and chosen[-1] == "Birman"

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.8), layout="constrained", gridspec_kw={"width_ratios": [2, 1]})
p_hand, hue = tree.path_log_probs(by_hand)[0].exp(), ("#6f8fb5", "#c9a227", "#c8242f")
names = [" ∘ ".join(p[2:]) for p in tree.paths]
left.barh(names, p_hand, color=[hue[k] for k in tree.path_label])
left.invert_yaxis()
left.set(title="p(path)", xlim=(0, 0.35))
left.get_yticklabels()[tree.paths.index(chosen)].set_weight("bold")
right.bar(["British\nShorthair", "Egyptian\nMau", "Birman"], exact, color=hue)
right.set(title="p(label)", ylim=(0, 0.7))
plt.show()

# %% [markdown]
# **How to read it.** Left: the greedy path (bold) is the most probable single path. Right: the four
# blue paths together are more probable than it. Greedy finds a good *path*; the sum finds the best
# *label*. Accuracy counts labels, so our experiments report both.
#
# How often does it matter? For 2000 random pictures and our untrained decoder:

# %% tags=["nbval-check-output"]
many = decoder.slot_log_probs(torch.randn(2000, d), tree)
by_greedy = tree.path_label[greedy(tree, many)]
by_sum = tree.label_log_probs(many).argmax(1)
print(f"different labels: {int((by_greedy != by_sum).sum())} of 2000")

# %% [markdown]
# ## 9 An explanation of one prediction
#
# The paper's argument for paths (Sec. 4.3) is that a path *is* a decision process. Here it has one
# line for each step: the question, the answer, its probability, and the runner-up in the same block.

# %% tags=["nbval-check-output"]
for v, u, blocks in steps:
    question, answers = next((q, a) for q, a in blocks.items() if u in a)
    rest = sorted(((p, w) for w, p in answers.items() if w != u), reverse=True)
    runner_up = f"{rest[0][1]} {rest[0][0]:.4f}" if rest else "none"
    print(f"at {v:<12} {question:<9} {u:<18} {answers[u]:.4f}   runner-up: {runner_up}")

# %%
fig = drawing.draw_graph(graph, path=path)
plt.show()

# %% [markdown]
# **How to read it.** The red path on the graph is the same explanation as the lines above. Be careful
# with it: it shows which answers the decoder *gave*. It does not show which parts of the picture the
# encoder used. The greedy path may even end in another label than the one with the largest sum.

# %% [markdown]
# ## What to take away
#
# 1. The decoder is a GRU whose tokens are nodes; the picture sets its first state.
# 2. Because illegal answers are masked, every decoded path is a path of the graph to a label that may
#    be asked for.
# 3. A state belongs to a prefix, that is, to the first nodes of a path. So each prefix is scored once
#    for all paths that share it. The packed form equals the plain form.
# 4. Greedy maximises step by step; the label with the largest *summed* probability may be another.
#
# ## Exercises
#
# **1.** Change the answers to one question in the table of section 8 so that greedy and exact agree. Which change
# is the smallest? Check it.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
changed = by_hand.exp()
changed[0, [p[-1] for p in tree.prefixes].index("Shorthair")] = 0.51
changed[0, [p[-1] for p in tree.prefixes].index("Longhair")] = 0.49
for name, p in (("before", by_hand.exp()), ("after", changed)):
    print(f"{name:<7}", " ∘ ".join(tree.paths[int(greedy(tree, p.log())[0])]))

# %% [markdown]
# <details><summary>Why</summary>
#
# Greedy takes the largest number at *cat*: *Solid-Color* has 0.5, so it is enough to move the hair to
# 0.51 and 0.49 (the block must sum to 1). Then *Shorthair* has the largest number and leads to the
# British Shorthair with 0.9. Raising *Solid-Color* just above 0.6 is a change of one tenth as well.
# With a smaller change *Longhair* still has the largest number, and below *Longhair* there is only
# the Birman.
#
# </details>
#
# **2.** In the tree with breeds only, the block "species" at the root has one answer. What does it
# contribute to each path's probability, and would the answer be the same with all five labels?
#
# <details><summary>Solution</summary>
#
# With breeds only, $p(cat) = 1$ and the log-probability is 0: the step contributes nothing. With all
# five labels *dog* is legal, so $p(cat) < 1$, and the path may stop at *cat*. Every path to a breed
# has the further factor $p(cat) \cdot p(\text{go on})$. The ranking of the *breeds* is the same;
# their probabilities are not.
#
# </details>
#
# **3.** A chain graph: $L$ questions below each other, two answers each, all combinations allowed,
# so $2^L$ paths. How many GRU steps path by path, how many in the tree? What does greedy decoding
# need?
#
# <details><summary>Solution</summary>
#
# Path by path: $L \cdot 2^L$ steps. In the tree: one step for each prefix shorter than $L$, $2^L -
# 1$. Greedy: $L$. Sharing saves a factor of about $L$, but the tree itself grows exponentially in
# such a graph. Then one needs greedy decoding or a beam search. Our graphs have depth 3, so exact
# sums are cheap.
#
# </details>
#
# **4.** The most probable *path* is a third way to predict. Is it always the greedy path? Try it on
# the 2000 pictures.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
best_path = tree.path_log_probs(many).argmax(1)
taken = greedy(tree, many)
print("greedy is the most probable path for", int((best_path == taken).sum()), "of 2000 pictures")
log_p = tree.path_log_probs(many)
assert (log_p.max(1).values >= log_p.gather(1, taken[:, None])[:, 0]).all()

# %% [markdown]
# <details><summary>Why</summary>
#
# Not always: a confident first answer may lead to a node where the next one is uncertain. Greedy
# search does not always find the most probable sequence.
#
# </details>
