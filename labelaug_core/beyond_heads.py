"""More models of the same labels for notebook 40: label-aug with another decoder, HEX at a tenth of its time, and the
package `hierarchicalsoftmax`. (The heads of the runs that are recorded already stay as they are in beyond.py.)"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core import beyond
from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import LabelGraph
from labelaug_core.label_aug import PathHead


class AgreementHead(PathHead):
    """label-aug whose questions must agree: log p(label | x) is, up to a constant, the sum over the questions q on the
    way to the label of log A_q, plus the mean over q of log p(label | its answer to q).

    A_q is the probability of the label's answer to q and of the way there (summed, where it has several answers).
    label-aug takes the mean over q of A_q p(label | answer): there one question that is misled keeps a wrong label
    alive, and what a coarse label teaches one question moves the result by a Q-th. Here each answer is evidence of its
    own, so each coarse label counts against every label that would answer otherwise.

    A coarse label is the answer to its question, as in label-aug.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, objective="question", **options)
        tree = self.fine_tree
        asked = [tuple(tree.graph.group[v] for v in path[1:]) for path in tree.paths]
        number = {q: i for i, q in enumerate(dict.fromkeys(asked))}
        place = tree.path_label * len(number) + torch.tensor([number[q] for q in asked])
        has = torch.zeros(len(tree.labels) * len(number), dtype=torch.bool)
        has[place] = True
        self.register_buffer("place", place, persistent=False)  # [P]: label and question of each path
        self.register_buffer("has", has.view(len(tree.labels), -1), persistent=False)  # [K, Q]

    def log_probs(self, features: Tensor) -> Tensor:
        slot_logp = self.decoder.slot_log_probs(features, self.fine_tree)
        path = self.fine_tree.answer_log_probs(slot_logp)
        whole = self._by_question(path)
        answer = self._by_question(path - slot_logp[:, self.fine_tree.path_slot])  # without the last step
        return (answer.sum(2) + (whole - answer).sum(2) / self.has.sum(1)).log_softmax(1)

    def _by_question(self, per_path: Tensor) -> Tensor:
        """The log of the summed probability of each label's paths that ask the same: [B, P] -> [B, K, Q], 0: none."""
        z = block_logsumexp(per_path, self.place, self.has.numel())
        return z.view(-1, *self.has.shape).masked_fill(~self.has, 0.0)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        return super().loss(features, y, True) if is_coarse else nn.functional.nll_loss(self.log_probs(features), y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        return {"log_probs": self.log_probs(features)}


class HexHead(beyond.HexHead):
    """The same model, its sums over open answers as one matrix product: what the larger graphs need."""

    def __init__(self, *args):
        super().__init__(*args)
        answers = self.answers.flatten(0, 1)  # [K Q, N]
        self.register_buffer("members", answers.T.float(), persistent=False)
        self.register_buffer("none", ~answers.any(1), persistent=False)

    def _terms(self, features: Tensor) -> tuple[Tensor, Tensor]:
        z = self.score(features)
        top = z.detach().amax(1, keepdim=True)
        total = (z - top).exp() @ self.members + self.none  # 1 where nothing is asked: log 1 = 0, top is not added
        terms = total.clamp(min=1e-30).log() + top * ~self.none
        return z, terms.view(len(z), *self.answers.shape[:2])


class HierarchicalSoftmaxHead(nn.Module):
    """The package `hierarchicalsoftmax` as its users put it on a network: its linear layer, loss and probabilities, on
    the tree that is left of the label graph without its augmented nodes. (Of several parents it keeps the first.)"""

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        from hierarchicalsoftmax import HierarchicalSoftmaxLinear, HierarchicalSoftmaxLoss, SoftmaxNode, inference

        tree, self.leaves = graph.without(*graph.augmented), inference.leaf_probabilities
        made = {graph.root: SoftmaxNode(graph.root)}
        while missing := [v for v in tree.nodes if v not in made and tree.parents[v][0] in made]:
            made |= {v: SoftmaxNode(v, parent=made[tree.parents[v][0]]) for v in missing}
        self.root = made[graph.root]
        self.root.set_indexes()
        self.score = HierarchicalSoftmaxLinear(self.root, in_features=d)
        self.criterion = HierarchicalSoftmaxLoss(self.root)
        leaf = {node.name: i for i, node in enumerate(self.root.leaves)}
        self.register_buffer("node", torch.tensor([self.root.node_to_id[made[v]] for v in labels]), persistent=False)
        self.register_buffer("leaf", torch.tensor([leaf[v] for v in labels[:n_fine]]), persistent=False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        return self.criterion(self.score(features), self.node[y])

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        p = self.leaves(self.score(features), self.root)[:, self.leaf]
        return {"log_probs": p.clamp(min=1e-30).log()}


HEADS = beyond.HEADS | {"agreement": AgreementHead, "hex": HexHead, "hierarchicalsoftmax": HierarchicalSoftmaxHead}
