"""Read and validate a label graph: knowledge is data, so an error in it names the file, the node and the rule."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import networkx as nx
import yaml

from labelaug_core.graph import EOP, GraphError, LabelGraph, normalise

GRAPHS = Path(__file__).parent / "graphs"
DEEPEST = 20  # levels of lists and tables inside each other; a graph needs six


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML that refuses a key given twice (YAML itself keeps the last one silently)."""

    def construct_mapping(self, node, deep=False):
        """A mapping whose keys are texts, each given once. Raises yaml.MarkedYAMLError with the line of another key."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"{key!r} is not a text: put it in quotes", key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_graph(source: str | Path) -> LabelGraph:
    """Read and validate a graph: a name ('pet': labelaug_core/graphs/pet.yaml) or the path of a YAML file.

    Raises GraphError naming the file, the node or group, and the rule that it breaks.
    """
    is_file = str(source).lower().endswith((".yaml", ".yml"))
    path = Path(source).expanduser() if is_file else GRAPHS / f"{source}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in GRAPHS.glob("*.yaml")))
        unknown = f"{source!r:.60}: neither the path of a .yaml file nor a known name"
        what = f"{path}: no such file" if is_file else unknown
        raise GraphError(f"{what}; known graphs: {known}")
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))  # macOS writes names decomposed
        _check_form(text)
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except Exception as error:  # yaml raises its own kinds, and for odd values KeyError, IndexError, ...
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise GraphError(f"{path.name}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    return graph_from_dict(data, path.name)


def graph_to_yaml(graph: LabelGraph) -> str:
    """The graph as YAML that load_graph reads back to an equal graph: a line a node, with its parents.

    Nodes come group by group: only in a graph of that order do they keep their positions.
    """
    question = {g: graph.question.get(g, f"Which {g}?") for g in graph.exclusive}
    groups = {g: {"question": question[g], "exclusive": e, "nodes": {}} for g, e in graph.exclusive.items()}
    for v, g in graph.group.items():
        groups[g]["nodes"][v] = list(graph.parents[v])
    data = {"name": graph.name, "root": graph.root, "sources": list(graph.sources), "groups": groups}
    data["labels"] = {dataset: {"nodes": dict(table)} for dataset, table in graph.labels.items()}
    form = {"sort_keys": False, "width": 120, "default_flow_style": None}
    text = yaml.safe_dump(data, allow_unicode=True, **form)
    again = yaml.load(unicodedata.normalize("NFC", text), Loader=_Loader)  # as load_graph reads it
    return text if again == data else yaml.safe_dump(data, **form)  # odd characters: escaped


def _check_form(text: str) -> None:
    """Before anything is built: a few lines of aliases can stand for billions of names."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, f"*{event.anchor} is an alias: write it out", event.start_mark)
        if depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"more than {DEEPEST} levels of nesting", event.start_mark)


def _names(value, where: str) -> list[str]:
    """A name, or a list of names (lists inside it are alternatives), as one flat list of names."""
    out = []
    for item in value if isinstance(value, list) else [value]:
        out += _names(item, where) if isinstance(item, list) else [item]
    if wrong := [item for item in out if not isinstance(item, str) or not item.strip()]:
        raise GraphError(f"{where}: {_all(wrong)} is not a node name (a text; quote it if YAML reads it otherwise)")
    if EOP in out:
        raise GraphError(f"{where}: {EOP!r} is the end of a path and cannot name a node or a group")
    if twice := [item for item, times in Counter(out).items() if times > 1]:
        raise GraphError(f"{where}: {_all(twice)} is listed twice")
    return out


def _all(names) -> str:
    """All names of a message: 'a', 'b'."""
    return ", ".join(f"{name!r:.60}" for name in names)


def _only(mapping, allowed: set[str], where: str) -> dict:
    if not isinstance(mapping, dict):
        raise GraphError(f"{where}: expected `key: value` lines, got {mapping!r:.60}")
    if unknown := sorted(set(mapping) - allowed):
        raise GraphError(f"{where}: unknown key {_all(unknown)} (allowed: {', '.join(sorted(allowed))})")
    return mapping


