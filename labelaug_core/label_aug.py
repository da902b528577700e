"""label-aug: the path decoder as a classifier, trained by Algorithm 1 or by an exact objective in its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core import losses
from labelaug_core.decoder import PathDecoder
from labelaug_core.graph import LabelGraph
from labelaug_core.prefix_tree import PrefixTree

OBJECTIVES = ("algorithm-1", "expected-reward", "marginal", "question")


class PathHead(nn.Module):
    """Scores paths from features [B, d] and classifies by them.

    labels: all label nodes of training; the first n_fine are evaluated, and only they may end a path then (so a
    fine-grained test never ends at `cat`). objective: `algorithm-1` (teacher forcing on deterministic paths and
    REINFORCE on samples with nondeterministic ones; with literal=True its samples are drawn among legal answers only,
    which biases it), `expected-reward` (the same without sampling), `marginal`,
    `question`. alpha, beta weigh L_d and L_nd; n_p, minibatch: paths a sample, see losses.teacher_forcing; r_tf:
    teacher-force rate with one coin a batch (coin="batch", Alg. 1) or a step; coarse: `stop` teaches a coarse image
    the path to its label and no further, `reward` rewards any path through it; literal: the paper's block rule.
    """

    def __init__(
        self,
        graph: LabelGraph,
        labels: list[str],
        n_fine: int,
        d: int,
        hidden: int = 256,
        objective: str = "algorithm-1",
        alpha: float = 1.0,
        beta: float = 1.0,
        minibatch: str = "mean",
        n_p: int | None = None,
        r_tf: float = 1.0,
        coin: str = "batch",
        coarse: str = "stop",
        literal: bool = False,
    ):
        super().__init__()
        for what, value, known in (
            ("objective", objective, OBJECTIVES),
            ("coarse", coarse, ("stop", "reward")),
            ("coin", coin, ("batch", "step")),
            ("minibatch", minibatch, ("mean", "sum", "random")),
        ):
            if value not in known:
                raise ValueError(f"PathHead: {what} must be one of {', '.join(known)}, got {value!r}")
        self.decoder = PathDecoder(graph, d, hidden)
        self.tree = PrefixTree(graph, labels, literal)
        self.fine_tree = PrefixTree(graph, labels[:n_fine], literal)
        self.objective, self.alpha, self.beta, self.minibatch = objective, alpha, beta, minibatch
        self.n_p, self.r_tf, self.coin, self.coarse, self.literal = n_p, r_tf, coin, coarse, literal
        self.register_buffer("b", torch.tensor(0.0))  # the average baseline b(r) of Eq. 5: a running mean

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """The objective on one batch of one dataset: features [B, d], y [B] indices into labels -> scalar.

        A fine batch is scored where only fine labels end a path, as in evaluation; a coarse one on the joint tree.
        """
        tree = self.tree if is_coarse else self.fine_tree
        through = is_coarse and self.coarse == "reward"
        if self.objective == "algorithm-1":
            return self._algorithm_1(features, y, tree, through)
        rewarded = through or (is_coarse and self.objective == "expected-reward")  # for paths beyond the label, too
        slot_logp = self.decoder.slot_log_probs(features, tree, only=None if rewarded else tree.wanted[y])
        if self.objective == "expected-reward":
            uncertain = losses.is_uncertain(tree, y) | through
            r = losses.reward(tree, y) * uncertain[:, None]
            l_nd = losses.expected_reward(tree.path_log_probs(slot_logp), r)
            l_d = self._teacher_forcing(tree.answer_log_probs(slot_logp), y, tree, through)
            return self.alpha * l_d + self.beta * l_nd
        if through:  # the likelihood of all paths through the label, wherever they end
            elsewhere = losses.reward(tree, y) == 0
            return -tree.path_log_probs(slot_logp).masked_fill(elsewhere, -torch.inf).logsumexp(1).mean()
        if self.objective == "marginal":
            return losses.marginal_likelihood(tree.label_log_probs(slot_logp), y)
        return losses.question_likelihood(tree, slot_logp, y)

    def _teacher_forcing(self, answer_logp: Tensor, y: Tensor, tree: PrefixTree, through: bool = False) -> Tensor:
        targets = losses.deterministic_paths(tree, y) & (not through)
        return losses.teacher_forcing(answer_logp, targets, self.minibatch, self.n_p)

    def _algorithm_1(self, features: Tensor, y: Tensor, tree: PrefixTree, through: bool) -> Tensor:
        """Algorithm 1. Part 1: teacher forcing; part 2: REINFORCE on the uncertain samples, one sampled path each.

        Paths are sampled first, so that one pass over the shared tree gives both parts their log-probabilities.
        """
        uncertain = losses.is_uncertain(tree, y) | through
        forced = self._coins(tree) if not through else None
        shared = through or bool(forced.all())  # where every coin says "force", the shared tree gives part 1, too
        wanted = tree.wanted[y] if shared and not through else torch.zeros_like(tree.wanted[y])
        tokens = self.decoder._tokens()
        if some := bool(uncertain.any()):
            sampled = self.decoder.sample(features[uncertain], tree, tokens=tokens)
            wanted[uncertain] |= tree.wanted_on(sampled)
        if some or shared:
            answer_logp = tree.answer_log_probs(self.decoder.slot_log_probs(features, tree, wanted, tokens))
        loss = features.new_zeros(())
        if not through:
            l_d = (
                self._teacher_forcing(answer_logp, y, tree) if shared else self._own_answers(features, y, tree, forced)
            )
            loss = self.alpha * l_d
        if not some:
            return loss
        r = losses.reward(tree, y[uncertain]).gather(1, sampled[:, None])[:, 0]
        share = uncertain.float().mean()  # a mean over the batch, like part 1
        l_nd = share * losses.reinforce(answer_logp[uncertain], sampled, r, self.b)
        if self.training:
            self.b.lerp_(r.mean().to(self.b), 0.1)
        return loss + self.beta * l_nd

    def _coins(self, tree: PrefixTree) -> Tensor:
        """The teacher-force coin of every step, [T] bool: True feeds the ground truth, with the rate r_tf."""
        steps = 1 if self.coin == "batch" else len(tree.levels)
        return (torch.rand(steps) <= self.r_tf).expand(len(tree.levels))

    def _own_answers(self, features: Tensor, y: Tensor, tree: PrefixTree, forced: Tensor) -> Tensor:
        """Part 1 where some coin says "the model's own answer": every deterministic path by itself."""
        targets = losses.deterministic_paths(tree, y)
        rows, path = targets.nonzero(as_tuple=True)
        if not len(rows):
            return features.new_zeros(())
        logp = self.decoder.sequence_log_probs(features[rows], tree, path, forced)
        table = features.new_zeros(targets.shape).index_put((rows, path), logp)
        return losses.teacher_forcing(table, targets, self.minibatch, self.n_p)

    def log_probs(self, features: Tensor) -> Tensor:
        """Exact log p(label | x) of the evaluated labels: [B, d] -> [B, n_fine]."""
        return self.fine_tree.label_log_probs(self.decoder.slot_log_probs(features, self.fine_tree))

    def greedy(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Algorithm 2: class [B] and path [B] (an index into fine_tree.paths)."""
        path = self.fine_tree.greedy(self.decoder.slot_log_probs(features, self.fine_tree), self.literal)
        return self.fine_tree.path_label[path], path

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """Everything evaluation asks for, from one pass: features [B, d] -> log_probs [B, n_fine], greedy [B],
        path [B] (as log_probs and greedy give them) and path_log_probs [B, P], log p(P | x) of fine_tree.paths."""
        slot_logp = self.decoder.slot_log_probs(features, self.fine_tree)
        path = self.fine_tree.greedy(slot_logp, self.literal)
        return {
            "log_probs": self.fine_tree.label_log_probs(slot_logp),
            "greedy": self.fine_tree.path_label[path],
            "path": path,
            "path_log_probs": self.fine_tree.path_log_probs(slot_logp),
        }
