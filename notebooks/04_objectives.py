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
# # 04 · Objectives: teach what is certain, reward what is not
#
# **What you will learn.** Teacher forcing on deterministic paths (Eq. 2) and its minibatch modes, and
# why it must not be used on nondeterministic ones. The reward (Eq. 3) and REINFORCE (Eq. 4, 5),
# derived in four lines and compared with the exact gradient: on a little graph we can sum over *all*
# paths. What a baseline does, and when it increases the noise. Why a policy-gradient loss is not a
# loss. Two exact objectives that need no sampling. Algorithm 1, what has to be changed in it, and one
# of its steps with every number.
#
# **What it needs.** Paths and determinism ([01](01_label_graphs.ipynb)), the path distribution
# ([02](02_block_softmax.ipynb)), the decoder ([03](03_decoder.ipynb)) and the chain rule. It needs
# no knowledge of reinforcement learning, no data and no GPU.
#
# **How long it takes.** About ten seconds to run, three quarters of an hour to read.

# %% tags=["parameters"]
seed = 0  # int: of the weights and of every sampled path
hidden = 6  # int: H, size of the decoder's state
steps = 150  # int: training steps of the two small trainings

# %%
import matplotlib.pyplot as plt
import torch
import yaml

from labelaug_core import losses
from companion.records import profiles
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.decoder import PathDecoder
from labelaug_core.graph_file import graph_from_dict
from labelaug_core.label_aug import PathHead, PathSettings
from labelaug_core.prefix_tree import PrefixTree

profiles.check_parameters(globals(), ["seed", "hidden", "steps"])
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
labels = graph.label_nodes()  # British Shorthair, Egyptian Mau, Birman; then the coarse labels cat, dog
tree = PrefixTree(graph, labels, n_evaluated=3)

# %% [markdown]
# ## 1 What is certain about each label
#
# There are five labels and ten paths. A path is **deterministic** if the label alone determines every
# answer on it (Def. 3.2). The breeds are evaluated. *cat* is a coarse label, so its path is only
# **reached**: it may continue to any breed (notebook 02). The other nine paths are **complete**, and
# their probabilities sum to 1.

# %% tags=["nbval-check-output"]
for i, path in enumerate(tree.paths):
    kind = "deterministic   " if tree.deterministic[i] else "nondeterministic"
    print(f"path {i}: {kind} {'complete' if tree.complete[i] else 'reached '} {' ∘ '.join(path[1:])}")

# %% [markdown]
# To compute by hand we use the scores of notebook 02 in place of a network. Each node has one score,
# and $e^z$ is a small whole number. At *animal* cat has 4/5. At *cat* the hair has 3/4 and 1/4, and
# the colours have 1/4, 2/4 and 1/4. The breeds have the weights 2 (British Shorthair), 1 and 1.

# %%
weight = {"cat": 4, "Shorthair": 3, "Tabby-Color": 2, "British Shorthair": 2}  # exp(z); 1 for all others
z_node = torch.tensor([float(weight.get(v, 1)) for v in (*graph.nodes, "<eop>")]).log()  # [N + 1]
by_hand = block_log_softmax(z_node[tree.slot_node], tree.slot_block)[None]  # [1, E] slot log-probabilities

# %% [markdown]
# ## 2 Teacher forcing (Eq. 2)
#
# On a deterministic path every token is known to be right, so it is a sequence to be learned like a
# translation: feed the right token, ask for the next one, and sum up the log-probabilities:
#
# $$L_d = -\sum_t \log p(v_{t+1} \mid v_t, f_t) \tag{2}$$

# %% tags=["nbval-check-output"]
slot_of = {prefix: e for e, prefix in enumerate(tree.prefixes)}


def L_d(slot_logp, path):
    """Eq. 2 for one path: slot_logp [E]."""
    return -sum(slot_logp[slot_of[path[: t + 2]]] for t in range(len(path) - 1))


for i in (2, 3, 7):
    print(f"{L_d(by_hand[0], tree.paths[i]):.4f}  {' ∘ '.join(tree.paths[i])}")

# %% [markdown]
# By hand, the first one: $-\log(\frac45 \cdot \frac34 \cdot \frac23) = -\log 0.4 = 0.9163$.
#
# > **Deviation from the paper.** In Algorithm 1 the loss of step $i$, $-\log p(t_i \mid \dots)$, is
# > computed *before* $t_i$ is set. We take the ground-truth node $v_i$ in the loss, then feed $v_i$
# > (or the model's own answer, see below). The probability of the *question*, $1/n_v$, is a
# > constant without gradient; Eq. 2 leaves it out, and so do we here.
#
# **A label with several deterministic paths.** The Mau has two, through *Shorthair* and
# *Tabby-Color*. Section 4.5 compares three ways to use them: the `mean`, the `sum`, or one drawn at
# `random`; `n_p` caps how many are used.

# %% tags=["nbval-check-output"]
y = torch.tensor([labels.index("Egyptian Mau")])  # [B] with B = 1
targets = losses.deterministic_paths(tree, y)  # [B, P]: paths 3 and 7
path_logp = tree.answer_log_probs(by_hand)  # [B, P]
a, b = (float(L_d(by_hand[0], tree.paths[i])) for i in (3, 7))
for mode in ("mean", "sum", "random"):
    loss = losses.teacher_forcing(path_logp, targets, mode, generator=torch.Generator().manual_seed(seed))
    print(f"{mode:<7} {loss:.4f}")
print(f"by hand: a = {a:.4f}, b = {b:.4f}, (a + b)/2 = {(a + b) / 2:.4f}, a + b = {a + b:.4f}")

