"""Controls: the same task with other labels (what if fewer images had a fine label?) or on another graph (is it the
knowledge?). A cell names them in its data settings (`controlled`) and in the option `graph` (`on_graph`)."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph import GraphError, LabelGraph, normalise

RELABELLED = "coarse"  # the set of labels that `relabel` adds to a graph
TRIMMED = {"medium": 0.36, "small": 0.63}  # Sec. 4.5: the share of augmented nodes that is gone


# -- data -------------------------------------------------------------------------------------------------------------


def controlled(task: Task, data: dict, seed: int) -> Task:
    """The task with what a cell's data settings ask for, drawn with the seed; the test samples stay as they are.

    share, questions: that share of the fine training samples has the answers to these questions only (`relabel`);
    questions is a list of groups of the graph, or `attributes`. coarse_share: of the coarse samples, those that are
    used. wrong: of the coarse samples, those with a wrong answer. Without `join` the coarse samples go, too.
    Raises DataError for a share outside 0..1 and for questions that the graph does not have.
    """
    shares = {k: data[k] for k in ("share", "coarse_share", "wrong") if k in data}
    if bad := [f"{k}: {v!r}" for k, v in shares.items() if not isinstance(v, (int, float)) or not 0 <= v <= 1]:
        raise DataError(f"a share lies in 0..1, got {', '.join(bad)}")
    inner = task.head_first and controlled(task.head_first, data, seed)
    if "share" in data:
        questions = data["questions"] if data["questions"] != "attributes" else attributes(task.graph)
        task = relabel(task, data["share"], seed, questions)
        task = task if data.get("join") else task.fine_only()
    if task.coarse is not None and "coarse_share" in data:
        task = fewer_coarse(task, data["coarse_share"], seed)
    if task.coarse is not None and data.get("wrong"):
        task = wrong_answers(task, data["wrong"], seed)
    return replace(task, head_first=inner)


def attributes(graph: LabelGraph) -> list[str]:
    """The questions about a label's looks: groups of augmented nodes that are asked of labels, not of other groups.

    The same for a task whose samples were relabelled with them: there these nodes are labels, too.
    """
    graph = as_given(graph)
    asked = {graph.group[p] for v in graph.label_nodes() for p in graph.parents[v] if p in graph.augmented}
    return [g for g in graph.exclusive if g in asked]


def as_given(graph: LabelGraph) -> LabelGraph:
    """The graph without the labels that `relabel` added."""
    return replace(graph, labels={k: v for k, v in graph.labels.items() if k != RELABELLED})


def relabel(task: Task, share: float, seed: int, questions: list[str]) -> Task:
    """Keep the fine label of 1 - share of the training samples (by class, at least one of a class where that can be).

    Of the others only the answers to the questions (groups of the graph) are known: each becomes a coarse sample once
    for every answer that its fine label fixes; what the label leaves open stays unknown. The coarse samples of the task
    are left out. The answers count as labels of the graph, as those of a dataset would. share in [0, 1).
    Raises DataError naming questions that the graph does not have, or where no label fixes an answer.
    """
    graph, fine = task.graph, task.labels[: task.n_fine]
    if unknown := [q for q in questions if q not in graph.exclusive]:
        known = ", ".join(graph.exclusive)
        raise DataError(f"relabel: {graph.name} has no question {', '.join(map(repr, unknown))} (known: {known})")
    answers = [v for v in graph.nodes if graph.group.get(v) in questions]
    labels = fine + [v for v in answers if v not in fine]
    known = [[labels.index(v) for v in fixed(graph, y, questions)] for y in fine]
    if not any(known):
        raise DataError(f"relabel: no label of {graph.name} fixes an answer to {', '.join(map(repr, questions))}")
    rng, y = np.random.default_rng([seed, 7]), task.train.y
    order = rng.permutation(len(y))
    n = np.bincount(y)
    turn = np.argsort(np.argsort(y[order], kind="stable")) - (n.cumsum() - n)[y[order]]  # the first of its class, ...
    kept = np.sort(order[np.argsort(turn, kind="stable")[: max(1, round((1 - share) * len(y)))]])
    rows = [(i, k) for i in np.setdiff1d(np.arange(len(y)), kept) for k in known[y[i]]]
    coarse = None
    if rows:
        part = task.train.take(np.array([i for i, _ in rows]))
        coarse = Split(part.inputs, np.array([k for _, k in rows]), part.ids, part.truth)
    graph = replace(graph, labels=graph.labels | {RELABELLED: {v: v for v in answers}})
    return replace(task, graph=graph, labels=labels, train=task.train.take(kept), coarse=coarse)


def fixed(graph: LabelGraph, label: str, questions: list[str]) -> list[str]:
    """The label's answers to those of the questions to which it has one only."""
    on = graph.ancestors(label) | {label}
    found = [[v for v in on if graph.group.get(v) == q] for q in questions]
    return [nodes[0] for nodes in found if len(nodes) == 1]


