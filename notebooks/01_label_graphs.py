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
# # 01 · Label graphs: one graph for the labels of several datasets
#
# **What you will learn.** How *one graph over their labels* joins two datasets whose labels do not
# match. What a prediction path is. When a path is deterministic and when it is not (Definitions 3.1
# to 3.3). Notebook 04 trains the two kinds of paths differently. You will redraw the paper's Figures
# 1 and 2 and count what is in every graph of this companion.
#
# **What it needs.** Nothing but this repository: no data, no GPU, no earlier notebook. It follows
# Sections 1, 3.1 and 3.2.1 to 3.2.3 of the paper (arXiv 2106.09260).
#
# **How long it takes.** A few seconds to run, about half an hour to read.

# %% tags=["parameters"]
profile = "toy"  # str: the figures are written to figures/<profile>/

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import yaml

from companion import drawing
from companion.controls import trim
from companion.records import profiles
from labelaug_core.graph import GraphError
from labelaug_core.graph_file import GRAPHS, graph_from_dict, load_graph
from labelaug_core.joining.report import label_relations
from companion.tables.writing import write_figure

profiles.check_parameters(globals(), ["profile"])

# %% [markdown]
# ## 1 The problem: two datasets, two label sets
#
# Dataset $D_A$ has pictures of cats with their **breed**; dataset $D_B$ has pictures of cats and
# dogs with their **species**. Ordinary deep learning trains two networks (Sec. 3.1):
#
# $$f^a: X^a \to Y^a, \qquad f^b: X^b \to Y^b .$$
#
# Why not use one softmax over both label sets? Because a softmax makes all its classes **compete**:
# raising *cat* lowers *Birman*. But a Birman *is* a cat. The two labels differ in **granularity**;
# they do not exclude each other.
#
# The paper does not change the network but the labels: put all of them on one graph, add nodes for
# what they have in common (hair, colour), and let the network predict a **path** from the root to a
# label. The [glossary](glossary.md) explains the words.
#
# Here is the graph of this notebook as a YAML table. It has eleven nodes, few enough to remember. The
# knowledge is data: you can correct it without changing code.