# %% [markdown]
# `random` is right *on average*: it is a or b with probability 1/2 each. `sum` gives a label with
# many deterministic paths more weight than a label with few. A sample without any deterministic path
# adds no loss.
#
# **The teacher-force rate $r_{tf}$.** After training, the decoder is fed its own answers. It never
# saw them in training if it was always fed the true ones. So Algorithm 1 draws a random number, its
# "coin": with probability $r_{tf}$ it feeds the true node, else the model's best answer. The loss
# still asks for the true node; only the input of the *next* step changes. Our default is $r_{tf} = 1$: the
# true node is always fed. (Table 4, notebook 23, has $r_{tf} = 0.5$.)
#
# > **Deviation from the paper.** Algorithm 1 draws one coin for the whole batch (`coin="batch"`, our
# > default). One coin for each step (`coin="step"`) is usual elsewhere and is an option. The model's
# > own answer is its best *to the question on the path*, not the best of the union of blocks.

# %% tags=["nbval-check-output"]
decoder = PathDecoder(graph, 3, hidden)
for parameter in decoder.parameters():
    torch.nn.init.normal_(parameter, std=0.7)
x = torch.eye(3)  # one "picture" for each breed   [B, d]
for coin in (True, False):
    forced = torch.full((len(tree.levels),), coin)  # [T]: the coin of each step
    logp = decoder.sequence_log_probs(x[1:2], tree, torch.tensor([7]), forced)
    print(f"feed {'the truth    ' if coin else 'its own guess'}: L_d = {-logp.item():.4f}")

# %% [markdown]
# ## 3 Why not force the uncertain paths too?
#
# A British Shorthair may be solid, tabby or pointed. Suppose we forced all three of its colour
# paths, for every picture. The colour block then has the loss $-\log p_1 - \log p_2 - \log p_3$ for
# each picture, whatever the picture shows. Here is that loss for a sure and correct answer about a
# solid cat, and for equal probabilities:

# %% tags=["nbval-check-output"]
for name, p in (("sure and correct", [0.98, 0.01, 0.01]), ("undecided", [1 / 3, 1 / 3, 1 / 3])):
    print(f"{name:<17} {-torch.tensor(p).log().sum():.4f}")

# %% [markdown]
# The minimum of this loss is at 1/3 each ($3 \log 3 = 3.2958$). The sure and correct answer has a
# larger loss. So forcing would teach the network to ignore the picture. It would also work against
# what the deterministic paths of the Mau teach about *Tabby-Color*. For uncertain paths the network
# must choose an answer itself. Afterwards it gets a reward if its path ends at the label.
#
# ## 4 The reward (Eq. 3)
#
# $$r(\hat P) = \frac{1}{|S|} \, |\hat P \cap S| \tag{3}$$
#
# with $S$ the ground-truth **label** nodes of the sample: the reward is the share of these labels
# that the path goes through. The colours are not labels, so a path through any colour gets the reward
# if it ends at the label. For three kinds of $S$, and all complete paths:

# %% tags=["nbval-check-output"]
def r(path, S):
    """Eq. 3."""
    return len(set(path) & set(S)) / len(S)


sets = (["British Shorthair"], ["cat"], ["cat", "British Shorthair"])
complete = tree.complete.nonzero()[:, 0].tolist()  # indices of the nine complete paths
for i in complete:
    print(*(f"{r(tree.paths[i], S):.1f}" for S in sets), " ", " ∘ ".join(tree.paths[i][1:]))

# %% [markdown]
# First column: four paths end at the British Shorthair. Second: a coarse sample (*cat*) rewards every
# path through *cat*, also those that go on to some breed. Third: two labels, half a reward for each.
# The core computes a whole row at once:

# %%
for S in sets:
    multi_hot = torch.tensor([[float(v in S) for v in labels]])  # [B, K]
    assert losses.reward(tree, multi_hot)[0, complete].tolist() == [r(tree.paths[i], S) for i in complete]

# %% [markdown]
# > **Deviation from the paper.** The paper does not say what $S$ is for a coarse sample, nor whether
# > such a sample is taught by Eq. 2 or rewarded by Eq. 3. The path *animal ∘ cat* is deterministic,
# > so by default Eq. 2 teaches it, and nothing below *cat* (`coarse="path"`, notebook 05). With
# > `coarse="reward"` every path through *cat* is rewarded. Algorithm 1 writes $r(t_{n-1})$, the
# > reward of one token; we use Eq. 3, the reward of the path.
#
# ## 5 What we want to minimise (Eq. 4), and what we can compute
#
# $$L_{nd} = -\mathbb{E}_{\hat P \sim p(P)} \, r(\hat P) = -\sum_P p(P) \, r(P) \tag{4}$$
#
# In the language of reinforcement learning the decoder is an **agent**, an answer is its **action**,
# and $p(P)$, the rule by which it acts, is its **policy**. Only the end of a path is rewarded. A
# **policy gradient** is the gradient of the expected reward with respect to the policy's weights.
#
# For the scores by hand and $S = \{\text{British Shorthair}\}$ this is minus the probability of the
# label: $-(0.2 + 0.1 + \frac{2}{15} + \frac{1}{15}) = -\frac12$ (the four paths of notebook 02).

# %% tags=["nbval-check-output"]
y_bs = torch.tensor([0])
reward = losses.reward(tree, y_bs)  # [1, P]
log_p = tree.path_log_probs(by_hand)  # [1, P]
print(f"-E[r]              = {-(log_p.exp() * reward).sum():.4f}   core: {losses.expected_reward(log_p, reward):.4f}")
print(f"-E[r log p]        = {-(log_p.exp() * reward * log_p).sum():.4f}")
print(f"-sum of r log p    = {-(reward * log_p).sum():.4f}")

