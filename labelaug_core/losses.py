"""The objectives: Eq. 2 to 5 (Sec. 3.2.5 and 3.2.6) and their exact counterparts, each in full here.

All take log-probabilities of shape [B, ...] and return a scalar. `tree` is a PrefixTree, y [B] the class of each
sample (an index into tree.labels), slot_logp [B, E] the decoder's slot log-probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.prefix_tree import PrefixTree

MINIBATCH = ("mean", "sum", "random")


def deterministic_paths(tree: PrefixTree, y: Tensor) -> Tensor:
    """[B, P] bool: the deterministic ground-truth paths of each sample, as Def. 3.2 has them."""
    return (tree.path_label == y[:, None]) & tree.deterministic


def is_uncertain(tree: PrefixTree, y: Tensor) -> Tensor:
    """[B] bool: samples that have a nondeterministic ground-truth path (I_pg of Algorithm 1)."""
    return ((tree.path_label == y[:, None]) & ~tree.deterministic).any(1)


def teacher_forcing(
    path_logp: Tensor,
    targets: Tensor,
    minibatch: str = "mean",
    n_p: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Eq. 2: L_d = - sum over t of log p(v_{t+1} | v_t, f_t) on deterministic paths. Scalar, a mean over samples.

    path_logp [B, P]: tree.answer_log_probs; targets [B, P] bool: each sample's paths. At most n_p of them are used
    (drawn at random); minibatch (Sec. 4.5): `mean` or `sum` over them, or `random`, one of them. A sample without such
    a path adds nothing. Raises ValueError for an unknown minibatch and n_p < 1.
    """
    if minibatch not in MINIBATCH:
        raise ValueError(f"teacher_forcing: minibatch must be one of {', '.join(MINIBATCH)}, got {minibatch!r}")
    if n_p is not None and n_p < 1:
        raise ValueError(f"teacher_forcing: n_p must be at least 1, got {n_p}")
    limit = 1 if minibatch == "random" else n_p
    if limit is not None and limit < targets.shape[1]:
        draw = torch.rand(targets.shape, generator=generator).to(targets.device).masked_fill(~targets, -1.0)
        targets = targets & (draw >= draw.topk(limit, 1).values[:, -1:])
    total = path_logp.masked_fill(~targets, 0.0).sum(1)
    if minibatch == "mean":
        total = total / targets.sum(1).clamp(min=1)
    return -total.mean()


def reward(tree: PrefixTree, y: Tensor) -> Tensor:
    """Eq. 3: r(P) = |P ∩ S| / |S| of every path, for S = {the sample's label}. [B] -> [B, P].

    A coarse label is earned by every complete path through it, an evaluated label by the paths that stop at it (where
    one evaluated label lies above another, a path through it says more than the label). y may also be a multi-hot
    [B, K]; S then has several labels.
    """
    s = torch.nn.functional.one_hot(y, len(tree.labels)) if y.ndim == 1 else y
    return s.to(tree.earned.dtype) @ tree.earned / s.sum(1, keepdim=True).clamp(min=1)


def reinforce(path_logp: Tensor, sampled: Tensor, r: Tensor, baseline: Tensor | float) -> Tensor:
    """Eq. 5, with one sampled path: -(r - b) log p(P), whose gradient estimates that of -E[r] (Williams, 1992).

    path_logp [B, P]: tree.path_log_probs; sampled [B]: path indices drawn from it; r [B]: their rewards; baseline b
    [B] or a number: carries no gradient. The value of this scalar means nothing, only its gradient does. (The paper's
    equation lacks the log and the sign, and its algorithm lacks b: we follow its reward and Williams.)
    """
    advantage = (r - torch.as_tensor(baseline, dtype=r.dtype, device=r.device)).detach()
    return -(advantage * path_logp.gather(1, sampled[:, None])[:, 0]).mean()


def expected_reward(path_logp: Tensor, r: Tensor) -> Tensor:
    """Eq. 4, without sampling: -E[r] = - sum over complete paths P of p(P) r(P). path_logp, r [B, P] -> scalar.

    The paper equates this with - sum log p(P) r(P), the surrogate whose gradient one sample estimates.
    """
    return -(path_logp.exp() * r).sum(1).mean()


def marginal_likelihood(label_logp: Tensor, y: Tensor) -> Tensor:
    """-log of the summed probability of all ground-truth paths. label_logp [B, K]: tree.label_log_probs."""
    return -label_logp.gather(1, y[:, None]).mean()


def question_likelihood(tree: PrefixTree, slot_logp: Tensor, y: Tensor) -> Tensor:
    """Mean over the questions on the way of -log P_b(label): every question must lead to the label by itself.

    The marginal likelihood is high if one question finds the label; this objective requires it of each. P_b sums out
    the unknown answers of block b: Q(v) = mean over b of log sum over u in b of p(u | v) exp Q(u), and Q(label) = 0;
    blocks that do not lead to the label are not asked. Computed from the leaves up, a level of the tree at a time.
    """
    below, first_below = slot_logp.new_zeros(len(slot_logp), 1), len(tree.state_node)  # Q of the states one level down
    for t in reversed(range(len(tree.levels))):
        (first, last), first_state, n = tree.levels[t], tree.first_state[t], first_below - tree.first_state[t]
        child, block = tree.slot_child[first:last], tree.slot_block[first:last]
        q = below[:, torch.where(child >= 0, child - first_below, -1)]
        z = slot_logp[:, first:last] + q
        b0, b1 = int(block[0]), int(block[-1]) + 1
        p_block = block_logsumexp(z.masked_fill(~tree.on_way[y, first:last], -torch.inf), block - b0, b1 - b0)
        asked = p_block > -torch.inf
        state = (tree.block_state[b0:b1] - first_state).expand(p_block.shape)
        total = slot_logp.new_zeros(len(y), n).scatter_add(1, state, p_block.masked_fill(~asked, 0.0))
        count = slot_logp.new_zeros(len(y), n).scatter_add(1, state, asked.to(total.dtype))
        below = torch.cat([total / count.clamp(min=1), total.new_zeros(len(y), 1)], 1)  # the last: an ended path
        first_below = first_state
    return -below[:, 0].mean()