def graph_from_dict(data: dict, file: str) -> LabelGraph:
    """Build a LabelGraph out of the parsed YAML; the rules are checked here (see load_graph)."""
    _only(data, {"name", "root", "sources", "notes", "groups", "labels"}, file)
    if missing := [key for key in ("root", "groups", "labels") if not data.get(key)]:
        raise GraphError(f"{file}: the key {_all(missing)} is missing or empty")
    roots = _names(data["root"], f"{file}: root")
    if len(roots) != 1:
        raise GraphError(f"{file}: root: a graph has one root, this file names {len(roots)}")
    root = roots[0]
    sources = data.get("sources") or []
    if not isinstance(sources, list):
        raise GraphError(f"{file}: sources: expected a list of texts, got {sources!r:.60}")
    parents: dict[str, tuple[str, ...]] = {root: ()}
    group, exclusive, question = {}, {}, {}
    if not isinstance(data["groups"], dict):
        raise GraphError(f"{file}: groups: expected `group: ...` lines")
    for g, spec in data["groups"].items():
        _names(g, where := f"{file}: group {g!r}")
        _only(spec, {"question", "below", "columns", "nodes", "exclusive"}, where)
        nodes = spec.get("nodes")
        if not nodes:
            raise GraphError(f"{where}: has no nodes")
        if not isinstance(exclusive.setdefault(g, spec.get("exclusive", True)), bool):
            raise GraphError(f"{where}: exclusive must be true or false")
        question[g] = str(spec.get("question", f"Which {g}?"))
        below = _names(spec["below"], where) if "below" in spec else []
        rows = nodes if isinstance(nodes, dict) else {v: [] for v in _names(nodes, where)}
        for v, row in rows.items():
            if v == root or v in group:
                raise GraphError(
                    f"{file}: node {v!r} is in two groups ({group.get(v, 'root')!r} and {g!r}) or listed twice"
                )
            _check_columns(spec, row, f"{file}: node {v!r}", data["groups"])
            parents[v] = tuple(
                dict.fromkeys(below + (_names(row, f"{file}: node {v!r}") if row not in (None, []) else []))
            )
            group[v] = g
    if orphans := [v for v in group if not parents[v]]:
        raise GraphError(f"{file}: node {_all(orphans)} is an orphan: no parent (`below:` of its group, or a row)")
    if not isinstance(data["labels"], dict):
        raise GraphError(f"{file}: labels: expected `dataset: ...` lines")
    labels = {d: _labels(spec, parents, group, f"{file}: labels of {d!r}") for d, spec in data["labels"].items()}
    graph = LabelGraph(
        str(data.get("name", Path(file).stem)),
        root,
        parents,
        group,
        exclusive,
        labels,
        question,
        tuple(map(str, sources)),
    )
    _validate(graph, file)
    return graph


def _check_columns(spec: dict, row, where: str, groups: dict) -> None:
    """A row of a table has one cell a column, and a cell holds only nodes of the column's group."""
    if "columns" not in spec:
        return
    columns = _names(spec["columns"], where)
    if not isinstance(row, list) or len(row) != len(columns):
        raise GraphError(
            f"{where}: its row has {len(row) if isinstance(row, list) else 1} cells, columns: {', '.join(columns)}"
        )
    for column, cell in zip(columns, row, strict=True):
        if column not in groups or not isinstance(groups[column], dict):
            raise GraphError(f"{where}: the column {column!r} is not a group of this file")
        for u in _names(cell, where):
            if not isinstance(groups[column].get("nodes"), (list, dict)) or u not in groups[column]["nodes"]:
                raise GraphError(f"{where}: {u!r} is not in the group of its column, {column!r}")


def _labels(spec, parents: dict, group: dict, where: str) -> dict[str, str]:
    spec = _only(spec, {"groups", "nodes"}, where)
    table: dict[str, str] = {}
    for g in _names(spec.get("groups", []), where):
        if g not in group.values():
            raise GraphError(f"{where}: no group {g!r}")
        table |= {v: v for v, h in group.items() if h == g}
    nodes = spec.get("nodes") or {}
    table |= nodes if isinstance(nodes, dict) else {v: v for v in _names(nodes, where)}
    if wrong := {c: v for c, v in table.items() if not isinstance(v, str) or v not in group}:
        raise GraphError(f"{where}: class {_all(wrong)}: below the root there is no node {_all(wrong.values())}")
    if not table:
        raise GraphError(f"{where}: no label")
    for what, names in (("class", [normalise(c) for c in table]), ("node", list(table.values()))):
        if twice := [n for n, times in Counter(names).items() if times > 1]:
            raise GraphError(f"{where}: {what} {_all(twice)} is given twice")
    return table


def _validate(graph: LabelGraph, file: str) -> None:
    if lost := {v: p for v, ps in graph.parents.items() for p in ps if p not in graph.parents}:
        raise GraphError(f"{file}: node {_all(lost)}: its parent {_all(dict.fromkeys(lost.values()))} is in no group")
    try:
        cycle = [v for v, _ in nx.find_cycle(graph.networkx)]
        raise GraphError(f"{file}: the nodes {' -> '.join([*cycle, cycle[0]])} form a cycle")
    except nx.NetworkXNoCycle:
        pass
    useful = set(graph.label_nodes())
    for v in reversed(list(nx.topological_sort(graph.networkx))):
        if useful.intersection(graph.children(v)):
            useful.add(v)
    if dead := [v for v in graph.nodes if v not in useful]:
        raise GraphError(f"{file}: node {_all(dead)} leads to no label of any dataset")