# %% [markdown]
# > **Deviation from the paper.** Eq. 4 also has "$= -\sum \log p(\hat P)\, r(\hat P)$". The three
# > numbers above show that this is not the expectation, under either reading of the sum. It is a
# > **surrogate**: a different quantity whose *gradient*, for a sampled path, is right on average, as
# > we now derive.
#
# On our graphs we *can* sum over all paths. If there are too many paths, we must sample. But a
# sampled path is a discrete choice, and we cannot differentiate through it. Williams (1992) gives a
# solution in four lines. Here $\theta$ stands for all weights:
#
# $$\begin{aligned}
# \nabla_\theta \, \mathbb{E}[r] &= \nabla_\theta \sum_P p(P)\, r(P) && \text{the definition} \\
# &= \sum_P r(P)\, \nabla_\theta\, p(P) && r \text{ does not depend on } \theta \\
# &= \sum_P r(P)\, p(P)\, \nabla_\theta \log p(P) && \text{since } \nabla \log p = \nabla p / p \\
# &= \mathbb{E}\big[ r(\hat P)\, \nabla_\theta \log p(\hat P) \big] && \text{an expectation again: sample it.}
# \end{aligned}$$
#
# So: draw one path, compute $-r(\hat P) \log p(\hat P)$ and call `backward`. On average the
# gradient is that of $-\mathbb{E}[r]$.
#
# **The baseline.** Any constant $b$ may be subtracted from the reward, because $\mathbb{E}[b\,
# \nabla \log p] = b \sum_P \nabla p(P) = b\, \nabla 1 = 0$: the average stays, the spread changes
# (section 7).
#
# > **Deviation from the paper.** Eq. 5 reads $\partial L_{nd} / \partial f_t = (r(\hat P) - b(r))\,
# > p(\hat v_{t+1} \mid \hat v_t, f_t)$. It lacks the logarithm, the derivative and the minus sign;
# > Algorithm 1 has no $b$. We follow Williams: $L = -(r - b) \log p(\hat P)$, and $b$ has no
# > gradient.

# %%
def reinforce(log_p_path, r_path, b):
    """The surrogate for one sampled path: scalars in, a scalar out that is only good for its gradient."""
    return -(r_path - b) * log_p_path

# %% [markdown]
# ## 6 REINFORCE against the exact gradient, over all complete paths
#
# We can compute the mean of the estimator exactly: weight the gradient that *each possible sample*
# would give by the probability of drawing that sample. This must equal the gradient of Eq. 4, for
# **any** constant $b$. We take the random decoder and the picture of the British Shorthair.

# %%
def gradient(scalar):
    """d scalar / d theta of all weights of the decoder, as one vector."""
    parts = torch.autograd.grad(scalar, list(decoder.parameters()), retain_graph=True, allow_unused=True)
    pairs = zip(parts, decoder.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])


log_p = tree.path_log_probs(decoder.slot_log_probs(x[:1], tree))  # [1, P]
p = (log_p[0].exp() * tree.complete).detach()  # [P]: what can be drawn, the complete paths
exact = gradient(losses.expected_reward(log_p, reward))  # [number of weights]
grad_log_p = torch.stack([gradient(log_p[0, i]) for i in range(len(p))])  # [P, weights]

# %% tags=["nbval-check-output"]
print(f"p(British Shorthair) = E[r] = {(p * reward[0]).sum():.4f}; length of the exact gradient {exact.norm():.4f}")
for b in (0.0, 0.5, 7.0):
    samples = torch.stack([gradient(reinforce(log_p[0, i], reward[0, i], b)) for i in range(len(p))])
    core = gradient(losses.reinforce(log_p, torch.tensor([2]), reward[:, 2], b))
    assert torch.allclose(samples[2], core)  # our line is the core's
    error = ((p[:, None] * samples).sum(0) - exact).abs().max()
    print(f"b = {b}: the mean over all possible samples equals the exact gradient to 1e-6: {bool(error < 1e-6)}")

# %% [markdown]
# Look at $b = 7$ again. Every reward minus 7 is *negative*, so every sampled path is made **less**
# probable, the right ones, too. Yet the mean is exact: right paths lose a little less, and
# probabilities sum to 1.
#
# ## 7 What the baseline is for: variance
#
# The gradient of a single sample is a random vector with the right mean. How far from the mean is it
# typically? With nine possible samples the variance is an exact sum, too: $\sum_P p(P)\, \lVert g_P
# \rVert^2 - \lVert \bar g \rVert^2$.

# %% tags=["nbval-check-output"]
def sample_gradients(b):
    """The gradient that each of the P possible samples would give. [P, weights]"""
    return -(reward[0] - b)[:, None] * grad_log_p


average = (p * reward[0]).sum()
for name, b in (("no baseline", 0.0), ("average reward", average), ("b = 1", 1.0), ("b = 3", 3.0)):
    g = sample_gradients(b)
    variance = (p * g.square().sum(1)).sum() - exact.square().sum()
    print(f"{name:<15} b = {b:.4f}   variance {variance:9.4f}")

# %% [markdown]
# The average reward, the paper's "average baseline estimator" $b(r)$, has the smallest variance of
# the four. A baseline far away from it has many times more. Its gradient is right on average, but it
# needs very many samples.
#
# Now as a picture. We draw 4000 minibatches of 8 sampled paths each and measure the length of the
# averaged gradient *along the exact one* (1 = the exact length).

# %%
direction = exact / exact.square().sum()  # g @ direction = 1 for the exact gradient
torch.manual_seed(seed)
drawn = torch.multinomial(p, 4000 * 8, replacement=True).view(4000, 8)
fig, axes = plt.subplots(3, 1, figsize=(7.5, 4.6), sharex=True, layout="constrained")
for ax, (name, b) in zip(axes, (("no baseline", 0.0), ("b = average reward", average), ("b = 3", 3.0)), strict=True):
    along = (sample_gradients(b) @ direction)[drawn].mean(1)  # [4000]
    ax.hist(along.detach(), bins=121, range=(-10, 12), color="#6f8fb5")
    ax.axvline(1, color="#c8242f", lw=2)
    ax.set_title(f"{name}: mean {along.mean():.2f}, standard deviation {along.std():.2f}", loc="left", fontsize=10)
    ax.set_yticks([])
