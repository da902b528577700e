"""How two label sets meet on a label graph: which labels are shared, who is coarser than whom, who teaches what."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labelaug_core.data import Split, Task, listed
from labelaug_core.graph import LabelGraph
from labelaug_core.joining.draft import UNPLACED, vague_pairs


def label_relations(graph: LabelGraph, fine: str, coarse: str) -> dict[str, object]:
    """How two label sets meet: shared nodes, nodes of one set only, and who is coarser than whom."""
    a, b = graph.label_nodes(fine), graph.label_nodes(coarse)
    above = {v: graph.ancestors(v) for v in {*a, *b}}
    below = {y: [x for x in a if y in above[x]] for y in b}
    return {
        "shared": [y for y in b if y in a],
        f"only {fine}": [x for x in a if x not in b],
        f"only {coarse}": [y for y in b if y not in a],
        "coarser": {y: xs for y, xs in below.items() if xs},
        "finer": {y: xs for y in b if (xs := [x for x in a if x in above[y]])},
        "unrelated": [y for y in b if y not in a and not below[y] and not set(a) & above[y]],
    }


def nested_labels(graph: LabelGraph, dataset: str) -> dict[str, list[str]]:
    """Labels of one dataset that lie above others of it: label -> the labels below it."""
    nodes = graph.label_nodes(dataset)
    return {v: below for v in nodes if (below := [w for w in nodes if v in graph.ancestors(w)])}


def label_counts(split: Split | None, n: int) -> np.ndarray:
    """How many samples have each of n labels, [n]."""
    if split is None:
        return np.zeros(n, dtype=int)
    counts = split.y.sum(0) if split.y.ndim == 2 else np.bincount(split.y, minlength=n)
    return np.pad(counts, (0, n - len(counts)))


def join_report(task: Task) -> pd.DataFrame:
    """One row a label: label, relation, to (other labels), samples of either dataset, paths, deterministic ones.

    relation: `shared`; `coarser` or `finer` (a label of the coarse set alone that is above or below fine
    labels); `only <dataset>` (for a fine one, `to` has the coarse labels above it); `unplaced` (below the
    node `unplaced`).
    """
    graph, (fine, coarse) = task.graph, list(task.graph.labels)[:2]
    meet, rows = label_relations(graph, fine, coarse), []
    loose = graph.descendants(UNPLACED) if UNPLACED in graph.parents else set()
    columns = {v: i for i, v in enumerate(task.labels)}
    n_fine, n_coarse = (label_counts(s, len(task.labels)) for s in (task.train, task.coarse))
    of_fine, of_coarse = graph.label_nodes(fine), graph.label_nodes(coarse)
    for v in graph.label_nodes(fine, coarse):
        if v in of_fine:
            above = graph.ancestors(v)
            relation, to = "shared" if v in meet["shared"] else f"only {fine}", [y for y in of_coarse if y in above]
        else:
            relation = next((r for r in ("coarser", "finer") if v in meet[r]), f"only {coarse}")
            to = meet[relation][v] if relation in ("coarser", "finer") else []
        relation = UNPLACED if v in loose and not to else relation
        i = columns.get(v)
        samples = (0, 0) if i is None else (int(n_fine[i]), int(n_coarse[i]))
        paths = graph.count_paths(v), len(graph.split_paths(v)[0])
        rows.append((v, relation, ", ".join(to), *samples, *paths))
    names = ["label", "relation", "to", f"{fine} (n)", f"{coarse} (n)", "paths", "deterministic"]
    return pd.DataFrame(rows, columns=names)


def teaching_report(task: Task) -> pd.DataFrame:
    """One row a node: how many training samples of either dataset teach it.

    A sample teaches the nodes above its label: `sure` if the label leads to no competitor of the node (Def.
    3.1), `open` if it may be the node or a competitor. No label settles a node that has no
    `sure` sample.
    """
    graph, fine_coarse = task.graph, list(task.graph.labels)[:2]
    table = {v: [0, 0, 0, 0] for v in graph.nodes if v != graph.root}
    for k, split in enumerate((task.train, task.coarse)):
        for label, n in zip(task.labels, label_counts(split, len(task.labels)), strict=True):
            above = (graph.ancestors(label) | {label}) - {graph.root}
            for v in above if n else ():
                table[v][2 * k + any(graph.compete(v, w) for w in above)] += int(n)
    names = [f"{dataset} {how}" for dataset in fine_coarse for how in ("sure", "open")]
    rows = [(v, graph.group[v], *counts) for v, counts in table.items()]
    return pd.DataFrame(rows, columns=["node", "group", *names])


def describe_join(task: Task) -> str:
    """The join in a few lines: which labels are shared, coarser, only here or there, not placed; what is to be done."""
    report = join_report(task)
    lines = [
        f"{len(report)} labels, {len(task.graph.nodes)} nodes, {len(task.graph.exclusive)} questions; "
        f"{report['paths'].sum()} paths, {report['deterministic'].sum()} of them deterministic"
    ]
    for relation, part in report.groupby("relation", sort=False):
        named = [
            f"{r.label} (of {r.to})" if r.to and relation in ("coarser", "finer") else r.label
            for r in part.itertuples()
        ]
        more = f", ... ({len(named) - 8} more)" if len(named) > 8 else ""
        lines.append(f"{relation} ({len(named)}): " + ", ".join(named[:8]) + more)
    if UNPLACED in set(report["relation"]):
        lines.append(f"-> write into the graph where the {UNPLACED} ones belong, then run this again")
    graph, (fine, coarse) = task.graph, list(task.graph.labels)[:2]
    for one, other in vague_pairs(graph, fine, coarse):
        lines.append(
            f"-> question: is {one!r} of {fine} the same as {other!r} of {coarse}? The name does not say. "
            "If it is, put both classes on one node; if not, give each its place"
        )
    for above, below in nested_labels(graph, fine).items():
        named = listed(map(repr, below))
        lines.append(
            f"-> warning: the fine label {above!r} lies above {named}, fine as well: a path may stop there or go "
            f"on. This is right if {above!r} means `one of these, not known which`; if not, give it a place beside them"
        )
        if above in graph.label_nodes(coarse):
            lines.append(
                f"-> warning: {coarse} has {above!r}, too: its samples teach the model to stop there, also those that "
                f"show {named}. If it has such samples, give the class of {fine} a node of its own below {above!r}"
            )
    return "\n".join(lines)
