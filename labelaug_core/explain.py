"""Why this label? The path of an image with, at each step, the question, the answer and the runner-up (Sec. 4.3)."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from companion.methods import METHODS
from companion.records.store import code_hash, short_hash
from companion.runs import build, fit, kind, load_task
from torch import Tensor

from labelaug_core.cache import cache_folder, write_files
from labelaug_core.data import Task
from labelaug_core.graph import EOP
from labelaug_core.training import Classifier, hold_out, seed_everything


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
    greedy: bool  # is it the path that Algorithm 2 decodes?
    label_p: float  # exact p(label | x), over all paths to it
    other_path: tuple[str, ...] | None  # the most probable other path to the same label
    path_p: float  # p(path | x), questions included
    other_p: float  # of the other path

    def p(self, node: str) -> float:
        """Probability of the step to a node of the path."""
        return next(s.p for s in self.steps if s.answer == node)


def trained(settings: dict, seed: int) -> tuple[Classifier, Task]:
    """A cell's model and the task it was trained on. Its weights are kept in cache_folder(), under the hash of all
    that decides them, so that a figure is made again without training; an unreadable file is made anew."""
    task = load_task(settings)
    decides = [settings, seed, code_hash(settings["source"]), task.content_hash, torch.__version__]
    path = cache_folder() / f"model-{short_hash(decides)}.pt"
    fine, _ = hold_out(task.train, settings["training"]["val_fraction"], seed)
    seed_everything(seed)
    head, used = kind(task).build_head(METHODS[settings["method"]], replace(task, train=fine), settings["head"], seed)
    model = build(settings, used, head)
    try:
        model.load_state_dict(torch.load(path, weights_only=True))
    except Exception:  # torch, zipfile and pickle each raise their own kinds here
        model, used, *_ = fit(settings, task, seed)
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        write_files({path: buffer.getvalue()})
    return model, used


@torch.no_grad()
def explain(model, x: Tensor, through: str | None = None) -> list[Explanation]:
    """The greedy path of every image of a batch [B, ...] with its own numbers (model.head is a PathHead).

    through: a competing group. The path is then the most probable one through this question to the label that
    Algorithm 2 predicts; where the label cannot be reached through it, Algorithm 2's own path.
    """
    model.eval()
    head = model.head
    tree = head.fine_tree
    slot_logp = head.decoder.slot_log_probs(model.features(x), tree)
    greedy = tree.greedy(slot_logp, head.literal)
    path_logp, label_p = tree.path_log_probs(slot_logp), tree.label_log_probs(slot_logp).exp()
    paths = greedy if through is None else best_through(tree, path_logp, tree.path_label[greedy], through, greedy)
    slot_p, path_p = slot_logp.exp().cpu(), path_logp.exp().cpu()
    return [
        _explain(tree, slot_p[i], path_p[i], path, path == own, label_p[i, tree.path_label[path]].item())
        for i, (path, own) in enumerate(zip(paths.tolist(), greedy.tolist(), strict=True))
    ]


def path_nodes(tree, group: str) -> list[str | None]:
    """The node of a competing group that each path of the tree goes through; None where it asks another question."""
    return [next((v for v in path if tree.graph.group.get(v) == group), None) for path in tree.paths]


def best_through(tree, path_logp: Tensor, label: Tensor, group: str, otherwise: Tensor | int = -1) -> Tensor:
    """The most probable path to each sample's label through a node of the group; `otherwise` where there is none.

    path_logp [N, P] of tree.path_log_probs, label [N] -> path indices [N].
    """
    asks = torch.tensor([v is not None for v in path_nodes(tree, group)], device=path_logp.device)
    open_ = (tree.path_label == label[:, None]) & asks
    best = path_logp.masked_fill(~open_, -torch.inf).argmax(1)
    return torch.where(open_.any(1), best, otherwise)


def _explain(tree, slot_p: Tensor, path_p: Tensor, path: int, greedy: bool, label_p: float) -> Explanation:
    steps, graph = [], tree.graph
    for slot in [e for e in tree.path_slots[path].tolist() if e < len(slot_p)]:
        u, group = tree.prefixes[slot][-1], tree.block_group[tree.slot_block[slot]]
        if u == EOP:
            continue
        rivals = [e for e in (tree.slot_block == tree.slot_block[slot]).nonzero()[:, 0].tolist() if e != slot]
        best = max(rivals, key=lambda e: slot_p[e].item(), default=None)
        runner_up, p = (tree.prefixes[best][-1], slot_p[best].item()) if best is not None else (None, 0.0)
        steps.append(Step(graph.question.get(group, f"Which {group}?"), u, slot_p[slot].item(), runner_up, p))
    others = [q for q in (tree.path_label == tree.path_label[path]).nonzero()[:, 0].tolist() if q != path]
    other = max(others, key=lambda q: path_p[q].item(), default=None)
    return Explanation(
        tree.paths[path],
        steps,
        bool(tree.deterministic[path]),
        greedy,
        label_p,
        tree.paths[other] if other is not None else None,
        path_p[path].item(),
        path_p[other].item() if other is not None else 0.0,
    )


def format_explanation(e: Explanation) -> str:
    """An explanation as text, a line a step."""
    lines = [
        f"  {s.question:32s} {s.answer:18s} {s.p:.2f}"
        + (f"   (then {s.runner_up}, {s.runner_up_p:.2f})" if s.runner_up else "")
        for s in e.steps
    ]
    kind = "deterministic" if e.deterministic else "nondeterministic"
    lines.append(f"  so: {e.path[-1]}, p = {e.label_p:.2f} over all its paths; this path is {kind}")
    if e.other_path:
        way, odds = " > ".join(e.other_path[1:-1]), e.other_p / e.path_p
        lines.append(f"  another way there: {way}, {odds:.2g} times as likely")
    return "\n".join(lines)


def choose(explanations: list[Explanation], node: str, n: int, seed: int) -> list[int]:
    """At most n of the samples whose path goes through the node, by rule and seed (Figure 4).

    Half of them on deterministic and half on nondeterministic paths where there are enough of both; Algorithm 2's own
    paths before those that were asked for; among equals at random. Right or wrong plays no part.
    """
    order = [i for i in np.random.default_rng(seed).permutation(len(explanations)) if node in explanations[i].path]
    order.sort(key=lambda i: not explanations[i].greedy)  # stable: equals stay in random order
    certain, uncertain = ([int(i) for i in order if explanations[i].deterministic is kind] for kind in (True, False))
    k = min(len(certain), max(n - len(uncertain), n // 2))
    return certain[:k] + uncertain[: n - k]