axes[2].set_xlabel("length of a sampled gradient along the exact one (red: the exact one)")
plt.show()

# %% [markdown]
# **How to read it.** All three histograms have the same mean, at the red line (except for the
# sampling error): the baseline changes nothing on average. *Top:* the bar at 0 shows minibatches in
# which no path ended at the label. Without a baseline such a minibatch has no gradient. *Middle:*
# with the average reward, a path that fails has a gradient, too: it becomes less probable. The
# estimates lie closer to the exact value. *Bottom:* with $b = 3$ every sampled path becomes much less
# probable, and only the average over very many minibatches is right. A value below 0 is a step in the
# *wrong* direction.
#
# ## 8 When the average reward is a bad baseline
#
# The variance is a parabola in $b$. With $C = \mathbb{E} \lVert \nabla \log p(\hat P) \rVert^2$,
#
# $$Var(b) = Var(b^*) + C\,(b - b^*)^2, \qquad b^* = \frac{\mathbb{E}\, [\, r(\hat P)\, \lVert \nabla \log p(\hat P) \rVert^2 \,]}{C} .$$
#
# The best baseline $b^*$ is an average of the rewards, too, but each path counts with the squared
# length of its gradient (exercise 1 derives it). A baseline between 0 and $2 b^*$ has less noise than
# none, $b = 0$. Every other baseline has more. Is the average reward below $2 b^*$? Before training it is. Later this
# changes. The paths that end at the label become probable, and the gradient of $\log p$ of a probable
# path is short. The paths that fail become rare, and the gradient of a rare path is long. Then $b^*$
# falls while the average reward rises.
#
# We measure it. A head (`PathHead`: the decoder, its trees and its loss, see section 11) is trained on the
# three pictures, with the exact expected reward (section 10). At some steps we compute the exact noise for
# two other British Shorthairs: one between the pictures of the British Shorthair and of the Birman,
# and one a little nearer to the Birman. The noise is the standard deviation of one sample's gradient,
# divided by the length of the exact gradient.

# %%
def noise(head, x):
    """One picture x [1, d]: E[r], the best b, and a function of b: the relative noise of REINFORCE."""
    t, weights = head.fine_tree, list(head.decoder.parameters())
    log_p = t.path_log_probs(head.decoder.slot_log_probs(x, t))[0]  # [P]: the breeds alone, all complete
    rows = [torch.autograd.grad(one, weights, retain_graph=True) for one in log_p]
    g = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])  # [P, weights]
    p, r, square = log_p.exp().detach(), losses.reward(t, y_bs)[0], g.square().sum(1)
    exact = ((p * r)[:, None] * g).sum(0).square().sum()
    own, best = (p * r).sum(), (p * r * square).sum() / (p * square).sum()
    return own, best, lambda b: ((p * (r - b) ** 2 * square).sum() / exact - 1).sqrt().item()

# %%
torch.manual_seed(seed)
head = PathHead(graph, labels, n_fine=3, d=3, settings=PathSettings(hidden=hidden, objective="expected-reward")).double()
optimiser, measured = torch.optim.Adam(head.parameters(), lr=0.02), []
two = {"between": 0.6 * x[:1] + 0.4 * x[2:], "hard": 0.4 * x[:1] + 0.6 * x[2:]}
for step in range(121):
    if step % 20 == 0:
        found = {name: noise(head, picture) for name, picture in two.items()}
        shared = sum(own for own, _, _ in found.values()) / 2  # one baseline for both pictures
        for name, (own, best, of) in found.items():
            measured.append((step, name, own.item(), best.item(), of(0.0), of(own), of(shared), of(best)))
    optimiser.zero_grad()
    head.loss(x, torch.tensor([0, 1, 2])).backward()
    optimiser.step()

# %% tags=["nbval-check-output"]
print("step  picture    E[r]     b*      noise: none   own average   shared average   b*")
for step, name, own, best, *values in measured:
    if step in (0, 40, 120):
        print(f"{step:>4}  {name:<8} {own:.4f}  {best:.4f}" + "".join(f"{value:>14.3f}" for value in values))
        assert step == 0 or name == "hard" or values[1] > 2 * values[0]  # twice the noise of no baseline

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
lines = (("no baseline", "#777777", "-"), ("own average reward", "#c8242f", "-"), ("average of both pictures", "#c8242f", ":"), ("best constant b*", "#6f8fb5", "--"))
for ax, name in zip(axes, two, strict=True):
    rows = [row for row in measured if row[1] == name]
    for k, (line, color, style) in enumerate(lines):
        ax.plot([row[0] for row in rows], [row[4 + k] for row in rows], style, color=color, lw=2, label=line)
    ax.set(title=f"British Shorthair, {name}", xlabel="training step", yscale="log")
axes[0].set_ylabel("noise / length of the gradient")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** The lines show the noise of one sample; lower is better. *Left:* the average
# reward (solid red) lowers the noise at step 0. At steps 40 and 120 its noise is more than twice that
# of no baseline (grey): $b^*$ has fallen far below the average reward. *Right:* for the hard picture
# nearly all paths fail at steps 40 and 120. Its own average is small and changes the noise little.
# But the core, like the paper, keeps *one* running mean for all pictures (dotted), and the easier
# picture raises it. Each failure of the hard picture, which was expected, then gives a large
# gradient.
#
# So the average baseline is not wrong: with every baseline the mean is right. But it does not always
# reduce the noise. On trained models it can increase the noise. Where all paths can be summed, the
# exact expectation has no noise at all.