def fewer_coarse(task: Task, share: float, seed: int) -> Task:
    """This share of the coarse samples, drawn by image (all labels of an image stay together); 0: none."""
    images = sorted(set(task.coarse.ids))
    drawn = np.random.default_rng([seed, 8]).permutation(images)[: round(share * len(images))]
    rows = np.flatnonzero(np.isin(task.coarse.ids, drawn))
    return replace(task, coarse=task.coarse.take(rows)) if len(rows) else task.fine_only()


def wrong_answers(task: Task, share: float, seed: int) -> Task:
    """The task in which this share of the coarse samples, whose labels are answers to questions, has another answer to
    the same question, drawn at random. share in [0, 1]."""
    graph, rng, y = task.graph, np.random.default_rng([seed, 11]), task.coarse.y.copy()
    place = [(graph.group[v], graph.parents[v]) for v in task.labels]
    rivals = [[i for i, p in enumerate(place) if p == place[k] and i != k] for k in range(len(place))]
    for i in np.flatnonzero(rng.random(len(y)) < share):
        y[i] = rng.choice(rivals[y[i]]) if rivals[y[i]] else y[i]
    return replace(task, coarse=replace(task.coarse, y=y))


# -- graphs -----------------------------------------------------------------------------------------------------------


def on_graph(task: Task, name: str, seed: int) -> Task:
    """The task on the graph that a method or an option asks for.

    full; medium, small (`trim`); shuffled; untold; species-breed (`word_tree`); random-tree; without-attributes
    or without-<group>, its words joined by `-` or `_` (`without_groups`). Raises GraphError for another name.
    """
    graph = task.graph
    if name.startswith("without-"):
        wanted = normalise(name.removeprefix("without-"))
        groups = attributes(graph) if wanted == "attributes" else [g for g in graph.exclusive if normalise(g) == wanted]
        if groups:
            return without_groups(task, groups)
    variants = {
        "full": lambda: graph,
        "medium": lambda: trim(graph, TRIMMED["medium"]),
        "small": lambda: trim(graph, TRIMMED["small"]),
        "shuffled": lambda: shuffled(graph, seed),
        "untold": lambda: untold(graph),
        "species-breed": lambda: word_tree(graph.without(*graph.augmented)),
        "random-tree": lambda: random_tree(graph, seed),
    }
    if name not in variants:
        known = [*variants, *(f"without-{normalise(g).replace(' ', '-')}" for g in ("attributes", *graph.exclusive))]
        raise GraphError(f"{graph.name}: there is no graph {name!r} (known: {', '.join(known)})")
    return replace(task, graph=variants[name]())


