"""Every method of the tables by name: which head, on which graph, decoded how. One row a method."""

from __future__ import annotations

from dataclasses import dataclass

from labelaug_core.graph import LabelGraph


@dataclass(frozen=True)
class Method:
    title: str  # as in the paper's tables
    head: str  # ffn, label-set, path
    decode: str = "exact"  # exact: most probable label; greedy: Algorithm 2
    graph: str = "full"  # full, medium, small (Sec. 4.5), species-breed (no augmented nodes), shuffled, untold
    options: tuple[tuple[str, object], ...] = ()


METHODS = {
    "ffn": Method("FFN", "ffn"),
    "label-set": Method("Label Set", "label-set"),
    "label-set-ignore": Method("Label Set, uncertain nodes left out", "label-set", options=(("uncertain", "ignore"),)),
    "pseudo-labels": Method("Pseudo Labels", "ffn"),
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
    "label-aug-untold": Method(
        "label-aug, question likelihood, attributes untold",
        "path",
        graph="untold",
        options=(("objective", "question"),),
    ),
}
GRAPHS = {"medium": 0.36, "small": 0.63}


def variant(graph: LabelGraph, name: str, seed: int) -> LabelGraph:
    """The graph that a method or an ablation asks for: full, medium, small, species-breed, shuffled or untold."""
    if name in GRAPHS:
        return graph.trim(GRAPHS[name])
    if name == "species-breed":
        return graph.without(*graph.augmented)
    if name == "shuffled":
        return graph.shuffled(seed)
    if name == "untold":
        return graph.untold()
    if name != "full":
        raise ValueError(f"graph must be full, medium, small, species-breed, shuffled or untold, got {name!r}")
    return graph