# %% [markdown]
# ## 9 A policy-gradient loss is not a loss
#
# OpenAI's Spinning Up warns that this loss function "means nothing". There are three reasons. First,
# its *value* depends on the arbitrary $b$, while its mean gradient does not:

# %% tags=["nbval-check-output"]
for b in (0.0, 1.0, 7.0):
    value = sum(p[i] * reinforce(log_p[0, i], reward[0, i], b) for i in complete)
    print(f"b = {b}: mean value of the surrogate {value:9.4f}")

# %% [markdown]
# Second, it is computed on paths drawn from the policy that is trained, so it is a different function
# at every step. Third, it can rise while the policy gets better. Here are both during a short
# training with REINFORCE. (`sample` starts at the root. At each state it draws a question, then an
# answer by block softmax. It returns the number of the path.)

# %%
torch.manual_seed(seed)
student = PathDecoder(graph, 3, hidden)
optimiser, b, trace = torch.optim.Adam(student.parameters(), lr=0.02), torch.tensor(0.0), []
for _ in range(steps):
    path = student.sample(x[:1].expand(8, -1), tree)  # [8]: eight samples of one picture
    log_p_student = tree.path_log_probs(student.slot_log_probs(x[:1], tree)).expand(8, -1)  # [8, P]
    r_path = reward[0, path]  # [8]
    surrogate = losses.reinforce(log_p_student, path, r_path, b)
    optimiser.zero_grad()
    surrogate.backward()
    optimiser.step()
    b = 0.9 * b + 0.1 * r_path.mean()
    trace.append((surrogate.item(), (log_p_student[0].exp() * reward[0]).sum().item()))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for ax, values, name in zip(axes, zip(*trace, strict=True), ("the surrogate ('loss')", "E[r] = p(British Shorthair)"), strict=True):
    ax.plot(values, color="#c8242f" if ax is axes[0] else "#6f8fb5")
    ax.set(title=name, xlabel="step")
axes[0].axhline(0, color="#777777", lw=0.8)
axes[1].axhline(1, color="#777777", lw=0.8, ls="--")
plt.show()

# %% [markdown]
# **How to read it.** Right: the expected reward, which we want to raise, goes up to nearly 1. Left:
# the number on which we called `backward` has both signs, and it jumps up in steps in which the
# policy improves. Later it falls far below 0 at single steps: there a rare failure was sampled, and
# nothing got better. Do not judge a training run by this curve, and do not use it for early stopping.
# Plot the reward.

# %% [markdown]
# ## 10 Two exact objectives
#
# If all paths can be summed, why sample? **Expected reward** is Eq. 4 itself. The loss of the
# **marginal likelihood** is closely related: it is minus the log of the same sum.
#
# $$L_{exp} = -p(y), \qquad L_{marg} = -\log p(y), \qquad p(y) = \sum_{P \text{ ends in } y} p(P).$$
#
# Their gradients differ by a factor only, since $\nabla \log p = \nabla p / p$:
#
# $$\nabla L_{exp} = p(y) \cdot \nabla L_{marg}.$$

# %% tags=["nbval-check-output"]
label_logp = tree.label_log_probs(decoder.slot_log_probs(x[:1], tree))  # [1, K]
marginal = gradient(losses.marginal_likelihood(label_logp, y_bs))
p_y = label_logp[0, 0].exp()
assert torch.allclose(exact, p_y * marginal, atol=1e-6)
print(f"|grad L_exp| = {exact.norm():.4f} = {p_y:.4f} x {marginal.norm():.4f} = p(y) x |grad L_marg|")

# %% [markdown]
# The factor matters most for the hardest samples. A sample with $p(y) = 0.01$ has a gradient that is
# a hundred times smaller under expected reward (and under REINFORCE, whose mean it is) than under the
# likelihood. With one logit $s$ and $p = \sigma(s)$:

# %%
p_axis = torch.linspace(0.001, 0.999, 200)
fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
ax.plot(p_axis, 1 - p_axis, color="#6f8fb5", lw=2, label=r"marginal likelihood: $1 - p$")
ax.plot(p_axis, p_axis * (1 - p_axis), color="#c8242f", lw=2, label=r"expected reward: $p\,(1 - p)$")
ax.set(xlabel="p(y), the probability of the right label", ylabel="gradient on the logit")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **How to read it.** Go from right to left. A sample that is already learned has a small gradient on
# both lines. For worse samples the blue line keeps rising, but the red line falls again below 1/2. So
# under expected reward a sample whose label is improbable has little influence. This is good if its
# label is wrong. It is bad at the start of training, when most right labels are improbable.
#
# **The question likelihood.** The marginal likelihood is high if *one* question finds the label. The
# question likelihood asks this of **each** question: at a node, it averages over the questions $q$
# below it that lead to the label,
#
# $$Q(v) = \operatorname*{mean}_q \log \sum_{u \in q} p(u \mid v)\, e^{Q(u)}, \qquad Q(y) = 0, \qquad L_q = -Q(v_0).$$
#
# Unknown answers (the colours) are still summed out, inside their own question.

# %%
def Q(slot_logp, v_path, y):
    """The question log-likelihood below the prefix v_path; y: a label's name."""
    if v_path[-1] == y:
        return torch.tensor(0.0)
    ways = []
    for answers in graph.blocks(v_path[-1]).values():
        leads = [u for u in answers if u == y or y in graph.descendants(u)]
        terms = [slot_logp[slot_of[*v_path, u]] + Q(slot_logp, (*v_path, u), y) for u in leads]
        ways += [torch.stack(terms).logsumexp(0)] if terms else []
    return torch.stack(ways).mean()