def trim(graph: LabelGraph, fraction: float) -> LabelGraph:
    """The graph with this fraction of its augmented nodes gone (Sec. 4.5: medium 0.36, small 0.63).

    The paper does not say which nodes went. Our rule: question after question, first those that teach least, that is,
    whose share of labels with several answers is highest (ties: the later in the file). Of the last one, the nodes
    with the fewest labels below go first. Every label stays reachable. Raises ValueError outside 0..1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"trim: fraction must lie in [0, 1], got {fraction}")
    labels, augmented = set(graph.label_nodes()), graph.augmented
    below = {v: graph.descendants(v) & labels for v in augmented}
    order = {g: i for i, g in enumerate(graph.exclusive)}

    def uncertainty(g: str) -> float:
        asked = [below[v] for v in augmented if graph.group[v] == g]
        reached = set().union(*asked)
        return sum(sum(y in b for b in asked) > 1 for y in reached) / max(len(reached), 1)

    rank = {g: (-uncertainty(g), -order[g]) for g in {graph.group[v] for v in augmented}}
    queue = sorted(augmented, key=lambda v: (rank[graph.group[v]], len(below[v]), graph.index[v]))
    return graph.without(*queue[: round(fraction * len(augmented))])


def shuffled(graph: LabelGraph, seed: int) -> LabelGraph:
    """Same shape, wrong knowledge: inside each group, the labels' rows (their parents) change hands at random.

    The control for "is it the knowledge?": every count of the graph stays, its meaning goes. Questions that have labels
    among their answers (which superclass, which genus?) keep theirs: coarse labels stay true.
    """
    rng, parents, labels = random.Random(seed), dict(graph.parents), set(as_given(graph).label_nodes())
    true = {graph.group[v] for v in labels}
    for g in graph.exclusive:
        rows = [v for v in graph.nodes if v in labels and graph.group.get(v) == g and len(graph.parents[v]) > 1]
        for v, source in zip(rows, rng.sample(rows, len(rows)), strict=True):
            kept = [p for p in graph.parents[v] if graph.group.get(p) in true]
            parents[v] = (*kept, *(p for p in graph.parents[source] if graph.group.get(p) not in true))
    return replace(graph, parents=parents)


def untold(graph: LabelGraph) -> LabelGraph:
    """The graph that says nothing of a label's attributes: each label may have any answer to each question.

    The control for Sec. 4.4: a decoder trained on it never learns from the graph what, say, a tabby is. Questions
    whose answers are labels themselves (which species?) stay as they are.
    """
    parents, augmented = dict(graph.parents), set(graph.augmented)
    for v in graph.label_nodes():
        asked = {graph.group[p]: p for p in graph.parents[v] if p in augmented}
        open_to = [u for g, p in asked.items() for u in graph.blocks(graph.parents[p][0])[g]]
        kept = [p for p in graph.parents[v] if p not in augmented]
        parents[v] = tuple(dict.fromkeys([*kept, *open_to]))
    return replace(graph, parents=parents)


def without_groups(task: Task, groups: list[str]) -> Task:
    """The task without the nodes of some groups; coarse samples whose label is among them go, too."""
    dropped = {v for v in task.graph.nodes if task.graph.group.get(v) in groups}
    labels = [v for v in task.labels if v not in dropped]
    index, coarse = {v: i for i, v in enumerate(labels)}, task.coarse
    if coarse is not None:
        rows = np.array([i for i, y in enumerate(coarse.y) if task.labels[y] in index], dtype=int)
        coarse = replace(coarse.take(rows), y=np.array([index[task.labels[y]] for y in coarse.y[rows]], dtype=int))
        coarse = coarse if len(rows) else None
    return replace(task, graph=task.graph.without(*dropped), labels=labels, coarse=coarse)


def word_tree(graph: LabelGraph) -> LabelGraph:
    """The graph in which the children of a node are one question, where each of them has no other parent.

    In a WordTree all children of a node compete. Two questions would be asked with probability 1/2 each, so a label
    that only one of them leads to could never be certain.
    """
    group = dict(graph.group)
    for v in graph.nodes:
        blocks, children = graph.blocks(v), graph.children(v)
        if len(blocks) > 1 and all(len(graph.parents[u]) == 1 for u in children):
            group |= dict.fromkeys(children, max(blocks, key=lambda g: len(blocks[g])))
    used = set(group.values())
    exclusive, question = ({g: x for g, x in of.items() if g in used} for of in (graph.exclusive, graph.question))
    return replace(graph, group=group, exclusive=exclusive, question=question)


def random_tree(graph: LabelGraph, seed: int) -> LabelGraph:
    """The labels without their augmented nodes, and in place of these one made-up question below each node with four
    labels or more, whose about sqrt(n) answers hold the n labels at random: structure without knowledge."""
    bare, rng = graph.without(*graph.augmented), np.random.default_rng([seed, 9])
    parents, group, exclusive = dict(bare.parents), dict(bare.group), dict(bare.exclusive)
    for v in bare.nodes:
        below = [u for u in bare.children(v) if not bare.children(u)]
        if len(below) >= 4:
            names = [f"{v}, part {i}" for i in range(round(len(below) ** 0.5))]
            parents |= {name: (v,) for name in names}
            group, exclusive = group | dict.fromkeys(names, f"{v}, parts"), exclusive | {f"{v}, parts": True}
            parents |= {u: (names[i % len(names)],) for i, u in enumerate(rng.permutation(below).tolist())}
    return word_tree(replace(bare, parents=parents, group=group, exclusive=exclusive))