# %%
text = """
name: cats
root: animal
groups:
  species: {question: "Which animal is it?", below: animal, nodes: [cat, dog]}
  hair: {question: "How long is its hair?", below: cat, nodes: [Shorthair, Longhair]}
  color: {question: "What is its pattern?", below: cat, nodes: [Solid-Color, Tabby-Color, Point-Color]}
  breed:
    question: Which breed is it?
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

# %% [markdown]
# A **group** is one question with one answer: an animal is a cat or a dog, its hair is short or long.
# `below` says where the question is asked. The table of breeds has one column for each question: a
# Birman has long hair and a pointed coat. A *list* in a cell means that the breed comes in several
# kinds: a British Shorthair may be solid, tabby or pointed, and the breed alone does not say which.
# Because of such lists the paper needs policy gradients (notebook 04).
#
# Figure 1 compares the two ways of learning.

# %%
path = ("animal", "cat", "Shorthair", "British Shorthair")
fig = drawing.figure_1(graph, path, fine="breeds", coarse="species")
write_figure(fig, profile, "figure1")
plt.show()

# %% [markdown]
# **Figure 1, and how to read it.** *Top:* two networks, two flat lists; the grey cat's label is
# *British Shorthair*, the ginger cat's is *cat* (red outlines: the targets), and neither network
# learns anything from the other's pictures. *Bottom:* blue nodes are labels of dataset a, yellow
# ones of dataset b, green and pink ones are **augmented**: they are labels of no dataset, and come
# from knowledge of cats. The grey cat's target is the red path. The ginger cat's target is its first
# step, *animal → cat*: the coarse picture helps to train a step that the fine picture takes, too.
# This shared step joins the datasets.
#
# (The colours follow the paper's caption of Figure 1. In all other drawings, as in its Figure 2:
# root yellow, labels green, augmented nodes blue.)

# %% [markdown]
# ## 2 The graph $G = (V, E)$
#
# The paper builds it in four steps (Sec. 3.2.1): (1) start with the root, $V = \{v_0\}$; (2) add
# the labels of both datasets; (3) add augmented nodes, from domain knowledge; (4) add the edges. In
# one line:
#
# $$V = \{v_0\} \cup Y_a \cup Y_b \cup Y_{aug}, \qquad E \subseteq V \times V, \qquad N_v = |V|, \quad N_e = |E| .$$
#
# The code of that line, with the graph's own lists:

# %% tags=["nbval-check-output"]
v0, Y_aug = graph.root, graph.augmented
Y_a, Y_b = graph.label_nodes("breeds"), graph.label_nodes("species")
E = [(parent, v) for v in graph.nodes for parent in graph.parents[v]]
print("v0    =", v0)
print("Y_a   =", Y_a)
print("Y_b   =", Y_b)
print("Y_aug =", Y_aug)
print("N_v =", len(graph.nodes), "  N_e =", len(E))

# %% [markdown]
# Check by hand: 1 root + 3 breeds + 2 species + 5 attributes = 11 nodes. Edges: 2 below *animal*, 5
# below *cat*, and one for each cell entry of the table: 4 for the British Shorthair, 2 for the Mau,
# 2 for the Birman: 2 + 5 + 8 = 15.
#
# Two properties must hold for any label graph: the four sets make up $V$ with nothing left over, and
# the edges have no cycle (otherwise a path could be endless). We assert both.

# %%
assert {v0} | set(Y_a) | set(Y_b) | set(Y_aug) == set(graph.nodes)
seen = set()
for v in graph.nodes:  # parents come first in the file, so one pass finds any cycle
    assert set(graph.parents[v]) <= seen
    seen.add(v)

# %% [markdown]
# > **Deviation from the paper.** Section 3.2.1 assumes that the label sets do not overlap, $Y_a
# > \cap Y_b = \emptyset$; Section 4.1 then uses flowers of which 8 labels are in both. We allow
# > both cases: a label is a *node*, and any number of datasets may put a class on it. A label may
# > also be an **inner** node, as *cat* is here. The paper allows several labels on one path (Section
# > 3.2.2), but it does not say where such a path stops.
#
# The children of a node form **questions**: their competing groups. Below *cat* there are two, and
# they are independent of each other. Notebook 02 is about this fact.

# %% tags=["nbval-check-output"]
for v in ("animal", "cat", "Shorthair"):
    for group, answers in graph.blocks(v).items():
        print(f"at {v:<10} {graph.question[group]:<23} {', '.join(answers)}")

# %% [markdown]
# Note the last line: at *Shorthair* the question "which breed?" has only two answers left, because
# a Birman is not a child of *Shorthair*. Each answer makes the later questions smaller.
#
# A network can be trained on a wrong graph without any error. So every rule is checked when the file
# is read, and the message names the file, the node and the rule. Here we misspell a colour.

# %% tags=["nbval-check-output"]
try:
    graph_from_dict(yaml.safe_load(text.replace("[Longhair, Point-Color]", "[Longhair, Pointed]")), "cats.yaml")
except GraphError as error:
    print(error)

# %% [markdown]
# ## 3 Prediction paths
#
# A **prediction path** runs from the root to a label and is closed by the token $\langle
# eop\rangle$, "end of path" (Sec. 3.2.2):
#
# $$P(v) = v_0 \circ v_1 \circ \dots \circ v \circ v_{\langle eop \rangle} .$$
#
# The **ground-truth paths** of a sample $(x, y)$ are *all* paths to the node $v$ of its label $y$.
# A recursion lists them: the paths to $v$ are the paths to each parent of $v$, with $v$ appended.

# %% tags=["nbval-check-output"]
def paths_to(v):
    """All paths v0 -> ... -> v, each a tuple of node names."""
    if v == graph.root:
        return [(v,)]
    return [(*path, v) for parent in graph.parents[v] for path in paths_to(parent)]


for path in paths_to("British Shorthair"):
    print(" ∘ ".join(path))

# %% [markdown]
# There are four paths: one through its hair, three through its possible colours, as in the paper's
# example. A path answers *one* question below *cat*, not both: it is one of several ways to arrive at
# the breed, not a full description of the animal.
#
# Property: the core lists the same paths. To count them, no list is needed: the number of paths to
# $v$ is the sum of the numbers of paths to its parents.

# %% tags=["nbval-check-output"]
for label in graph.label_nodes():
    assert set(graph.paths(label)) == set(paths_to(label))
    assert graph.count_paths(label) == len(paths_to(label))
    print(f"{label:<18} {graph.count_paths(label)} path(s)")

# %% [markdown]
# > **Deviation from the paper.** The paper closes every path with $\langle eop \rangle$, also the path
# > of a coarse label. We treat the two kinds of label differently. At an **evaluated** label, one that
# > a test may ask for, a path can stop: with certainty where nothing is left below, else by a learned
# > decision (notebook 02). A **coarse** label means "at least this". Its path *animal ∘ cat* is only
# > **reached**: the picture may show any cat, so nothing teaches the network to stop there.

# %% [markdown]
# ## 4 Competing nodes (Definition 3.1)
#
# > *u and w are competing nodes when u and w share a same ancestor node, and they are mutually
# > exclusive in the taxonomy.*
#
# Read the first half literally: the root is an ancestor of every node, so *every* pair shares one.
# Then only "mutually exclusive in the taxonomy" is left, and the edges do not show that. *Shorthair*,
# *Longhair* and *Tabby-Color* have the same parent. But *Shorthair* excludes *Longhair* and does not
# exclude *Tabby-Color*.
#
# > **Deviation from the paper.** Competition is an **annotation**, not a property of the edges: the
# > YAML file names the groups, and $u$ and $w$ compete if and only if $u \neq w$ and $group(u) =
# > group(w)$. (Groups marked `exclusive: false`, such as arXiv's cross-listed categories, have no
# > competing members at all.) This is what the paper's example does in words, "which can be named
# > as Hair group".

# %% tags=["nbval-check-output"]
def competing(u, w):
    """Definition 3.1, with groups as annotation; the root is in no group."""
    return u != w and graph.group.get(u, "no group of u") == graph.group.get(w, "no group of w")


for u, w in (("Shorthair", "Longhair"), ("Shorthair", "Tabby-Color"), ("Tabby-Color", "Point-Color"), ("cat", "Birman")):
    print(f"{u} / {w}: {competing(u, w)}")

# %% [markdown]
# Under the literal reading all 45 pairs below the root compete. Then no label that has two paths would
# have a deterministic one, since *Shorthair* would compete with *Tabby-Color* (section 5 says why that
# matters).

# %% tags=["nbval-check-output"]
pairs = list(combinations(graph.nodes[1:], 2))
share_ancestor = [bool(graph.ancestors(u) & graph.ancestors(w)) for u, w in pairs]
print("pairs:", len(pairs), "  share an ancestor:", sum(share_ancestor), "  compete:", sum(competing(u, w) for u, w in pairs))

# %% [markdown]
# By hand: the groups have 2, 2, 3 and 3 members, which makes 1 + 1 + 3 + 3 = 8 competing pairs.

# %% [markdown]
# ## 5 Deterministic and nondeterministic paths (Definitions 3.2 and 3.3)
#
# A path $P(v)$ is **nondeterministic** if there is *another* path $P'(v)$ to the same label with $u
# \in P(v)$, $w \in P'(v)$ and $u, w$ competing. Otherwise it is **deterministic**.
#
# In plain words: the label is given. For each node on the path we ask: can a picture with this label
# have another answer here? All British Shorthairs have short hair, so the path through *Shorthair* is
# right for each of their pictures. The path through *Tabby-Color* is right for some pictures and
# wrong for others, and the label does not say for which.

# %% tags=["nbval-check-output"]
def is_deterministic(path, ground_truth):
    """Definition 3.2: no *other* path to the label carries a competitor of any of its nodes."""
    others = [other for other in ground_truth if other != path]
    return not any(competing(u, w) for other in others for u in path for w in other)


for path in paths_to("British Shorthair"):
    kind = "deterministic" if is_deterministic(path, paths_to("British Shorthair")) else "nondeterministic"
    print(f"{kind:<17} {' ∘ '.join(path)}")

# %% [markdown]
# Check one by hand: for the path through *Tabby-Color*, another path to the same label runs through
# *Solid-Color*, and the two compete: nondeterministic. For the path through *Shorthair*, a
# competitor would be *Longhair*, and no path to *British Shorthair* runs through it: deterministic.
# Exactly the paper's count: **1 deterministic, 3 nondeterministic**.
#
# Property: the core's faster version (it counts on how many of a label's paths each node lies,
# instead of comparing all pairs of paths) agrees with the definition for every label.

# %%
for label in graph.label_nodes():
    truth = paths_to(label)
    certain, uncertain = graph.split_paths(label)
    assert certain == [p for p in truth if is_deterministic(p, truth)]
    assert uncertain == [p for p in truth if not is_deterministic(p, truth)]

# %% [markdown]
# Here is the whole little graph. An edge is **dashed** if it lies on nondeterministic paths only.

# %%
fig = drawing.draw_graph(graph)
plt.show()

# %% [markdown]
# **How to read it.** Follow the edges *into* a label. A solid edge means that every picture of the
# label has this answer. A dashed edge means that some of them have it. *Tabby-Color → Egyptian Mau*
# is solid and *Tabby-Color → British Shorthair* is dashed: **determinism is a property of a path, not
# of a node**. So the Mau's pictures can teach the network what tabby looks like. Then it may decide
# for each picture whether a British Shorthair is tabby, although no label says the colour of a
# British Shorthair. Section 4.4 of the paper uses this effect.
#
# A highlighted path shows one prediction, or one explanation, in its context.

# %%
fig = drawing.draw_graph(graph, path=("animal", "cat", "Tabby-Color", "Egyptian Mau"))
plt.show()

# %% [markdown]
# **How to read it.** The red path is one of the Mau's two deterministic paths. At *cat* it answered
# the question "what is its pattern?" and left "how long is its hair?" unasked.

# %% [markdown]
# ## 6 Figure 2: the same on the real pet graph
#
# Now the graph that the pet experiments use: 37 breeds of Oxford-IIIT Pet and the 2 species of Dogs
# vs. Cats. We draw the part that the paper's Figure 2 shows: the root, two labels (*cat* of one
# dataset, *British Shorthair* of the other) and the five attributes of the hair and colour groups
# that the paper names.

# %%
pet = load_graph("pet")
names = ["animal", "cat", "Shorthair", "Longhair", "Solid-Color", "Tabby-Color", "Point-Color", "British Shorthair"]
fig = drawing.draw_graph(pet, labels=["British Shorthair", "Persian"], nodes=names)
write_figure(fig, profile, "figure2")
plt.show()

# %% [markdown]
# **Figure 2, and how to read it.** From *cat* down to *British Shorthair* one way is solid (short
# hair) and three are dashed (the colours). *Longhair* is drawn because it competes with
# *Shorthair*; it leads to other breeds.
#
# > **Deviation from the paper.** The paper's label graphs were never published. Ours are written
# > from breed standards (the sources are listed in each file) and keep the cells that the paper
# > names. So they are larger than Figure 2: a British Shorthair is also asked for its marking,
# > white, eyes, ears, head and body.

# %% tags=["nbval-check-output"]
certain, uncertain = pet.split_paths("British Shorthair")
print(len(certain), "deterministic and", len(uncertain), "nondeterministic paths; the deterministic ones:")
for path in certain:
    print("  ", " ∘ ".join(path))

# %%
fig = drawing.draw_graph(pet, labels=["British Shorthair"], sideways=True)
plt.show()

# %% [markdown]
# **How to read it.** Read from left to right. Each frame is a question. If a frame has a single node
# (hair, head, body), the breed determines the answer. If a frame has several nodes, only the picture
# shows the answer.

# %% [markdown]
# ## 7 How two datasets meet
#
# With both label sets on one graph, the ancestors say which label is coarser than which. No label of
# the one set needs to equal a label of the other.

# %% tags=["nbval-check-output"]
report = label_relations(graph, fine="breeds", coarse="species")
for what in ("shared", "coarser", "unrelated"):
    print(f"{what:<10}{report[what]}")

# %% [markdown]
# *cat* is coarser than all three breeds. *dog* is related to none of them, but a picture of a dog still
# teaches the first question. Look at this report first when you join two datasets of your own
# (notebook 99). What a coarse picture teaches is the subject of notebook 05.

# %% [markdown]
# ## 8 Every graph we ship, in numbers
#
# For each file in `labelaug_core/graphs/`: nodes, edges, groups, labels (each node once),
# the mean number of paths per label, and the share of these paths that is nondeterministic. *Teacher
# forcing* feeds the right answer at every step and asks for the next one. So it needs to know the right
# answer, and it cannot use the nondeterministic paths.

# %% tags=["nbval-check-output"]
print(f"{'graph':<11}{'nodes':>6}{'edges':>7}{'groups':>8}{'labels':>8}{'paths/label':>13}{'nondeterministic':>18}")
shipped = {file.stem: load_graph(file.stem) for file in sorted(GRAPHS.glob("*.yaml"))}
for name, g in shipped.items():
    labels = g.label_nodes()
    split = [g.split_paths(label) for label in labels]
    n_certain, n_uncertain = sum(len(c) for c, _ in split), sum(len(u) for _, u in split)
    n_paths = n_certain + n_uncertain
    numbers = f"{len(g.nodes):>6}{sum(map(len, g.parents.values())):>7}{len(g.exclusive):>8}{len(labels):>8}"
    print(f"{name:<11}{numbers}{n_paths / len(labels):>13.2f}{n_uncertain / n_paths:>17.1%}")

# %% [markdown]
# The breeds differ much from the average. For the pet graph, label by label:

# %%
split = {label: pet.split_paths(label) for label in pet.label_nodes("oxford-iiit-pet")}
order = sorted(split, key=lambda label: -len(split[label][1]))
certain, uncertain = ([len(split[label][i]) for label in order] for i in (0, 1))
fig, ax = plt.subplots(figsize=(10, 3.4), layout="constrained")
ax.bar(order, certain, color="#6f8fb5", label="deterministic")
ax.bar(order, uncertain, bottom=certain, color="#f4c1d6", hatch="//", edgecolor="#b86f8f", label="nondeterministic")
ax.tick_params(axis="x", rotation=90, labelsize=8)
ax.set(ylabel="ground-truth paths", title="Paths of the 37 breeds in the pet graph")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **How to read it.** Left: breeds that come in many kinds. Their label determines about half of the
# answers or fewer. Right: breeds whose label determines every answer (a plain bar). From these the network can
# learn what an attribute looks like, and it can use that for the breeds on the left.
#
# The ablation of the paper's Section 4.5 makes graphs smaller, by 36 % and by 63 % of the augmented
# nodes.
#
# > **Deviation from the paper.** It does not say which nodes were removed. Our rule removes one
# > question after the other, first those whose answer the label determines least often. The last one
# > can lose a part of its answers. Every label stays reachable.

# %% tags=["nbval-check-output"]
for fraction in (0.0, 0.36, 0.63):
    small = trim(pet, fraction)
    n_paths = sum(small.count_paths(label) for label in small.label_nodes())
    print(f"trim {fraction:.2f}: {len(small.augmented):>3} augmented nodes, {n_paths:>4} paths to {len(small.label_nodes())} labels")

# %% [markdown]
# ## 9 The symbols, on one page
#
# The table has the paper's letters, with the shapes that the comments of notebooks 02 to 06 give. Some
# letters have two meanings. With a time $f$ is a state, without one the features. $S_u$ is a set of
# competitors, $S$ a set of labels. $P$ is a path, and in a shape the number of paths. $E$ is the number of slots
# in a shape, the edges in $G = (V, E)$, and $\mathbb{E}$ is an expectation.
#
# | symbol | shape | what it is |
# |---|---|---|
# | $G = (V, E)$, $v_0$, $\langle eop \rangle$ | $N_v$ nodes, $N_e$ edges | the label graph, its root, the end of a path |
# | $P(v)$, $\hat P$ | a tuple of nodes | a ground-truth path to $v$; a path that the model took |
# | $S_u$; $S$ | sets of nodes | the competitors of $u$ and $u$ itself; the labels of one sample |
# | $x$, $y$ | [B, d]; [B] | a batch of features (in 03, 04: $x$ stands for $f = g_{enc}(x)$); its labels |
# | $e_t$, $f_t$ | [B, H] | the vector of the node fed at step $t$; the decoder's state after it |
# | $z_u$, $p_u$ | [B, E] | score and block softmax of each **slot**: an answer at one place of the tree of all paths |
# | $p(P)$, $r(P)$ | [B, P] | probability and reward of each of the $P$ paths |
# | $p(y)$ | [B, K] | probability of each of the $K$ labels, summed over its paths; of a coarse label: that it is reached |
# | $n_v$ | [states] | the number of questions at a node ($\langle eop \rangle$ is not a question) |
# | $b$; $\alpha$, $\beta$; $r_{tf}$ | numbers | baseline; weights of $L_d$ and $L_{nd}$; teacher-force rate |
#
# In the comments, `[B, E]` means a tensor with $B$ rows and $E$ columns: $B$ samples, $E$ slots,
# $N$ nodes, $d$ features, $H$ numbers in a state.
#
# ## What to take away
#
# 1. Labels of different datasets become nodes of one graph; augmented nodes connect them.
# 2. A prediction is a path. A label can have several ground-truth paths, one for each way of arriving at it.
# 3. Competition is knowledge (groups), not structure (edges).
# 4. A path is deterministic if the label alone determines every answer on it. Teacher forcing can use
#    only such paths.
#
# ## Exercises
#
# **1.** Birmans also come with tabby points ("lynx points"). Give the Birman a second colour,
# *Tabby-Color*. Before you run anything: how many paths has it now, and which of them are
# deterministic? Does the change touch the Mau?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
changed = text.replace("Birman: [Longhair, Point-Color]", "Birman: [Longhair, [Point-Color, Tabby-Color]]")
lynx = graph_from_dict(yaml.safe_load(changed), "cats.yaml")
for label in ("Birman", "Egyptian Mau"):
    print(label, [len(paths) for paths in lynx.split_paths(label)], "deterministic, nondeterministic")

# %% [markdown]
# <details><summary>Why</summary>
#
# The Birman has three paths: *Longhair* stays deterministic, the two colours become nondeterministic.
# The path through *Point-Color* is no longer deterministic, although nothing on it changed:
# determinism depends on the *other* paths. The Mau's two paths to itself are untouched.
#
# </details>
#
# **2.** Suppose a path had to answer *all* questions in turn (hair, then colour, then ...) instead of
# one of them. How many paths would the British Shorthair have in the little graph, and how many in
# the pet graph? How many paths would be deterministic?
#
# <details><summary>Solution</summary>
#
# The number of paths would be a *product* over the questions instead of a sum: 1 × 3 = 3 in the
# little graph, and 1 · 3 · 4 · 2 · 3 · 2 · 1 · 1 = 144 in the pet graph, against the sum, which is
# 1 + 3 + 4 + 2 + 3 + 2 + 1 + 1 = 17 now. All of them would contain a colour, so all of them would be
# nondeterministic, and teacher forcing could use none. With one question per path the certain answers
# stay separate from the uncertain ones.
#
# </details>
#
# **3.** A third dataset labels pictures by hair length only. Add it to the YAML text in one line.
# What does the join report say about it and the breeds?

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
three = graph_from_dict(yaml.safe_load(text + "  lengths: {groups: [hair]}\n"), "cats.yaml")
print(label_relations(three, fine="breeds", coarse="lengths")["coarser"])
print("augmented nodes left:", three.augmented)

# %% [markdown]
# <details><summary>Why</summary>
#
# *Shorthair* and *Longhair* were augmented nodes and are labels now, coarser than the breeds below
# them. Nothing else changes: a node is a label if some dataset has it as a class, and an augmented
# node otherwise.
#
# </details>
#
# **4.** Definition 3.2 speaks of *another* path to the label. What would go wrong if we also compared
# a path with itself? What if we compared only nodes at the same depth?
#
# <details><summary>Solution</summary>
#
# Comparing a path with itself changes nothing as long as no path carries two members of one group;
# in a taxonomy where a group spans two levels (say *Tabby-Color* above *Spotted-Tabby*, both called
# "color") such a path would contradict itself and never be deterministic. Comparing equal depths
# only would miss competitors that one path meets early and another late, for instance if one breed
# reached its colour through an extra node.
#
# </details>