# %% tags=["nbval-check-output"]
L_q = -Q(by_hand[0], ("animal",), "British Shorthair")
print(f"question {L_q:.4f}   core {losses.question_likelihood(tree, by_hand, y_bs):.4f}")
print(f"marginal {losses.marginal_likelihood(tree.label_log_probs(by_hand), y_bs):.4f}")
assert torch.isclose(L_q, -torch.tensor(0.8).log() - torch.tensor([0.5, 0.75]).log().mean())

# %% [markdown]
# By hand: hair leads to the British Shorthair with $\frac34 \cdot \frac23 = 0.5$, colour with
# $\frac14 + \frac12 \cdot \frac23 + \frac14 \cdot \frac23 = 0.75$. So $L_q = -\log 0.8 -
# \frac12(\log 0.5 + \log 0.75) = 0.7136$, and the marginal is $-\log(0.8 \cdot \frac{0.5 + 0.75}{2})
# = -\log 0.5 = 0.6931$.
#
# The two differ most where the questions differ. Let one question be nearly right (0.99) and the
# other nearly wrong (0.01). The marginal is the log of their *mean*, 0.5. In the question likelihood
# the wrong question counts fully.

# %% tags=["nbval-check-output"]
p_hair, p_color = torch.tensor(0.99), torch.tensor(0.01)
print(f"marginal: -log mean = {-((p_hair + p_color) / 2).log():.4f}")
print(f"question: -mean log = {-(p_hair.log() + p_color.log()) / 2:.4f}")

# %% [markdown]
# > **Deviation from the paper.** These exact objectives are not in the paper. REINFORCE is tested
# > against expected reward. The marginal and the question likelihood are rows of our tables beside
# > Algorithm 1.

# %% [markdown]
# ## 11 Algorithm 1, whole
#
# 1. Encode a batch: features $f$. Toss one coin: with rate $r_{tf}$ the decoder is fed the true node of each step, else
#    its own best answer.
# 2. Part 1, every sample: find the deterministic paths of its label. $L_d$ is $-\sum \log p$ of the right answers on
#    them, each answer in its own block softmax. If a label has several such paths, take the mean.
# 3. Part 2, only samples whose label also has a nondeterministic path: sample one path (the question uniformly, the
#    answer from $p$). Its reward $r$ is 1 if it ends at the label, else 0. $L_{nd} = -(r - b) \log p(\text{path})$.
# 4. Add the parts, take the gradient, step. Then move the baseline $b$ a tenth of the way to the batch's mean reward.
#
# So a British Shorthair takes part in both: its hair is certain, its colour is not. In one formula:
#
# $$L = \alpha L_d + \beta L_{nd}$$
#
# with $L_d$ on the deterministic paths of the batch, and $L_{nd}$ on its **uncertain** samples
# $I_{pg}$, those whose label has a nondeterministic path ($\alpha = \beta = 1$ by default). The
# core's `PathHead` is everything behind the encoder: the decoder, its trees and the running baseline
# $b$. A batch of the fine dataset is scored on `fine_tree`, the tree of the breeds alone, as in
# evaluation. (Notebook 05 adds the coarse batch.)

# %%
def algorithm_1(head, x, y):
    """One batch of the fine dataset: x [B, d] features, y [B] -> the scalar to call backward on, for r_tf = 1."""
    tree, decoder, settings = head.fine_tree, head.decoder, head.settings
    torch.rand(1)  # the coin of the batch: for r_tf = 1 the true node is always fed
    # 1. deterministic paths, teacher forcing
    answers = tree.answer_log_probs(decoder.slot_log_probs(x, tree))  # [B, P]
    L = settings.alpha * losses.teacher_forcing(answers, losses.deterministic_paths(tree, y))
    # 2. uncertain samples, policy gradient
    pg = losses.is_uncertain(tree, y)  # [B] bool: I_pg
    if pg.any():
        sampled = decoder.sample(x[pg], tree)  # [q]: one path each
        r = losses.reward(tree, y[pg]).gather(1, sampled[:, None])[:, 0]  # [q]
        L_nd = losses.reinforce(answers[pg], sampled, r, head.b)
        L = L + settings.beta * L_nd * pg.double().mean()  # a mean over the batch, like L_d
    return L

# %% [markdown]
# Property: with the same random numbers it equals the core's objective, and so does its gradient.

# %%
torch.manual_seed(seed)
head = PathHead(graph, labels, n_fine=3, d=3, settings=PathSettings(hidden=hidden)).double()
y3, weights = torch.tensor([0, 1, 2]), head.decoder.score.weight  # one sample of each breed
for trial in range(20):
    torch.manual_seed(trial)
    mine = algorithm_1(head.eval(), x, y3)
    torch.manual_seed(trial)
    core = head.loss(x, y3)
    assert torch.allclose(mine, core)
    assert torch.allclose(*(torch.autograd.grad(scalar, weights)[0] for scalar in (mine, core)))

