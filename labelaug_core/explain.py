"""Why this label? The path of a sample with, at each step, the question, the answer and the runner-up (Sec. 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelaug_core.graph import EOP
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier

STOP, GO_ON = "stop here", "go on"  # the two answers at a label that lies above other labels


@dataclass(frozen=True)
class Step:
    """One decision along a path."""

    question: str
    answer: str
    p: float  # block softmax: p(answer | question, path so far)
    runner_up: str | None  # None where the question has one legal answer
    runner_up_p: float


@dataclass(frozen=True)
class Explanation:
    """The path of one sample and what decided it; as text (`print`) a line a step."""

    path: tuple[str, ...]
    steps: list[Step]
    deterministic: bool  # Def. 3.2
    greedy: bool  # is it the path that is decoded (Algorithm 2)?
    label_p: float  # exact p(label | x), over all paths to it
    other_path: tuple[str, ...] | None  # the most probable other path to the same label
    path_p: float  # p(path | x), questions included
    other_p: float  # of the other path

    def p(self, node: str) -> float:
        """The probability of the step to a node of the path."""
        return next(s.p for s in self.steps if s.answer == node)

    def __str__(self) -> str:
        """A line a step, then the label with its probability, then the next best path to it."""
        lines = [
            f"  {s.question:32s} {s.answer:18s} {s.p:.2f}"
            + (f"   (then {s.runner_up}, {s.runner_up_p:.2f})" if s.runner_up else "")
            for s in self.steps
        ]
        kind = "deterministic" if self.deterministic else "nondeterministic"
        lines.append(f"  so: {self.path[-1]}, p = {self.label_p:.2f} over all its paths; this path is {kind}")
        if self.other_path:
            way, odds = " > ".join(self.other_path[1:-1]), f"{self.other_p / self.path_p:.2g}"
            lines.append(f"  another path to it: {way}, {'as' if odds == '1' else f'{odds} times as'} probable")
        return "\n".join(lines)


@torch.no_grad()
def explain(model: Classifier, x: Tensor, through: str | None = None) -> list[Explanation]:
    """The path that the model decodes for every sample of a batch [B, ...], with its numbers.

    model.head: a PathHead, which decodes by Algorithm 2, or another head with `fine_tree` and `explained`.
    through: a competing group. The path is then the most probable one through this question to the label that is
    decoded; where the label cannot be reached through it, the decoded path.
    """
    model.eval()
    head, tree, features = model.head, model.head.fine_tree, model.features(x)
    slot_logp, found = head.explained(features)
    own, path_logp, label_p = found["path"], found["path_log_probs"], found["log_probs"].exp()
    paths = own if through is None else best_through(tree, path_logp, tree.path_label[own], through, own)
    slot_p, path_p = slot_logp.exp().cpu(), path_logp.exp().cpu()
    return [
        explain_path(tree, slot_p[i], path_p[i], path, path == mine, label_p[i, tree.path_label[path]].item())
        for i, (path, mine) in enumerate(zip(paths.tolist(), own.tolist(), strict=True))
    ]


def path_nodes(tree: PrefixTree, group: str) -> list[str | None]:
    """The node of a competing group that each path of the tree goes through; None where it asks another question."""
    return [next((v for v in path if tree.graph.group.get(v) == group), None) for path in tree.paths]


def best_through(
    tree: PrefixTree, path_logp: Tensor, label: Tensor, group: str, otherwise: Tensor | int = -1
) -> Tensor:
    """The most probable path to each sample's label through a node of the group; `otherwise` where there is none.

    path_logp [N, P] of tree.path_log_probs, label [N] -> path indices [N].
    """
    asks = torch.tensor([v is not None for v in path_nodes(tree, group)], device=path_logp.device)
    open_ = (tree.path_label == label[:, None]) & asks
    best = path_logp.masked_fill(~open_, -torch.inf).argmax(1)
    return torch.where(open_.any(1), best, otherwise)


def explain_path(
    tree: PrefixTree, slot_p: Tensor, path_p: Tensor, path: int, is_greedy: bool, label_p: float
) -> Explanation:
    """The Explanation of one path of one sample: slot_p [E], path_p [P], both probabilities."""
    others = [q for q in (tree.path_label == tree.path_label[path]).nonzero()[:, 0].tolist() if q != path]
    other = max(others, key=lambda q: path_p[q].item(), default=None)
    return Explanation(
        tree.paths[path],
        [step for e in tree.path_slots[path].tolist() if e < len(slot_p) for step in slot_steps(tree, slot_p, e)],
        bool(tree.deterministic[path]),
        is_greedy,
        label_p,
        tree.paths[other] if other is not None else None,
        path_p[path].item(),
        path_p[other].item() if other is not None else 0.0,
    )


def slot_steps(tree: PrefixTree, slot_p: Tensor, slot: int) -> list[Step]:
    """The decisions behind one slot: its answer and, at a label that lies above other labels, to stop or to go on."""
    answer, group, stop = tree.prefixes[slot][-1], tree.block_group[tree.slot_block[slot]], int(tree.slot_stop[slot])
    more = f"Is more known than {tree.prefixes[slot][-2]}?"
    if answer == EOP:
        return [Step(more, STOP, slot_p[slot].item(), GO_ON, 1 - slot_p[slot].item())]
    p_stop = slot_p[stop].item() if stop >= 0 else 0.0
    p = slot_p / max(1 - p_stop, 1e-12)  # given that the path goes on
    rivals = [e for e in (tree.slot_block == tree.slot_block[slot]).nonzero()[:, 0].tolist() if e != slot]
    best = max(rivals, key=lambda e: p[e].item(), default=None)
    runner_up, runner_up_p = (tree.prefixes[best][-1], p[best].item()) if best is not None else (None, 0.0)
    question = tree.graph.question.get(group, f"Which {group}?")
    first = [Step(more, GO_ON, 1 - p_stop, STOP, p_stop)] if stop >= 0 else []
    return [*first, Step(question, answer, p[slot].item(), runner_up, runner_up_p)]
