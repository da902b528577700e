"""A first label graph out of the class names of two datasets, for the reader to correct."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import yaml

from labelaug_core.data import DataError, listed
from labelaug_core.graph import LabelGraph, normalise
from labelaug_core.graph_file import graph_from_dict

UNPLACED = "unplaced"
ROOTS = ("thing", "anything", "everything", "root of the graph")
# A name with one of these words, or a word with one of these beginnings, is the opposite of the rest, no kind of it:
# no mask, not spam, sugar free; nonfiction, dislike. So is a beginning of one or two letters: unripe, abnormal, female.
OPPOSITE_WORDS = set("not no non without un never anti free less negative absent except".split())
OPPOSITE_BEGINNINGS = set("non dis mis anti counter pseudo hypo hyper".split())
# Names that say nothing of what they name: two datasets may well mean two things by them.
VAGUE = set(
    "other others unknown misc miscellaneous none nothing background rest various unsure undefined unlabelled "
    "unlabeled default yes no true false na n/a".split()
) | {"no label"}

HEAD = """\
# A first draft of a label graph, made from class names alone. Please correct it. Every guess says why it was made.
#
# How to read it. A group is one question; its nodes are the answers, and they compete. A node stands below
# its parent: the group's `below`, or the name behind the node's own line. `labels` says which class of which
# dataset sits on which node; the first dataset is the fine one, whose classes are predicted, the second the
# coarse one.
#
# How to correct it.
#   1. A class under `unplaced` has no known relation to the other dataset. Move its line to the group `class`
#      with its parent behind it (tabby: cat), or to the group `kind`, if it is a kind of its own. When
#      none is left, delete the group `unplaced class` and the node `unplaced`.
#   2. Check every guess. A "hot dog" is no dog: give such a class another parent, or move it to `kind`.
#   3. Two classes that mean the same belong on one node: name that node behind both, below `labels`. Where the draft
#      asks a question (both sets have `other`, or `1`), the names do not say whether they mean the same.
#   4. You may add a kind that no dataset names: add it to `kind` and put classes below it.
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

    As words (the last in the name, then the longest), else as the end of a word (sunflower: flower). Opposites do not
    count (no mask, abnormal), nor do names that say nothing.
    """
    words, found = _words(name), []
    for other in others:
        theirs = _words(other)
        if is_vague(other) or OPPOSITE_WORDS & (set(words) - set(theirs)):
            continue
        for end in range(len(theirs), len(words) + 1):
            if words[end - len(theirs) : end] == theirs and theirs != words:
                found.append((2, end, len(theirs), other, f"{other!r} is part of its name"))
        if len(theirs) == 1 and len(theirs[0]) >= 3:
            for end, word in enumerate(words, 1):
                before = word.removesuffix(theirs[0])
                if before != word and len(before) >= 3 and before not in OPPOSITE_BEGINNINGS:
                    found.append((1, end, len(theirs[0]), other, f"{word!r} ends in {other!r}"))
    return max(found)[3:] if found else None


def is_vague(name: str) -> bool:
    """Does the name say nothing of what it names: a bare number, `class 3`, `other`, `unknown`, `misc`, `yes`, ...?"""
    return normalise(name) in VAGUE or bool(re.fullmatch(r"((class|label|category|type|group) )?\d+", normalise(name)))


def _quoted(name: str) -> str:
    """The name as a YAML text: plain where YAML reads it as this text, else in quotes."""
    plain = re.fullmatch(r"[^\W\d_](?:[\w' .()/-]*[\w)])?", name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)


def match_names(fine: list[str], coarse: list[str]):
    """-> (node of every coarse class, parent of every node that has one, why it has it).

    A coarse class sits on the node of the fine class of the same spelling (normalised), else of the same words in the
    singular if only one has them, else on a node of its own; so it does where the name says nothing (is_vague). A class
    whose name holds a class of the other dataset goes below that one. Two classes of one dataset are never put below
    each other, not even through a class of the other one: a class that both have gets no parent and is none, and a
    class that has a parent is none.
    """
    spelled, taken = {normalise(f): f for f in fine}, {normalise(n) for n in [*fine, *coarse]}
    alike: dict[tuple, list[str]] = {}
    for f in fine:
        alike.setdefault(_words(f), []).append(f)
    node: dict[str, str] = {}
    for c in coarse:
        same = alike.get(_words(c), [])
        same = same if len(same) == 1 and same[0] not in node.values() else [c]
        node[c] = spelled.get(normalise(c), same[0])
        if is_vague(c) and normalise(c) in spelled:
            node[c] = f"{c} (coarse)"
            while normalise(node[c]) in taken:
                node[c] += "'"
    own = {c: v for c, v in node.items() if v not in fine}  # not shared
    parent, why = {}, {}
    for f in [f for f in fine if f not in node.values()]:
        if hit := _containing(f, list(own)):
            parent[f], why[f] = own[hit[0]], hit[1]
    free = [f for f in fine if f not in node.values() and f not in parent]
    for c, v in own.items():
        if v not in parent.values() and (hit := _containing(c, free)):
            parent[v], why[v] = hit
    return node, parent, why


def vague_pairs(graph: LabelGraph, fine: str, coarse: str) -> list[tuple[str, str]]:
    """Classes of one name that says nothing, one of each dataset, as long as one of the two is not placed."""
    loose = graph.descendants(UNPLACED) if UNPLACED in graph.parents else set()
    spelled = {normalise(c): (c, v) for c, v in graph.labels[coarse].items()}
    pairs = [(f, v, *spelled[normalise(f)]) for f, v in graph.labels[fine].items() if normalise(f) in spelled]
    return [(f, c) for f, v, c, w in pairs if is_vague(f) and v != w and loose & {v, w}]


def draft_graph(fine_names: list[str], coarse_names: list[str], path: str | Path) -> LabelGraph:
    """A first graph out of two datasets' class names, written to `path` (YAML) for the reader to edit.

    See match_names for the rules; what they do not place hangs below a node `unplaced` under the root. An existing
    file is never overwritten. Raises DataError: the file exists or cannot be written, no class, a class given twice,
    a class named `unplaced`.
    """
    fine_names, coarse_names = ([unicodedata.normalize("NFC", n) for n in some] for some in (fine_names, coarse_names))
    path, taken = Path(path), {normalise(n) for n in [*fine_names, *coarse_names]}
    if path.exists():
        raise DataError(f"{path} exists already and is not overwritten; edit it, or draft to another name")
    if path.suffix not in (".yaml", ".yml"):
        raise DataError(f"{path}: a graph file ends in .yaml")
    for dataset, names in (("fine", fine_names), ("coarse", coarse_names)):
        if not names:
            raise DataError(f"draft_graph: {dataset}: no class")
        if twice := [repr(n) for n, times in Counter(map(normalise, names)).items() if times > 1]:
            raise DataError(f"draft_graph: {dataset}: a class is given twice: {listed(twice)}")
    if UNPLACED in taken:
        raise DataError(f"draft_graph: no class may be named {UNPLACED!r}")
    root = next(r for r in ROOTS if r not in taken)
    node, parent, why = match_names(fine_names, coarse_names)
    nodes = list(dict.fromkeys([*fine_names, *node.values()]))
    shared = {v for v in node.values() if v in fine_names}
    asked = {v: f"   # a question: is it the {c!r} of fine?" for c, v in node.items() if v not in (c, *fine_names)}
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
        lines += [f"    below: {UNPLACED}", "    nodes:", *(f"      - {_quoted(v)}{asked.get(v, '')}" for v in loose)]
    lines += ["", "labels:   # class of the dataset: its node", "  fine:", "    nodes:"]
    lines += [f"      {_quoted(v)}: {_quoted(v)}" for v in fine_names]
    lines += ["  coarse:", "    nodes:"]
    lines += [f"      {_quoted(c)}: {_quoted(v)}" + "   # in both" * (v in shared) for c, v in node.items()]
    text = "\n".join(lines) + "\n"
    graph = graph_from_dict(yaml.safe_load(text), path.name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"{path}: the draft cannot be written ({error.strerror or error})") from None
    return graph