# %% [markdown]
# > **Deviation from the paper.** Algorithm 1 as printed cannot be run. What we changed:
# >
# > | the paper | here | why |
# > |---|---|---|
# > | the loss uses $t_i$ before it is set | the ground-truth $v_i$ | else the target is the previous step's token |
# > | $r(t_{n-1})$, the reward of one token | $r(\hat P)$, Eq. 3 | in a path that is shorter than $n$, that token is padding or $\langle eop \rangle$ |
# > | no baseline | $b$, a running mean of rewards | Eq. 5 and section 7 |
# > | $\alpha$ only if some sample is uncertain | $\alpha$ always | else the weight of $L_d$ depends on the batch |
# > | part 2 calls $g_{dec}(G, f, t_{j-1})$ without $f_{j-1}$ | the state is passed on | Eq. 1 |
# > | sample $t_j \sim p_j$ from blocks that sum to $n_v$ | first the question, then the answer | notebook 02 |
# > | Eq. 4: surrogate = expectation; Eq. 5: no log, no sign | Williams (1992) | sections 5 and 6 |
# > | a second forward pass of the encoder for $x^{pg}$ | features computed once | without dropout and flips the second pass gives the same numbers |
#
# ## 12 One step of Algorithm 1, with every number
#
# We follow part 2 for one picture, the British Shorthair. First, a path is sampled. We print each of
# its decisions: the question is drawn uniformly, then the answer by its probability. (At *animal* all
# breeds are cats, so $p = 1$.)

# %% tags=["nbval-check-output"]
fine = head.fine_tree  # the breeds alone: eight paths, all complete
head.b.fill_(0.5)  # the running mean of the rewards so far; we set it for the example
torch.manual_seed(seed)
torch.rand(1)  # the coin of the batch
sampled = head.decoder.sample(x[:1], fine)  # [1]
path = fine.paths[int(sampled)]
slot_logp = head.decoder.slot_log_probs(x[:1], fine)  # [1, E]
place = {prefix: e for e, prefix in enumerate(fine.prefixes)}
for t in range(1, len(path)):
    e = place[path[: t + 1]]
    print(f"at {path[t - 1]:<12} question 1/{round((-fine.log_question[e]).exp().item())}, "
          f"answer {path[t]:<18} p = {slot_logp[0, e].exp():.4f}")

# %% [markdown]
# The path ends at the label, so its reward is 1. The **advantage** is the reward minus the baseline,
# and the loss is minus the advantage times $\log p(\hat P)$.

# %% tags=["nbval-check-output"]
log_p = fine.path_log_probs(slot_logp)  # [1, P]
r_path = losses.reward(fine, torch.tensor([0]))[0, sampled]  # [1]
loss = losses.reinforce(log_p, sampled, r_path, head.b)
print(f"log p(path) = {log_p[0, sampled].item():.4f}, p(path) = {log_p[0, sampled].exp().item():.4f}")
print(f"reward {r_path.item():.1f}, baseline {head.b:.1f}, advantage {(r_path - head.b).item():.1f}, loss {loss:.4f}")
assert torch.isclose(loss, -(r_path - 0.5) * log_p[0, sampled]).all()

# %% [markdown]
# Now one update: a step of gradient descent on this loss alone. What does it do to the path, to its
# label, and to a path that **fails**? For comparison we start again from the same weights and do the
# same with a sampled path that ends at another breed: its advantage is $0 - 0.5$.

# %%
def updated(path_index, lr=0.3):
    """p of every path, before and after one step of gradient descent on one sampled path."""
    twin = PathHead(graph, labels, n_fine=3, d=3, settings=PathSettings(hidden=hidden)).double()
    twin.load_state_dict(head.state_dict())
    log_p = twin.fine_tree.path_log_probs(twin.decoder.slot_log_probs(x[:1], twin.fine_tree))  # [1, P]
    r_path = losses.reward(twin.fine_tree, torch.tensor([0]))[0, path_index]  # [1]
    losses.reinforce(log_p, path_index, r_path, twin.b).backward()
    with torch.no_grad():
        for weight in twin.decoder.parameters():
            weight -= lr * weight.grad
        after = twin.fine_tree.path_log_probs(twin.decoder.slot_log_probs(x[:1], twin.fine_tree))
    return log_p[0].exp().detach(), after[0].exp()

# %% tags=["nbval-check-output"]
failed = torch.tensor([next(i for i, other in enumerate(fine.paths) if other[1:3] == path[1:3] and other[-1] != path[-1])])
label = fine.path_label == 0  # the paths to the British Shorthair
for name, i in (("arrived", sampled), ("failed", failed)):
    before, after = updated(i)
    print(f"{name:<8} {' ∘ '.join(fine.paths[int(i)])}")
    print(f"         p(path) {before[i].item():.4f} -> {after[i].item():.4f}   "
          f"p(British Shorthair) {before[label].sum():.4f} -> {after[label].sum():.4f}")

# %%
fig, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
rows = torch.arange(len(fine.paths))
bars = {"before": (before, "#c9c9c4"), "a path that arrived": (updated(sampled)[1], "#6f8fb5"), "a path that failed": (after, "#c8242f")}
for k, (name, (values, color)) in enumerate(bars.items()):
    ax.barh(rows + 0.27 * (k - 1), values, height=0.26, color=color, label=name if k == 0 else f"after {name}")
ax.set_yticks(rows, [" ∘ ".join(other[2:]) for other in fine.paths])
ax.invert_yaxis()
ax.set(xlabel="p(path)", title="One update changes the probability of every path")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **How to read it.** Grey: before. Blue: after the update on the path that ended at the label
# ("arrived"). This path becomes more probable. All other paths change, too: some share decisions with it, and
# the rest share the weights of the decoder. Red: after the update on the path that failed. It becomes less
# probable, and other paths become more probable. Both updates raise the probability of the British
# Shorthair. The reward does not say which colour the cat has. It only says whether the path ended at
# the label.
#
# The same step by the core, with both parts of the loss. It samples the same path. Its $L_{nd}$ leaves
# the constant $\log \frac12$ of the drawn question out, which has no gradient. Then it moves the
# baseline a tenth of the way towards the mean reward of the batch: $b = 0.9 \cdot 0.5 + 0.1 \cdot 1 =
# 0.55$.

