"""Every method of the tables by name: which head, on which graph, decoded how. One row a method."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labelaug_core.baselines import FFNHead, LabelSetHead
from labelaug_core.datasets.base import Task
from labelaug_core.graph import LabelGraph
from labelaug_core.label_aug import PathHead


@dataclass(frozen=True)
class Method:
    title: str  # as in the paper's tables
    head: str  # ffn, label-set, path
    decode: str = "exact"  # exact: most probable label; greedy: Algorithm 2
    graph: str = "full"  # full, medium, small (Sec. 4.5), species-breed (no augmented nodes), shuffled
    options: tuple[tuple[str, object], ...] = ()
    joins: bool = True  # can it use the coarse labels?
    fine: bool = True  # does it mean anything without them?


METHODS = {
    "ffn": Method("FFN", "ffn", joins=False),
    "label-set": Method("Label Set", "label-set"),
    "label-set-ignore": Method("Label Set, uncertain nodes left out", "label-set", options=(("uncertain", "ignore"),)),
    "pseudo-labels": Method("Pseudo Labels", "ffn", fine=False),
    "label-aug": Method("label-aug, Algorithm 1", "path", decode="greedy"),
    "label-aug-expected": Method("label-aug, expected reward", "path", options=(("objective", "expected-reward"),)),
    "label-aug-marginal": Method("label-aug, marginal likelihood", "path", options=(("objective", "marginal"),)),
    "label-aug-question": Method("label-aug, question likelihood", "path", options=(("objective", "question"),)),
    "wordtree": Method(
        "WordTree (species, then breed)", "path", graph="species-breed", options=(("objective", "marginal"),)
    ),
    "label-aug-shuffled": Method(
        "label-aug, question likelihood, shuffled attributes",
        "path",
        graph="shuffled",
        options=(("objective", "question"),),
    ),
}
GRAPHS = {"medium": 0.36, "small": 0.63}


def variant(graph: LabelGraph, name: str, seed: int) -> LabelGraph:
    """The graph that a method or an ablation asks for: full, medium, small, species-breed or shuffled."""
    if name in GRAPHS:
        return graph.trim(GRAPHS[name])
    if name == "species-breed":
        return graph.without(*graph.augmented)
    if name == "shuffled":
        return graph.shuffled(seed)
    if name != "full":
        raise ValueError(f"graph must be full, medium, small, species-breed or shuffled, got {name!r}")
    return graph


def build_head(method: Method, task: Task, options: dict, seed: int):
    """-> (a function from the trunk's width to the head, the task on the graph that the method asks for)."""
    options = dict(options)
    graph = variant(task.graph, options.pop("graph", method.graph), seed)
    task = replace(task, graph=graph)
    if method.head == "ffn":
        return (lambda d: FFNHead(d, task.n_fine)), task
    options = dict(method.options) | options
    head = {"label-set": LabelSetHead, "path": PathHead}[method.head]
    return (lambda d: head(graph, task.labels, task.n_fine, d, **options)), task
