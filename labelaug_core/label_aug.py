"""label-aug: the path decoder as a classifier, trained by Algorithm 1 or by an exact objective in its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelaug_core import losses
from labelaug_core.decoder import PathDecoder, greedy
from labelaug_core.files.checks import NOT_NEGATIVE, SHARE, WHOLE, check_values, optional
from labelaug_core.graph import LabelGraph
from labelaug_core.prefix_tree import PrefixTree


@dataclass(frozen=True)
class PathSettings:
    """What can be chosen of label-aug. Raises ValueError naming every value that is not possible.

    `question` and `marginal` do not use alpha to coin, `expected-reward` does not use r_tf and coin.
    """

    hidden: int = 256  # H, the size of the GRU's state and of the node embeddings
    objective: str = "algorithm-1"  # or expected-reward (the same without sampling), marginal, question
    alpha: float = 1.0  # weight of L_d (Eq. 2)
    beta: float = 1.0  # weight of L_nd (Eq. 4)
    minibatch: str = "mean"  # over a sample's deterministic paths: mean, sum, random (Sec. 4.5)
    n_p: int | None = None  # at most so many of a sample's deterministic paths; None: all
    r_tf: float = 1.0  # teacher-force rate (Alg. 1)
    coin: str = "batch"  # one teacher-force coin a batch (Alg. 1), or a step
    coarse: str = "path"  # a coarse sample is taught the path to its label; reward: it rewards any path through it
    feed: bool = False  # the features enter the GRU at every step (Alg. 1 and 2), not by f_0 alone (Eq. 1)
    literal: bool = False  # the paper's block rule: a block holds its whole group, also nodes that are no child here

    def __post_init__(self):
        """Check the values."""
        known = {
            "objective": tuple(OBJECTIVES),
            "minibatch": losses.MINIBATCH,
            "coin": ("batch", "step"),
            "coarse": ("path", "reward"),
        }
        words = {name: (f"one of {', '.join(some)}", some.__contains__) for name, some in known.items()}
        numbers = {"hidden": WHOLE, "alpha": NOT_NEGATIVE, "beta": NOT_NEGATIVE, "n_p": optional(WHOLE), "r_tf": SHARE}
        check_values(self, words | numbers)


class PathHead(nn.Module):
    """Scores paths from features [B, d] and classifies by them.

    labels: all label nodes of training; the first n_fine are evaluated, and only they may end a path then (so a
    fine-grained test never ends at `cat`). `fine_tree` holds the paths to them, `tree` also those to the coarse ones.
    Raises GraphError naming groups of the graph whose members do not compete: their paths would not sum to 1.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, settings: PathSettings | None = None):
        super().__init__()
        self.settings = settings = settings or PathSettings()
        self.decoder = PathDecoder(graph, d, settings.hidden, settings.feed)
        self.tree = PrefixTree(graph, labels, n_fine, settings.literal)
        self.fine_tree = PrefixTree(graph, labels[:n_fine], None, settings.literal)
        graph.check_competing(set(self.tree.block_group))
        self.register_buffer("b", torch.tensor(0.0))  # the average baseline b(r) of Eq. 5: a running mean

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """The objective on one batch of one dataset: features [B, d], y [B] indices into labels -> scalar.

        A fine batch is scored where only fine labels end a path, as in evaluation; a coarse one on the joint tree.
        """
        tree = self.tree if is_coarse else self.fine_tree
        through = is_coarse and self.settings.coarse == "reward"
        return OBJECTIVES[self.settings.objective](self, features, y, tree, through)

    def slot_log_probs(self, features: Tensor) -> Tensor:
        """log p of every slot of the fine tree, 32 samples at a time: larger blocks of memory are slow to get."""
        parts = features.split(len(features) if features.is_cuda else 32)
        return torch.cat([self.decoder.slot_log_probs(part, self.fine_tree) for part in parts])

    def log_probs(self, features: Tensor) -> Tensor:
        """Exact log p(label | x) of the evaluated labels: [B, d] -> [B, n_fine]."""
        return self.fine_tree.label_log_probs(self.slot_log_probs(features))

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """What evaluation asks for, from one pass over features [B, d].

        log_probs [B, n_fine]: exact log p(label | x); path [B]: Algorithm 2's path, an index into fine_tree.paths;
        greedy [B]: the label that it ends at; path_log_probs [B, P]: log p(P | x) of every path.
        """
        return self.explained(features)[1]

    def explained(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What `explain` asks for, from one pass: log p of every slot of the fine tree [B, E], and the predictions."""
        slot_logp = self.slot_log_probs(features)
        path = greedy(self.fine_tree, slot_logp)
        return slot_logp, {
            "log_probs": self.fine_tree.label_log_probs(slot_logp),
            "greedy": self.fine_tree.path_label[path],
            "path": path,
            "path_log_probs": self.fine_tree.path_log_probs(slot_logp),
        }


# -- the objectives: (head, features [B, d], y [B], tree, through) -> scalar ------------------------------------------
# through: a coarse batch in which every path through the label is right, wherever it ends


def algorithm_1(head: PathHead, features: Tensor, y: Tensor, tree: PrefixTree, through: bool) -> Tensor:
    """Algorithm 1: part 1, teacher forcing; part 2: REINFORCE on the uncertain samples, one sampled path each.

    Paths are sampled first, so that one pass over the shared tree gives both parts their log-probabilities. The paper's
    part 2 drops the hidden state and has no baseline; alpha is unused there when no sample is uncertain. Here part 2
    has both, and alpha always weighs part 1.
    """
    settings, decoder = head.settings, head.decoder
    uncertain = losses.is_uncertain(tree, y) | through
    steps = 1 if settings.coin == "batch" else len(tree.levels)
    forced = (torch.rand(steps) <= settings.r_tf).expand(len(tree.levels))  # the coin of each step
    tokens, wanted = decoder.tokens(), tree.wanted_certain[y]
    if some := bool(uncertain.any()):
        sampled = decoder.sample(features[uncertain], tree, tokens)
        wanted[uncertain] |= tree.wanted_on(sampled)
    answer_logp = tree.answer_log_probs(decoder.slot_log_probs(features, tree, wanted, tokens))
    loss = features.new_zeros(())
    if not through:
        part_1 = answer_logp if bool(forced.all()) else own_answers(head, features, y, tree, forced)
        loss = settings.alpha * deterministic_part(head, part_1, y, tree)
    if some:
        r = losses.reward(tree, y[uncertain]).gather(1, sampled[:, None])[:, 0]
        share = uncertain.float().mean()  # a mean over the batch, like part 1
        loss = loss + settings.beta * share * losses.reinforce(answer_logp[uncertain], sampled, r, head.b)
        if head.training:
            head.b.lerp_(r.mean().to(head.b), 0.1)
    return loss


def deterministic_part(head: PathHead, answer_logp: Tensor, y: Tensor, tree: PrefixTree) -> Tensor:
    """L_d of a batch: teacher forcing with the settings of the head. answer_logp [B, P] -> scalar."""
    targets = losses.deterministic_paths(tree, y)
    return losses.teacher_forcing(answer_logp, targets, head.settings.minibatch, head.settings.n_p)


def own_answers(head: PathHead, features: Tensor, y: Tensor, tree: PrefixTree, forced: Tensor) -> Tensor:
    """Part 1 where some coin says "the model's own answer": every deterministic path by itself. -> [B, P]."""
    row, path = losses.deterministic_paths(tree, y).nonzero(as_tuple=True)
    logp = head.decoder.sequence_log_probs(features[row], tree, path, forced)
    return features.new_zeros(len(y), len(tree.paths)).index_put((row, path), logp)


def expected_reward(head: PathHead, features: Tensor, y: Tensor, tree: PrefixTree, through: bool) -> Tensor:
    """Algorithm 1 without sampling: part 2 is -E[r] itself, minus the probability of the label's paths."""
    slot_logp = head.decoder.slot_log_probs(features, tree, tree.wanted[y])
    uncertain = losses.is_uncertain(tree, y) | through
    own = (tree.path_label == y[:, None]) & uncertain[:, None]  # these paths earn the whole reward of Eq. 3
    loss = head.settings.beta * losses.expected_reward(tree.path_log_probs(slot_logp), own.to(slot_logp))
    if through:
        return loss
    return loss + head.settings.alpha * deterministic_part(head, tree.answer_log_probs(slot_logp), y, tree)


def marginal(head: PathHead, features: Tensor, y: Tensor, tree: PrefixTree, through: bool) -> Tensor:
    """-log p(label | x): the label's paths together; of a coarse label, that it is reached."""
    return losses.marginal_likelihood(
        tree.label_log_probs(head.decoder.slot_log_probs(features, tree, tree.wanted[y])), y
    )


def question(head: PathHead, features: Tensor, y: Tensor, tree: PrefixTree, through: bool) -> Tensor:
    """Every question on the way must lead to the label by itself (losses.question_likelihood)."""
    if through:
        return marginal(head, features, y, tree, through)
    return losses.question_likelihood(tree, head.decoder.slot_log_probs(features, tree, tree.wanted[y]), y)


OBJECTIVES = {
    "algorithm-1": algorithm_1,
    "expected-reward": expected_reward,
    "marginal": marginal,
    "question": question,
}