# %% tags=["nbval-check-output"]
head.train()
torch.manual_seed(seed)  # the same coin and the same path
whole = head.loss(x[:1], y3[:1])
part_1 = losses.teacher_forcing(fine.answer_log_probs(slot_logp), losses.deterministic_paths(fine, y3[:1]))
print(f"L = L_d + L_nd = {part_1:.4f} + {whole - part_1:.4f};   b = {head.b:.4f}")

# %% [markdown]
# Last, all four objectives are trained on three samples, one of each breed. Each trains its own copy
# of the same decoder.

# %%
curves = {}
for objective in ("algorithm-1", "expected-reward", "marginal", "question"):
    torch.manual_seed(seed)
    head = PathHead(graph, labels, n_fine=3, d=3, settings=PathSettings(hidden=hidden, objective=objective)).double()
    optimiser, curves[objective] = torch.optim.Adam(head.parameters(), lr=0.02), []
    for _ in range(steps):
        optimiser.zero_grad()
        head.loss(x, y3).backward()
        optimiser.step()
        with torch.no_grad():
            curves[objective].append(head.log_probs(x)[torch.arange(3), y3].exp().mean().item())

# %%
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for (objective, curve), color in zip(curves.items(), ("#c8242f", "#e0a030", "#6f8fb5", "#5d9c59"), strict=True):
    ax.plot(curve, color=color, lw=2, label=objective)
ax.set(xlabel="step", ylabel="mean p(right label)", ylim=(0, 1.02))
ax.legend(frameon=False)
plt.show()
assert all(curve[-1] > curve[0] for curve in curves.values())

# %% [markdown]
# **How to read it.** All four learn the three samples. One seed on three samples gives no ranking.
# The experiments (notebooks 22 and 23) compare the objectives.
#
# ## What to take away
#
# 1. Deterministic paths are taught token by token. Nondeterministic ones are rewarded if they end at
#    the label.
# 2. REINFORCE: the gradient of the expected reward is the expected (reward × gradient of log p). It is exact on
#    average and noisy for each sample.
# 3. A baseline changes the noise, never the mean. The average reward can increase the noise on a trained model. The
#    value of the surrogate means nothing.
# 4. Where all paths can be summed, nothing needs to be sampled. The gradient of the expected reward is then $p$ times
#    that of the log-likelihood.
#
# ## Exercises
#
# **1.** Which constant $b$ minimises the variance of section 7? Derive it, and compare it with the
# average reward.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
square = grad_log_p.square().sum(1)  # |grad log p|^2 of each path   [P]
best = (p * reward[0] * square).sum() / (p * square).sum()
for name, b in (("average reward", average), ("best", best)):
    variance = (p * sample_gradients(b).square().sum(1)).sum() - exact.square().sum()
    print(f"{name:<15} b = {b:.4f}   variance {variance:.4f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# The mean does not depend on $b$, so minimise $\sum_P p\, (r - b)^2\, \lVert \nabla \log p
# \rVert^2$: setting the derivative to zero gives the average reward *weighted by the squared length
# of the gradient* $\nabla \log p$. The plain average is the usual approximation.
#
# </details>
#
# **2.** Check that `random` equals `mean` on average, in its gradient as well as in its value.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
answers = tree.answer_log_probs(decoder.slot_log_probs(x[1:2], tree))  # the Mau's picture
one_each = [gradient(-answers[0, i]) for i in (3, 7)]  # the two equally likely draws
mean = gradient(losses.teacher_forcing(answers, losses.deterministic_paths(tree, y), "mean"))
print("equal:", torch.allclose((one_each[0] + one_each[1]) / 2, mean))

# %% [markdown]
# <details><summary>Why</summary>
#
# `random` is a noisy estimate of `mean` that is right on average, as REINFORCE is one of expected
# reward.
#
# </details>
#
# **3.** A coarse picture with `coarse="reward"` has $S = \{cat\}$. Which answers get a gradient: those
# at *animal* only, or those below *cat*, too? Answer first.

# %% tags=["solution", "hide-cell", "nbval-check-output"] jupyter={"source_hidden": true, "outputs_hidden": true}
z = z_node[tree.slot_node].clone().requires_grad_()
log_p = tree.path_log_probs(block_log_softmax(z, tree.slot_block)[None])
losses.expected_reward(log_p, losses.reward(tree, torch.tensor([labels.index("cat")]))).backward()
touched = {tree.prefixes[e][-1] for e in (z.grad.abs() > 1e-6).nonzero()[:, 0]}
print("answers with a gradient:", ", ".join(sorted(touched)))

# %% [markdown]
# <details><summary>Why</summary>
#
# Only *cat* and *dog*: whatever happens below *cat*, the reward is 1, and the probabilities below sum
# to 1. In expectation "reward" and "path" teach the same step. They differ in the factor of section
# 10, and in the noise of REINFORCE.
#
# </details>
#
# **4.** Show that the loss of the question likelihood is never below that of the marginal likelihood of the same
# questions:
# $-\operatorname{mean}_q \log p_q \ge -\log \operatorname{mean}_q p_q$. When are they equal?
#
# <details><summary>Solution</summary>
#
# The logarithm is concave, so Jensen's inequality gives $\operatorname{mean} \log p_q \le \log
# \operatorname{mean} p_q$; multiply by -1. They are equal if all questions find the label with the
# same probability. The gap measures how much the questions disagree.
#
# </details>
#
# **5.** Our surrogate gives the whole path one reward. Would it be right to use $-(r - b) \log p$
# of the *last step only*?
#
# <details><summary>Solution</summary>
#
# No. $\log p(\hat P) = \sum_t \log p(v_{t+1} \mid v_t, f_t)$, and an early answer (dog instead of
# cat) decides the reward as much as the last one. With the last step only, $L_{nd}$ would never train
# the steps before it. Algorithm 1 sums $\log p$ over all steps, too. Only its reward looks at one token.
#
# </details>
