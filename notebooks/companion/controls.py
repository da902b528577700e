"""The runs of notebook 40: data whose labels were made coarser, other graphs for the same labels, and one recorded run
of any method or head."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from companion.heads import neighbours as beyond
from companion import runs as cell
from companion.records import store as records
from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph import LabelGraph
from labelaug_core.training import hold_out, predict, to_tensor

CODE = ("beyond", "beyond_runs")  # a record is stale when one of them has changed


# -- data -------------------------------------------------------------------------------------------------------------


def attributes(graph: LabelGraph) -> list[str]:
    """The questions about a label's looks: groups of augmented nodes that are asked of labels, not of other groups."""
    asked = {graph.group[p] for v in graph.label_nodes() for p in graph.parents[v] if p in graph.augmented}
    return [g for g in graph.exclusive if g in asked]


def relabel(task: Task, share: float, seed: int, questions: list[str]) -> Task:
    """Keep the fine label of 1 - share of the training samples (by class, at least one of a class where that can be).

    Of the others only the answers to the questions (groups of the graph) are known: each becomes a coarse sample once
    for every answer that its fine label fixes; what the label leaves open stays unknown. The coarse samples of the task
    are left out. The answers count as labels of the graph, as those of a dataset would. share in [0, 1).
    Raises DataError where no label fixes an answer.
    """
    graph, fine = task.graph, task.labels[: task.n_fine]
    answers = [v for v in graph.nodes if graph.group.get(v) in questions]
    labels = fine + [v for v in answers if v not in fine]
    known = [[labels.index(v) for v in fixed(graph, y, questions)] for y in fine]
    if not any(known):
        raise DataError(f"relabel: no label of {graph.name} fixes an answer to {', '.join(map(repr, questions))}")
    rng, y = np.random.default_rng([seed, 7]), task.train.y
    order = rng.permutation(len(y))
    turn = pd.Series(y[order]).groupby(y[order]).cumcount()  # the first of its class, the second, ...
    kept = np.sort(order[np.argsort(turn, kind="stable")[: max(1, round((1 - share) * len(y)))]])
    rows = [(i, k) for i in np.setdiff1d(np.arange(len(y)), kept) for k in known[y[i]]]
    coarse = None
    if rows:
        part = task.train.take(np.array([i for i, _ in rows]))
        coarse = Split(part.inputs, np.array([k for _, k in rows]), part.ids, part.truth)
    graph = replace(graph, labels=graph.labels | {"coarse": {v: v for v in answers}})
    return replace(task, graph=graph, labels=labels, train=task.train.take(kept), coarse=coarse)


def fixed(graph: LabelGraph, label: str, questions: list[str]) -> list[str]:
    """The label's answers to those of the questions to which it has one only."""
    found = [[v for v in beyond._on(graph, label) if graph.group[v] == q] for q in questions]
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


def without_groups(task: Task, groups: list[str]) -> Task:
    """The task without the nodes of some groups; coarse samples whose label is among them go, too."""
    dropped = {v for v in task.graph.nodes if task.graph.group.get(v) in groups}
    labels = [v for v in task.labels if v not in dropped]
    index, coarse = {v: i for i, v in enumerate(labels)}, task.coarse
    if coarse is not None:
        rows = np.array([i for i, y in enumerate(coarse.y) if task.labels[y] in index], dtype=int)
        coarse = replace(coarse.take(rows), y=np.array([index[task.labels[y]] for y in coarse.y[rows]], dtype=int))
        coarse = coarse if len(rows) else None
    graph = task.graph.without(*dropped)
    names = {d: {c: v for c, v in nodes.items() if v not in dropped} for d, nodes in graph.labels.items()}
    return replace(task, graph=replace(graph, labels=names), labels=labels, coarse=coarse)


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
    return replace(bare, parents=parents, group=group, exclusive=exclusive)


# -- one run ----------------------------------------------------------------------------------------------------------


def run(folder: Path, name: str, settings: dict, task: Task, seed: int) -> dict[str, np.ndarray]:
    """One run, recorded in folder/runs, or read if it is: {y, exact, p_exact, right: all [N], validation}.

    settings: as of a cell; `method` may also be one of beyond.HEADS or `hiclass`; `estimator` asks for
    EstimatorHead. exact: the most probable fine label of every test sample; validation: the accuracy.
    """
    if (found := recorded(folder, name, settings, task, seed)) is not None:
        return found
    settings = settings | {"experiment": name, "code": records.code_hash(settings["source"], *CODE)}
    if settings["method"] == "hiclass":
        exact, p, validation, used = fit_hiclass(settings, task, seed)
    else:
        model, used, _, history = fit(settings, task, seed)
        logp = predict(model, task.test, next(model.parameters()).device)["log_probs"]
        exact, p, validation = logp.argmax(1), np.exp(logp.max(1)), next(h for h in history if h.get("chosen"))
    kept = {"y": task.test.y.astype(np.uint16), "exact": exact.astype(np.uint16), "p_exact": p.astype(np.float16)}
    n_coarse = len(used.coarse) if used.coarse is not None else 0
    data = {"content_hash": task.content_hash, "n_train": len(used.train), "n_coarse": n_coarse, "n_test": len(exact)}
    record = {"settings": settings, "seed": seed, "code_hash": records.code_hash(settings["source"]), "data": data,
              "validation": validation, **cell.environment()}  # fmt: skip
    records.write_record(records.record_path(folder, name, seed), record, kept)
    return _result(record, kept)


