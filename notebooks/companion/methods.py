"""The one registry: every method by name (which head, on which graph, decoded how), and where each group's data are.

This module imports no torch: heads are named here and built in companion.scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

# Each is a module of companion.datasets with a function `load`: (LabelGraph, the cell's data settings) -> Task.
GROUPS = ("critters", "pet", "flower", "cifar100", "arxiv", "notes")
SEVERAL_LABELS = ("arxiv", "notes")  # a sample of these groups has several labels


@dataclass(frozen=True)
class Method:
    """A row of a table: its title, its head, how it decodes, on which graph, with which settings of the head."""

    title: str  # as in the paper's tables
    head: str  # a name of companion.scoring.HEADS
    decode: str = "exact"  # exact: most probable label; greedy: Algorithm 2
    graph: str = "full"  # or another of companion.controls.on_graph
    options: tuple[tuple[str, object], ...] = ()  # of the head, by name; a cell's own win


def _path(title: str, objective: str, graph: str = "full") -> Method:
    """label-aug with an objective other than Algorithm 1."""
    return Method(title, "path", graph=graph, options=(("objective", objective),))


def _estimator(title: str, name: str) -> Method:
    """Algorithm 1 with another estimator of the gradient in its second part."""
    return Method(f"Algorithm 1, {title}", "estimator", options=(("estimator", name),))


METHODS = {
    "ffn": Method("FFN", "ffn"),
    "label-set": Method("Label Set", "label-set"),
    "label-set-ignore": Method("Label Set, uncertain nodes left out", "label-set", options=(("uncertain", "ignore"),)),
    "pseudo-labels": Method("Pseudo Labels", "ffn"),
    "label-aug": Method("label-aug, Algorithm 1", "path", decode="greedy"),
    "label-aug-expected": _path("label-aug, expected reward", "expected-reward"),
    "label-aug-marginal": _path("label-aug, marginal likelihood", "marginal"),
    "label-aug-question": _path("label-aug, question likelihood", "question"),
    "label-aug-direct": Method("label-aug, direct and global scores", "direct"),
    "wordtree": _path("WordTree (coarse label, then fine)", "marginal", "species-breed"),
    "label-aug-shuffled": _path("label-aug, question likelihood, shuffled attributes", "question", "shuffled"),
    "label-aug-untold": _path("label-aug, question likelihood, attributes unknown", "question", "untold"),
    "flat-marginal": Method("Flat softmax, coarse labels summed", "flat-marginal"),
    "hex": Method("HEX", "hex"),
    "agreement": Method("label-aug, questions agree", "agreement"),
    "hierarchicalsoftmax": Method("hierarchicalsoftmax (package)", "hierarchicalsoftmax"),
    "hiclass": Method("hiclass (package)", "hiclass", decode="greedy"),
    "estimator-no-baseline": _estimator("no baseline", "no baseline"),
    "estimator-average-baseline": _estimator("average baseline", "average baseline"),
    "estimator-leave-one-out": _estimator("leave-one-out baseline", "leave-one-out"),
    "estimator-gumbel": _estimator("straight-through Gumbel-softmax", "straight-through Gumbel"),
}
