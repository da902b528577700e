"""Why this label? The greedy path of an image with, at each step, the question, the answer and the runner-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelaug_core.graph import EOP


@dataclass(frozen=True)
class Step:
    question: str
    answer: str
    p: float  # block softmax: p(answer | question, path so far)
    runner_up: str | None  # None where the question has one legal answer
    runner_up_p: float


@dataclass(frozen=True)
class Explanation:
    path: tuple[str, ...]
    steps: list[Step]
    deterministic: bool  # Def. 3.2
    label_p: float  # exact p(label | x), over all paths to it
    other_path: tuple[str, ...] | None  # the most probable other path to the same label


@torch.no_grad()
def explain(model, x: Tensor) -> list[Explanation]:
    """The greedy path of every image of a batch [B, ...] with its own numbers (model.head is a PathHead)."""
    model.eval()
    head = model.head
    tree, graph = head.fine_tree, head.fine_tree.graph
    slot_logp = head.decoder.slot_log_probs(model.features(x), tree)
    paths = tree.greedy(slot_logp, head.literal)
    label_p, path_p = tree.label_log_probs(slot_logp).exp(), tree.path_log_probs(slot_logp)
    out = []
    for i, path in enumerate(paths.tolist()):
        steps, p = [], slot_logp[i].exp()
        for slot in [e for e in tree.path_slots[path].tolist() if e < len(p)]:
            u, group = tree.prefixes[slot][-1], tree.block_group[tree.slot_block[slot]]
            if u == EOP:
                continue
            rivals = [e for e in (tree.slot_block == tree.slot_block[slot]).nonzero()[:, 0].tolist() if e != slot]
            best = max(rivals, key=lambda e: p[e].item(), default=None)
            steps.append(
                Step(
                    graph.question.get(group, f"Which {group}?"),
                    u,
                    p[slot].item(),
                    tree.prefixes[best][-1] if best is not None else None,
                    p[best].item() if best is not None else 0.0,
                )
            )
        label = tree.path_label[path]
        others = [q for q in (tree.path_label == label).nonzero()[:, 0].tolist() if q != path]
        other = max(others, key=lambda q: path_p[i, q].item(), default=None)
        out.append(
            Explanation(
                tree.paths[path],
                steps,
                bool(tree.deterministic[path]),
                label_p[i, label].item(),
                tree.paths[other] if other is not None else None,
            )
        )
    return out


def format_explanation(e: Explanation) -> str:
    """An explanation as text, a line a step."""
    lines = [
        f"  {s.question:32s} {s.answer:18s} {s.p:.2f}"
        + (f"   (then {s.runner_up}, {s.runner_up_p:.2f})" if s.runner_up else "")
        for s in e.steps
    ]
    kind = "deterministic" if e.deterministic else "nondeterministic"
    lines.append(f"  so: {e.path[-1]}, p = {e.label_p:.2f} over all its paths; this path is {kind}")
    return "\n".join(lines)
