"""The objectives of Sec. 3.2.5 and 3.2.6 and their exact counterparts, one function each.

All take log-probabilities of shape [B, ...] and return a scalar. `tree` is a PrefixTree, y [B] the class of each
sample (an index into tree.labels), slot_logp [B, E] the decoder's slot log-probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labelaug_core.prefix_tree import PrefixTree


def deterministic_paths(tree: PrefixTree, y: Tensor) -> Tensor:
    """[B, P] bool: the deterministic ground-truth paths of each sample (Def. 3.2)."""
    return (tree.path_label == y[:, None]) & tree.deterministic


def is_uncertain(tree: PrefixTree, y: Tensor) -> Tensor:
    """[B] bool: samples that have a nondeterministic ground-truth path (I_pg of Algorithm 1)."""
    return ((tree.path_label == y[:, None]) & ~tree.deterministic).any(1)


def teacher_forcing(
    path_logp: Tensor,
    targets: Tensor,
    mode: str = "mean",
    n_p: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Eq. 2: L_d = - sum over t of log p(v_{t+1} | v_t, f_t) on deterministic paths. Scalar, a mean over samples.

    path_logp [B, P]: tree.answer_log_probs; targets [B, P] bool: each sample's paths. At most n_p of them are used
    (drawn at random); mode (Sec. 4.5): `mean` or `sum` over them, or `random`, one of them. A sample without such a
    path adds nothing. Raises ValueError for an unknown mode and n_p < 1.
    """
    if mode not in ("mean", "sum", "random"):
        raise ValueError(f"teacher_forcing: mode must be mean, sum or random, got {mode!r}")
    if n_p is not None and n_p < 1:
        raise ValueError(f"teacher_forcing: n_p must be at least 1, got {n_p}")
    limit = 1 if mode == "random" else n_p
    if limit is not None and limit < targets.shape[1]:
        draw = torch.rand(targets.shape, generator=generator).to(targets.device).masked_fill(~targets, -1.0)
        targets = targets & (draw >= draw.topk(limit, 1).values[:, -1:])
    total = path_logp.masked_fill(~targets, 0.0).sum(1)
    if mode == "mean":
        total = total / targets.sum(1).clamp(min=1)
    return -total.mean()


def reward(tree: PrefixTree, y: Tensor) -> Tensor:
    """Eq. 3: r(P) = |P ∩ S| / |S| of every path, for S = {the sample's label}. [B] -> [B, P].

    A path through an inner label (cat) on its way to a breed earns that label's reward too. y may also be a
    multi-hot [B, K], S then has several labels.
    """
    s = torch.nn.functional.one_hot(y, len(tree.labels)) if y.ndim == 1 else y
    return s.to(tree.contains.dtype) @ tree.contains / s.sum(1, keepdim=True).clamp(min=1)


def reinforce(path_logp: Tensor, sampled: Tensor, r: Tensor, baseline: Tensor | float) -> Tensor:
    """Eq. 4 and 5 with one sampled path: -(r - b) log p(P), whose gradient estimates that of -E[r] (Williams, 1992).

    path_logp [B, P]: tree.path_log_probs; sampled [B]: path indices drawn from it; r [B]: their rewards; baseline b
    [B] or a number: carries no gradient. The value of this scalar means nothing, only its gradient does. (Eq. 5 of
    the paper lacks the log and the sign; Algorithm 1 lacks b: we follow Eq. 3 and Williams.)
    """
    advantage = (r - torch.as_tensor(baseline, dtype=r.dtype, device=r.device)).detach()
    return -(advantage * path_logp.gather(1, sampled[:, None])[:, 0]).mean()


def expected_reward(path_logp: Tensor, r: Tensor) -> Tensor:
    """Eq. 4 without sampling: -E[r] = - sum over all P of p(P) r(P). path_logp, r [B, P] -> scalar."""
    return -(path_logp.exp() * r).sum(1).mean()


def marginal_likelihood(label_logp: Tensor, y: Tensor) -> Tensor:
    """-log of the summed probability of all ground-truth paths. label_logp [B, K]: tree.label_log_probs."""
    return -label_logp.gather(1, y[:, None]).mean()


def question_likelihood(tree: PrefixTree, slot_logp: Tensor, y: Tensor) -> Tensor:
    """Mean over the questions on the way of -log P_b(label): every question must lead to the label by itself.

    Where the marginal likelihood is content if one question finds the label, this asks it of each.
    """
    return -tree.question_log_likelihood(slot_logp, y).mean()
