"""How two label sets meet: a first label graph drafted from the class names, and the report on a join."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph import LabelGraph, normalise
from labelaug_core.graph_file import graph_from_dict

UNPLACED = "unplaced"
ROOTS = ("thing", "anything", "everything", "root of the graph")

HEAD = """\
# A first draft of a label graph, made from class names alone: yours to correct. Every guess says why.
#
# How to read it. A group is one question; its nodes are the answers, and they compete. A node stands below
# its parent: the group's `below`, or the name behind the node's own line. `labels` says which class of which
# dataset sits on which node; the first dataset is the fine one, whose classes are predicted, the second the
# coarse one.
#
# How to correct it.
#   1. A class under `unplaced` has no known relation to the other dataset. Move its line to the group `class`
#      with its parent behind it (tabby: cat), or to the group `kind`, if it is a kind of its own. When
#      the last has gone, delete the group `unplaced class` and the node `unplaced`.
#   2. Check every guess. A "hot dog" is no dog: give such a class another parent, or move it to `kind`.
#   3. Two classes that mean the same sit on one node: name that node behind both, below `labels`.
#   4. A kind that no dataset names is welcome: add it to `kind` and put classes below it.
#   5. What else do you know? Ask a question of your own, and give each class its answer as a second parent; a
#      list inside the list says that it comes in several, and the picture decides:
#        colour: {question: Which colour is it?, below: ROOT, nodes: [Black, White]}
#        tabby: [cat, [Black, White]]
"""


def _words(name: str) -> tuple[str, ...]:
    """The name's words, normalised, in the singular as far as an `s` tells: Wild_Cats -> (wild, cat)."""
    return tuple(
        re.sub(r"(?<=\w\w)ies$", "y", w) if w.endswith("ies") else re.sub(r"(?<=\w\w[^s])s$", "", w)
        for w in normalise(name).split()
    )


def _containing(name: str, others: list[str]) -> tuple[str, str] | None:
    """The one of the others that occurs in the name, and why.

    As words (the last in the name, then the longest), else as the end of a word (sunflower: flower).
    """
    words, found = _words(name), []
    for other in others:
        theirs = _words(other)
        for end in range(len(theirs), len(words) + 1):
            if words[end - len(theirs) : end] == theirs and theirs != words:
                found.append((2, end, len(theirs), other, f"{other!r} is part of its name"))
        if len(theirs) == 1 and len(theirs[0]) >= 3:
            for end, word in enumerate(words, 1):
                if word != theirs[0] and word.endswith(theirs[0]):
                    found.append((1, end, len(theirs[0]), other, f"{word!r} ends in {other!r}"))
    return max(found)[3:] if found else None


def wordnet_hypernyms(name: str) -> set[str]:
    """Normalised names of all that is above the name's first noun sense, if nltk and its WordNet are here.

    Nothing is downloaded; without them the set is empty.
    """
    try:
        from nltk.corpus import wordnet

        senses = wordnet.synsets(normalise(name).replace(" ", "_"), pos="n")[:1]
        above = [h for s in senses for h in s.closure(lambda sense: sense.hypernyms())]
        return {normalise(lemma) for h in above for lemma in h.lemma_names()}
    except (ImportError, LookupError):
        return set()


def _quoted(name: str) -> str:
    """The name as a YAML text: plain where YAML reads it as this text, else in quotes."""
    plain = re.fullmatch(r"[^\W\d_](?:[\w' .()/-]*[\w)])?", name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)


def match_names(fine: list[str], coarse: list[str], hypernyms=wordnet_hypernyms):
    """-> (node of every coarse class, parent of every node that has one, why it has it).

    A coarse class sits on the node of the fine class of the same spelling (normalised), else of the same
    words in the singular if only one has them, else on a node of its own. A class whose name holds a class of
    the other dataset goes below that one; so does a fine class with a coarse one among its hypernyms.
    """
    spelled = {normalise(f): f for f in fine}
    alike: dict[tuple, list[str]] = {}
    for f in fine:
        alike.setdefault(_words(f), []).append(f)
    node = {}
    for c in coarse:
        same = alike.get(_words(c), [])
        same = same if len(same) == 1 and same[0] not in node.values() else [c]
        node[c] = spelled.get(normalise(c), same[0])
    parent, why = {}, {}
    for name, others in [(f, coarse) for f in fine] + [(c, fine) for c in coarse if node[c] == c]:
        others = [o for o in others if node.get(o, o) != name]
        if name not in parent and (hit := _containing(name, others)):
            parent[name], why[name] = node.get(hit[0], hit[0]), hit[1]
    for f in fine:
        if f not in parent and f not in node.values() and f not in parent.values():
            above = hypernyms(f)
            if hit := [c for c in coarse if normalise(c) in above and node[c] not in parent]:
                parent[f], why[f] = node[hit[0]], f"WordNet has it below {hit[0]!r}"
    return node, parent, why


