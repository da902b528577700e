"""Other estimators of the gradient that Algorithm 1 takes by REINFORCE in its second part (notebook 41)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core import losses
from labelaug_core.graph import LabelGraph
from labelaug_core.label_aug import PathHead, PathSettings, deterministic_part

ESTIMATORS = ("no baseline", "average baseline", "leave-one-out", "straight-through Gumbel", "exact")


def check_name(name: str) -> None:
    """Raises ValueError for a name that is no estimator."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r} (known: {', '.join(ESTIMATORS)})")


def surrogate(name: str, path_logp: Tensor, r: Tensor, average: float, sampled: Tensor | None = None) -> Tensor:
    """A scalar whose gradient estimates that of -E[r] (Eq. 3 gives r): path_logp, r [B, P] -> a mean over the batch.

    path_logp: -inf for a path that cannot be sampled. sampled [B, k]: indices of paths drawn from path_logp; by default
    k = 4 are drawn here. Williams (1992) without and with the average baseline; leave-one-out (a sample's baseline is
    the mean reward of the k - 1 others: Kool et al., 2019); straight-through Gumbel-softmax over the paths (Jang et
    al., 2017), which draws its own and is biased; `exact`. Raises ValueError for another name.
    """
    check_name(name)
    if name == "exact":
        return losses.expected_reward(path_logp, r)
    if name == "straight-through Gumbel":
        return -torch.stack([(nn.functional.gumbel_softmax(path_logp, hard=True) * r).sum(1) for _ in range(4)]).mean()
    if sampled is None:
        sampled = torch.multinomial(path_logp.detach().exp(), 4, replacement=True)
    got = r.gather(1, sampled)
    baseline = {
        "no baseline": torch.zeros_like(got),
        "average baseline": torch.full_like(got, average),
        "leave-one-out": (got.sum(1, keepdim=True) - got) / max(1, got.shape[1] - 1),
    }[name]
    return -((got - baseline) * path_logp.gather(1, sampled)).mean()


class EstimatorHead(PathHead):
    """Algorithm 1 with another estimator in its second part; part 1 is teacher forcing as before.

    settings: alpha, beta, minibatch, n_p and coarse as in PathHead; the estimator takes the place of the objective.
    Raises ValueError for an unknown estimator, and what PathHead raises.
    """

    def __init__(
        self,
        graph: LabelGraph,
        labels: list[str],
        n_fine: int,
        d: int,
        settings: PathSettings | None = None,
        *,
        estimator: str,
    ):
        check_name(estimator)
        super().__init__(graph, labels, n_fine, d, settings)
        self.estimator = estimator

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B] indices into labels -> scalar. Only complete paths are sampled."""
        tree = self.tree if is_coarse else self.fine_tree
        through = is_coarse and self.settings.coarse == "reward"
        slot_logp = self.decoder.slot_log_probs(features, tree)
        loss = features.new_zeros(())
        if not through:
            loss = self.settings.alpha * deterministic_part(self, tree.answer_log_probs(slot_logp), y, tree)
        uncertain = losses.is_uncertain(tree, y) | through
        if not bool(uncertain.any()):
            return loss
        path_logp = tree.path_log_probs(slot_logp)[uncertain].masked_fill(~tree.complete, -torch.inf)
        r = losses.reward(tree, y[uncertain]).to(path_logp)
        part_2 = surrogate(self.estimator, path_logp, r, float(self.b))
        if self.training:
            self.b.lerp_((path_logp.detach().exp() * r).sum(1).mean().to(self.b), 0.1)
        return loss + self.settings.beta * uncertain.float().mean() * part_2
