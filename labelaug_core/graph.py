"""The label graph G = (V, E) of Sec. 3.2.1, its paths (Sec. 3.2.2) and their determinism (Def. 3.1 to 3.3).

A graph is knowledge, kept as a YAML table in `labelaug_core/graphs/`. Groups are annotation, not structure:
the file says which nodes compete, because Def. 3.1 read literally ("share a same ancestor") makes every pair
of nodes compete, the root being an ancestor of all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

import networkx as nx

EOP = "<eop>"


class GraphError(ValueError):
    """The graph file breaks a rule; the message names the file, the node or group, and the rule."""


def normalise(name: str) -> str:
    """One spelling for class names: `American_Bulldog`, `american-bulldog` -> `american bulldog`; composed (NFC)."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFC", name).replace("’", "'")).strip().casefold()


@dataclass(frozen=True)
class LabelGraph:
    """G = (V, E): nodes, edges, competing groups, and the labels that each dataset puts on the nodes.

    parents:   node -> its parents; the root comes first and has none.
    group:     node (but the root) -> its competing group.
    exclusive: group -> True if its members compete (softmax), False if each is a yes/no of its own (sigmoid).
    labels:    dataset -> {class name in the dataset -> node}.
    """

    name: str
    root: str
    parents: dict[str, tuple[str, ...]]
    group: dict[str, str]
    exclusive: dict[str, bool]
    labels: dict[str, dict[str, str]]
    question: dict[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sets = ", ".join(f"{dataset} ({len(table)})" for dataset, table in self.labels.items())
        return f"<LabelGraph {self.name!r}: {len(self.parents)} nodes; labels: {sets}>"

    # -- structure ------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """V, the root first; a node's position here is its index everywhere."""
        return list(self.parents)

    @cached_property
    def index(self) -> dict[str, int]:
        """node -> its position in `nodes`."""
        return {v: i for i, v in enumerate(self.parents)}

    def children(self, v: str) -> tuple[str, ...]:
        """The nodes right below v."""
        return tuple(self.networkx[v])

    def blocks(self, v: str) -> dict[str, tuple[str, ...]]:
        """The questions asked at v: its children, by competing group (Sec. 3.2.4)."""
        out: dict[str, list[str]] = {}
        for child in self.children(v):
            out.setdefault(self.group[child], []).append(child)
        return {g: tuple(c) for g, c in out.items()}

    @cached_property
    def networkx(self) -> nx.DiGraph:
        """The same as a networkx graph, edges from parents to children."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.parents)
        graph.add_edges_from((p, v) for v, ps in self.parents.items() for p in ps)
        return graph

    def ancestors(self, v: str) -> set[str]:
        """All nodes above v."""
        return nx.ancestors(self.networkx, v)

    def descendants(self, v: str) -> set[str]:
        """All nodes below v."""
        return nx.descendants(self.networkx, v)

    def label_nodes(self, *datasets: str) -> list[str]:
        """Label nodes of these datasets (default: of all), each once, in the datasets' class order."""
        for name in datasets:
            if name not in self.labels:
                known = ", ".join(sorted(self.labels))
                raise GraphError(f"{self.name}: no dataset {name!r} has labels in this graph (it knows: {known})")
        return list(dict.fromkeys(v for d in (datasets or self.labels) for v in self.labels[d].values()))

    def check_labels(self, labels: list[str]) -> None:
        """Raises GraphError for no label, or naming those that are no node below the root or are given twice."""
        if not labels:
            raise GraphError(f"{self.name}: there must be at least one label")
        if unknown := [v for v in labels if v not in self.group]:
            raise GraphError(f"{self.name}: the graph has no label node {', '.join(map(repr, unknown))}")
        if twice := [v for v, times in Counter(labels).items() if times > 1]:
            raise GraphError(f"{self.name}: given twice as a label: {', '.join(map(repr, twice))}")

    def check_competing(self, groups: set[str]) -> None:
        """Raises GraphError naming the groups (not <eop>) whose members do not compete: paths would not sum to 1."""
        if wrong := sorted(g for g in groups if g != EOP and not self.exclusive[g]):
            raise GraphError(
                f"{self.name}: a sample with one label needs groups that compete; `exclusive: false`: "
                + ", ".join(map(repr, wrong))
            )

    @property
    def augmented(self) -> list[str]:
        """Y_aug: nodes that are a label of no dataset (the root left out)."""
        labels = set(self.label_nodes())
        return [v for v in self.nodes if v != self.root and v not in labels]

    def node_of(self, dataset: str, class_name: str) -> str:
        """The node of a dataset's class; spelling is normalised. Raises GraphError if there is none."""
        table = {normalise(c): v for c, v in self.labels.get(dataset, {}).items()}
        try:
            return table[normalise(class_name)]
        except KeyError:
            raise GraphError(f"{self.name}: the graph has no label {class_name!r} of dataset {dataset!r}") from None

    # -- paths ------------------------------------------------------------------------------------------------

    @cached_property
    def n_paths(self) -> dict[str, int]:
        """How many paths lead from the root to each node: dynamic programming, no path is listed."""
        counts = {self.root: 1}
        for v in nx.topological_sort(self.networkx):
            counts.setdefault(v, sum(counts[p] for p in self.parents[v]))
        return counts

    def count_paths(self, label: str) -> int:
        """How many paths lead from the root to the label."""
        if label not in self.parents:
            raise GraphError(f"{self.name}: the graph has no node {label!r}")
        return self.n_paths[label]

    def paths(self, label: str, cap: int = 10_000) -> list[tuple[str, ...]]:
        """All ground-truth paths v0 -> ... -> label (Sec. 3.2.2), without the closing <eop>.

        Raises GraphError for a node that is not in the graph and for more than `cap` paths.
        """
        if (n := self.count_paths(label)) > cap:
            raise GraphError(
                f"{self.name}: label {label!r} has {n} paths, more than cap={cap}; raise `cap` to list them"
            )
        found, begun = [], [(label,)]
        while begun:  # upwards; no recursion, so that a chain of thousands of nodes is fine
            path = begun.pop()
            if path[0] == self.root:
                found.append(path)
            begun += [(p, *path) for p in reversed(self.parents[path[0]])]
        return found

    def compete(self, u: str, w: str) -> bool:
        """Def. 3.1: u and w are competing nodes, here: different members of one exclusive group."""
        return u != w and u in self.group and self.group.get(w) == self.group[u] and self.exclusive[self.group[u]]

    def split_paths(self, label: str, cap: int = 10_000) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """Def. 3.2 and 3.3: the label's deterministic and its nondeterministic paths.

        A path is deterministic if no *other* path to the label carries a competitor of any of its nodes. Raises
        GraphError as `paths` does.
        """
        paths = self.paths(label, cap)
        carriers = Counter(v for path in paths for v in path)
        split: tuple[list, list] = ([], [])
        for path in paths:
            contested = any(self.compete(u, w) and carriers[w] > (w in path) for u in path for w in carriers)
            split[contested].append(path)
        return split

    # -- other graphs out of this one -----------------------------------------------------------------------

    def without(self, *drop: str) -> LabelGraph:
        """The graph without these nodes and the labels on them. Of the others, whoever was below whom stays so.

        A node below a dropped one moves to the nearest nodes above it that are left, unless it is below them anyway.
        Raises GraphError naming the nodes that the graph does not have, and for the root.
        """
        gone, parents = set(drop), {}
        if wrong := [repr(v) for v in drop if v not in self.parents or v == self.root]:
            raise GraphError(f"{self.name}: no nodes that can be dropped: {', '.join(wrong)}")
        for v in self.nodes:
            if v in gone:
                continue
            kept = [p for p in self.parents[v] if p not in gone]
            lifted, above = [], [p for p in self.parents[v] if p in gone]
            while above:  # upwards through the dropped nodes
                for p in self.parents[above.pop(0)]:
                    (above if p in gone else lifted).append(p)
            near = dict.fromkeys(kept + lifted)
            known = set().union(*(self.ancestors(p) for p in near)) if lifted else set()
            parents[v] = tuple(p for p in near if p in kept or p not in known)
        group = {v: g for v, g in self.group.items() if v in parents}
        exclusive = {g: e for g, e in self.exclusive.items() if g in group.values()}
        question = {g: text for g, text in self.question.items() if g in exclusive}
        labels = {d: {c: v for c, v in table.items() if v in parents} for d, table in self.labels.items()}
        return replace(self, parents=parents, group=group, exclusive=exclusive, question=question, labels=labels)