def draft_graph(
    fine_names: list[str],
    coarse_names: list[str],
    path: str | Path,
    fine: str = "fine",
    coarse: str = "coarse",
    hypernyms=wordnet_hypernyms,
) -> LabelGraph:
    """Draft a first graph out of two datasets' class names and write it to `path` (YAML) for the reader to
    edit.

    Returns it. See match_names for the rules; what they do not place hangs below a node `unplaced` under the
    root. An existing file is never overwritten. Raises DataError: the file exists or cannot be written, no
    class, a class given twice, a class named `unplaced`.
    """
    path, taken = Path(path), {normalise(n) for n in [*fine_names, *coarse_names]}
    if path.exists():
        raise DataError(f"{path} exists already and is not overwritten; edit it, or draft to another name")
    if path.suffix not in (".yaml", ".yml"):
        raise DataError(f"{path}: a graph file ends in .yaml")
    for dataset, names in ((fine, fine_names), (coarse, coarse_names)):
        if not names or len({normalise(n) for n in names}) < len(names):
            raise DataError(f"draft_graph: {dataset}: " + ("a class is given twice" if names else "no class"))
    if UNPLACED in taken or fine == coarse:
        raise DataError(f"draft_graph: no class may be named {UNPLACED!r}, and the datasets need two names")
    root = next(r for r in ROOTS if r not in taken)
    node, parent, why = match_names(fine_names, coarse_names, hypernyms)
    nodes = list(dict.fromkeys([*fine_names, *node.values()]))
    shared = {v for v in node.values() if v in fine_names}
    kinds = [v for v in nodes if v not in parent and (v in shared or v in parent.values())]
    loose = [v for v in nodes if v not in parent and v not in kinds]
    lines = [HEAD.replace("ROOT", root), f"name: {_quoted(path.stem)}", f"root: {root}", "", "groups:"]
    lines += ["  kind:", "    question: Which kind is it?", f"    below: {root}", "    nodes:"]
    lines += [f"      - {_quoted(v)}" for v in kinds] + [f"      - {UNPLACED}"] * bool(loose)
    if parent:
        lines += ["", "  class:", "    question: Which class is it?", "    nodes:"]
        lines += [f"      {_quoted(v)}: {_quoted(p)}   # a guess: {why[v]}" for v, p in parent.items()]
    if loose:
        lines += ["", "  unplaced class:", "    question: Which of the unplaced classes is it?"]
        lines += [f"    below: {UNPLACED}", "    nodes:", *(f"      - {_quoted(v)}" for v in loose)]
    lines += ["", "labels:   # class of the dataset: its node", f"  {_quoted(fine)}:", "    nodes:"]
    lines += [f"      {_quoted(v)}: {_quoted(v)}" for v in fine_names]
    lines += [f"  {_quoted(coarse)}:", "    nodes:"]
    lines += [f"      {_quoted(c)}: {_quoted(v)}" + "   # in both" * (v in shared) for c, v in node.items()]
    text = "\n".join(lines) + "\n"
    graph = graph_from_dict(yaml.safe_load(text), path.name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"{path}: the draft cannot be written ({error.strerror or error})") from None
    return graph


def label_counts(split: Split | None, n: int) -> np.ndarray:
    """How many samples have each of n labels, [n]."""
    if split is None:
        return np.zeros(n, dtype=int)
    counts = split.y.sum(0) if split.y.ndim == 2 else np.bincount(split.y, minlength=n)
    return np.pad(counts, (0, n - len(counts)))


def join_report(task: Task) -> pd.DataFrame:
    """One row a label: label, relation, to (other labels), samples of either dataset, paths, deterministic
    ones.

    relation: `shared`; `coarser` or `finer` (a label of the coarse set alone that is above or below fine
    labels); `only <dataset>` (for a fine one, `to` has the coarse labels above it); `unplaced` (below the
    node `unplaced`).
    """
    graph, (fine, coarse) = task.graph, list(task.graph.labels)[:2]
    report, rows = graph.join_report(fine, coarse), []
    loose = graph.descendants(UNPLACED) if UNPLACED in graph.parents else set()
    columns = {v: i for i, v in enumerate(task.labels)}
    n_fine, n_coarse = (label_counts(s, len(task.labels)) for s in (task.train, task.coarse))
    for v in graph.label_nodes(fine, coarse):
        of_fine = v in graph.label_nodes(fine)
        above = [y for y in graph.label_nodes(coarse) if y in graph.ancestors(v)]
        to = above if of_fine else report["coarser"].get(v) or report["finer"].get(v, [])
        relation = (
            UNPLACED
            if v in loose and not to
            else "shared"
            if v in report["shared"]
            else f"only {fine}"
            if of_fine
            else "coarser"
            if v in report["coarser"]
            else "finer"
            if to
            else f"only {coarse}"
        )
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
    """The join in a few lines: which labels are shared, coarser, only here or there, not placed."""
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
        lines.append(f"-> tell the graph where the {UNPLACED} ones belong, then run this again")
    return "\n".join(lines)