def recorded(folder: Path, name: str, settings: dict, task: Task, seed: int) -> dict[str, np.ndarray] | None:
    """What a valid record holds: one of `run`, or the record of Table 3 where the name is that of a cell."""
    for place, code in ((folder, CODE), (folder.parent, ())):
        path, own = records.record_path(place, name, seed), settings
        if code:
            own = settings | {"experiment": name, "code": records.code_hash(settings["source"], *code)}
        try:
            record = records.read_record(path)
            if not records.stale(record, own, task.content_hash):
                return _result(record, records.read_predictions(path))
        except records.RecordError:  # none, or not readable: the next, or a run
            pass
    return None


def _result(record: dict, found: dict[str, np.ndarray]) -> dict:
    return found | {"right": found["exact"] == found["y"], "validation": record["validation"]["val_accuracy"]}


def runs(folder: Path, name: str, settings: dict, task, seeds) -> dict[str, np.ndarray]:
    """Every seed's run, stacked: [seeds, N] or [seeds]. task: a Task, or a function from the seed to one."""
    found = [run(folder, name, settings, task(s) if callable(task) else task, s) for s in seeds]
    return {key: np.stack([f[key] for f in found]) for key in ("y", "exact", "p_exact", "right", "validation")}


def seconds(settings: dict, task: Task, steps: int = 20) -> float:
    """Seconds of training on this machine, now: `steps` of them timed, the rest in proportion (hiclass: all of it)."""
    short = settings | {"training": settings["training"] | {"steps": steps, "eval_every": steps}}
    start = time.perf_counter()
    if settings["method"] == "hiclass":
        fit_hiclass(settings, task, 0)
        return time.perf_counter() - start
    fit(short, task, 0)
    return (time.perf_counter() - start) * settings["training"]["steps"] / steps


def fit(settings: dict, task: Task, seed: int):
    """cell.fit for any method, and the same for the heads of this notebook. -> (model, task, validation, history)."""
    method, given = settings["method"], (task.graph, task.labels, task.n_fine)
    if "estimator" in settings:
        options = {"hidden": settings["head"]["hidden"], "estimator": settings["estimator"]}
        return cell.fit(settings, task, seed, lambda d: beyond.EstimatorHead(*given, d, **options))
    if method in beyond.HEADS:
        options = settings["head"] if method == "agreement" else {}
        return cell.fit(settings, task, seed, lambda d: beyond.HEADS[method](*given, d, **options))
    return cell.fit(settings, task, seed)


def fit_hiclass(settings: dict, task: Task, seed: int):
    """`hiclass` as its users run it: one logistic regression for each parent node, on standardised features.

    The features are those of the frozen encoder; where the encoder is trained, what that of the FFN of the same seed
    gives. A coarse sample has an empty second level. -> (labels [N], their p [N], validation, the task).
    """
    from hiclass import LocalClassifierPerParentNode
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    fine, val = hold_out(task.train, settings["training"]["val_fraction"], seed)
    used, encoder = replace(task, train=fine), None
    if settings["encoder"].get("tune") != "frozen":
        encoder = cell.fit(settings | {"method": "ffn"}, task.fine_only(), seed)[0].eval().encoder

    def features(split: Split) -> np.ndarray:
        x = to_tensor(split, np.arange(len(split)), "cpu")
        with torch.no_grad():
            return (x if encoder is None else encoder(x)).numpy()

    def levels(split: Split) -> np.ndarray:
        names = [task.labels[k] for k in split.y]
        return np.array([["".join(above[v]), v] if v in above else [v, ""] for v in names])

    tree = task.graph.without(*task.graph.augmented)
    above = {v: tree.parents[v] for v in task.labels[: task.n_fine]}
    parts = [used.train] if used.coarse is None else [used.train, used.coarse]
    scale = StandardScaler().fit(np.concatenate([features(p) for p in parts]))
    model = LocalClassifierPerParentNode(LogisticRegression(max_iter=1000))
    model.fit(*(np.concatenate([f(p) for p in parts]) for f in (lambda p: scale.transform(features(p)), levels)))
    x_val, x_test = (scale.transform(features(p)) for p in (val, task.test))
    guess = [np.array([task.labels.index(v) for v in model.predict(x)[:, -1]]) for x in (x_val, x_test)]
    return guess[1], model.predict_proba(x_test).max(1), {"val_accuracy": float((guess[0] == val.y).mean())}, used
