"""Is the decision right, are its probabilities calibrated, how far off are its mistakes? Functions of predictions.

Predictions are those beside the records: label, path and, where the true attributes are known, log p of every path.
Samples are test images; `truth` is the true node of every group of each of them, as drawn (Sec. 4.4).
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from companion.tables.statistics import crossed, influence
from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.data import Split
from labelaug_core.decoder import greedy
from labelaug_core.explain import Explanation, best_through, explain, path_nodes
from labelaug_core.graph import LabelGraph
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier, to_tensor


def explain_split(model: Classifier, split: Split, through: str | None = None, batch: int = 256) -> list[Explanation]:
    """The Explanation of every sample of a split, in its order; through: a competing group (`explain`)."""
    device, rows = next(model.parameters()).device, np.arange(len(split))
    return [
        e
        for i in range(0, len(split), batch)
        for e in explain(model, to_tensor(split, rows[i : i + batch], device), through)
    ]


# -- path correctness (Sec. 4.4) ------------------------------------------------------------------------------


def open_groups(graph: LabelGraph, labels: list[str]) -> dict[str, dict[str, int]]:
    """The nondeterministic groups: group -> {label: how many of its nodes lead there}, for labels with several."""
    found: dict[str, dict[str, int]] = {}
    for label in labels:
        nodes = {v for path in graph.split_paths(label)[1] for v in path[:-1]}
        for g in graph.exclusive:
            if (n := sum(graph.group.get(v) == g for v in nodes)) > 1:
                found.setdefault(g, {})[label] = n
    return found


def share(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float]:
    """sum(above) / sum(below), both [S, N] (seeds x samples) in [0, 1], and its 95 % interval, within [0, 1].

    The interval is that of companion.tables.statistics.crossed on influence values: seeds and samples at random. Where
    the share is 0 or 1 no value varies, and the interval is that of Clopper and Pearson for the samples counted by some
    seed. NaN where none is counted, and for the interval of one value.
    """
    if not below.any():
        return (np.nan,) * 3
    value, n = above.sum() / below.sum(), int(below.any(0).sum())
    if np.array_equal(above, below) or not above.any():
        return (value, *proportion_confint(round(value * n), n, method="beta"))
    if above.size < 2:
        return value, np.nan, np.nan
    found = crossed(influence(above, below, pooled=True))
    return value, max(found.low, 0.0), min(found.high, 1.0)


def path_correctness(
    graph: LabelGraph,
    tree: PrefixTree,
    seeds: list[dict[str, np.ndarray]],
    truth: list[dict[str, str]] | None = None,
    nodes: list[str] = (),
) -> pd.DataFrame:
    """Sec. 4.4 where it can be checked: a row for all nondeterministic groups, for each, and for each of `nodes`.

    seeds: of every seed `label` [N], `path` [N] (Algorithm 2's) and `path_logp` [N, P]. tree: of the method's own
    graph; graph: says which groups are nondeterministic. An image counts in a group if its predicted label leaves
    the group open and its species has the group. With `_low` and `_high`, a 95 % interval (`share`):

    greedy        of all images: Algorithm 2's path goes through the open group (the node)
    greedy_rate   of those: the node is the true one. This is what the paper looked at
    rate          of the images counted: the best path through the group, given the predicted label, takes the true
                  node; in the row of a node: of those whose best path takes this node
    chance        one over the number of nodes open; in the row of a node: how many images counted show it
    majority      always the true node that is most frequent for the predicted label

    Without truth there is `greedy` alone, and no path_logp is needed.
    """
    labels, way = np.stack([p["label"].astype(int) for p in seeds]), np.stack([p["path"].astype(int) for p in seeds])
    end, parts = tree.path_label.numpy()[way], {}
    for group, options in open_groups(graph, tree.labels).items():
        node = np.array([*path_nodes(tree, group), None], dtype=object)  # the last: no path
        n_open = np.array([options.get(v, 0) for v in tree.labels])
        decoded = np.where(n_open[end] > 0, node[way], None)
        mine, every = [v for v in nodes if graph.group.get(v) == group], np.ones(way.shape)
        parts |= {(group, v): {"greedy": (decoded == v, every)} for v in mine}
        parts[group, ""] = {"greedy": (np.not_equal(decoded, None), every)}
        if truth is None:
            continue
        true = np.broadcast_to(np.array([t.get(group) for t in truth], dtype=object), labels.shape)
        logp = (torch.from_numpy(p["path_logp"].astype(np.float32)) for p in seeds)
        best = [best_through(tree, p, torch.from_numpy(y), group).numpy() for p, y in zip(logp, labels, strict=True)]
        taken, known = node[np.stack(best)], np.not_equal(true, None)
        counted, asked = known & (n_open[labels] > 0), known & np.not_equal(decoded, None)
        majority = np.zeros_like(counted)
        for k in np.unique(labels[counted]):
            here = counted & (labels == k)
            majority |= here & (true == pd.Series(true[here]).mode()[0])
        parts[group, ""] |= {
            "greedy_rate": (asked & (decoded == true), asked),
            "rate": (counted & (taken == true), counted),
            "chance": (counted / np.maximum(n_open[labels], 1), counted),
            "majority": (majority, counted),
        }
        for v in mine:
            here, there = counted & (taken == v), asked & (decoded == v)
            parts[group, v] |= {
                "greedy_rate": (there & (true == v), there),
                "rate": (here & (true == v), here),
                "chance": (counted & (true == v), counted),
            }
    if whole := [part for (_, v), part in parts.items() if not v]:
        pooled = {k: [sum(p[k][i].astype(float) for p in whole) for i in (0, 1)] for k in whole[0]}
        pooled["greedy"][1] = np.ones(way.shape)
        parts = {("all", ""): pooled} | dict(sorted(parts.items()))
    rows = []
    for (group, v), part in parts.items():
        row = {"question": group, "node": v}
        for name, (above, below) in part.items():
            value, low, high = share(above, below)
            row[name] = value
            if name not in ("chance", "majority"):
                row |= {f"{name}_low": low, f"{name}_high": high}
            if name in ("rate", "greedy_rate"):
                row[f"{name}_n"] = below.sum(1).mean()  # images a seed
        rows.append(row)
    return pd.DataFrame(rows)


# -- the same by eye (Sec. 4.4 on photographs) ---------------------------------------------------------------------

VERDICTS = ("yes", "no", "cannot tell")


def rating_summary(ratings: pd.DataFrame) -> dict[str, object]:
    """Ratings (columns image, rater, verdict) -> the share of `yes` among yes and no, and how far raters agree.

    The interval is Wilson's, over images; an image that raters judge differently counts by its majority, a tie as
    cannot tell. kappa: Cohen's, for two raters, over the images both judged. Without ratings: "not rated".
    """
    table = ratings.pivot(index="image", columns="rater", values="verdict")
    if table.empty:
        return {"verdict": "not rated"}
    counts = pd.DataFrame({v: (table == v).sum(1) for v in VERDICTS})
    top = counts.eq(counts.max(1), axis=0)
    agreed = top.idxmax(1).where(top.sum(1) == 1, "cannot tell")
    yes, no = (int((agreed == v).sum()) for v in ("yes", "no"))
    row = {"n_images": len(table), "raters": " ".join(table.columns), "cannot_tell": len(table) - yes - no}
    if yes + no:
        row["rate"] = yes / (yes + no)
        row["rate_low"], row["rate_high"] = proportion_confint(yes, yes + no, method="wilson")
    if len(table.columns) == 2 and len(both := table.dropna()):
        row["kappa"] = cohen_kappa_score(*(both[rater] for rater in table.columns), labels=list(VERDICTS))
    return row | {"verdict": "rated"}


# -- calibration --------------------------------------------------------------------------------------------------


def reliability(p: np.ndarray, right: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Reliability diagram of predictions: of each bin of p that is not empty mean p, share right and size; the ECE.

    p, right [N]. Expected calibration error: the mean over samples of their bin's |share right - mean p|.
    """
    observed, stated = calibration_curve(right, p, n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)  # as in calibration_curve
    size = np.bincount(np.searchsorted(edges[1:-1], p), minlength=bins)
    size = size[size > 0]
    return stated, observed, size, float((size * np.abs(observed - stated)).sum() / size.sum())


def answers(
    tree: PrefixTree, path_logp: np.ndarray, truth: list[dict[str, str]], y: np.ndarray, opened
) -> pd.DataFrame:
    """Every question asked of every image on its true way. A row: question, p of the best answer, right, open.

    path_logp [N, P]; y [N]: the true labels; opened: from open_groups; open: does the true label leave the question
    open? A block below v is asked of the images that have every node of the way to v; p(u | v, block) is the
    probability of all paths through u over that of all through the block. Blocks with one legal answer are left out.
    """
    own = [{*t.values(), tree.labels[k], tree.graph.root} for t, k in zip(truth, y, strict=True)]
    through = np.zeros((len(tree.paths), len(tree.prefixes)))  # [P, E]: does the path take the slot?
    for slots in tree.path_slots.T.numpy():
        there = np.flatnonzero(slots < len(tree.prefixes))
        through[there, slots[there]] = 1
    p_slot, parts = np.exp(path_logp.astype(float)) @ through, []
    for block, group in enumerate(tree.block_group):
        slots = np.flatnonzero((tree.slot_block == block).numpy() & through.any(0))
        if len(slots) < 2:
            continue
        way, rivals = {*tree.prefixes[slots[0]][:-1]}, [tree.prefixes[e][-1] for e in slots]
        asked = np.array([i for i, nodes in enumerate(own) if way <= nodes and nodes & {*rivals}], dtype=int)
        if not len(asked):
            continue
        p = p_slot[np.ix_(asked, slots)]
        right = [rivals[j] in own[i] for i, j in zip(asked, p.argmax(1), strict=True)]
        is_open = [tree.labels[k] in opened.get(group, ()) for k in y[asked]]
        columns = {"question": group, "p": p.max(1) / p.sum(1), "right": right, "open": is_open}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def asked(model: Classifier, split: Split, question: str, batch: int = 256) -> dict[str, float]:
    """How much a label path model uses one question of its graph (a competing group). In percent of the images:

    asked    Algorithm 2's path goes through the question
    greedy   Algorithm 2's label is right
    alone    the most probable label is right, its probability summed over the paths through the question alone
    exact    the same over all paths
    """
    model.eval()
    tree, device = model.head.fine_tree, next(model.parameters()).device
    through = torch.tensor([v is not None for v in path_nodes(tree, question)], device=device)
    counts = dict.fromkeys(("asked", "greedy", "alone", "exact"), 0)
    for rows in np.split(np.arange(len(split)), range(batch, len(split), batch)):
        slot_logp = model.head.decoder.slot_log_probs(model.features(to_tensor(split, rows, device)), tree)
        path_logp, path, y = tree.path_log_probs(slot_logp), greedy(tree, slot_logp), torch.as_tensor(split.y[rows])
        found = {"greedy": tree.path_label[path]}
        for name, logp in (("alone", path_logp.masked_fill(~through, -torch.inf)), ("exact", path_logp)):
            found[name] = block_logsumexp(logp, tree.path_label, len(tree.labels)).argmax(1)
        counts["asked"] += int(through[path].sum())
        for name, label in found.items():
            counts[name] += int((label.cpu() == y).sum())
    return {name: 100 * n / len(split) for name, n in counts.items()}


# -- mistakes measured on the graph ----------------------------------------------------------------------------------


def mistakes(graph: LabelGraph, labels: list[str], guess: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How far off on the label graph: guess, y [N], indices into labels.

    lca_distance: of wrong predictions, the steps up until the true and the predicted label have a common ancestor
    (the nearest; the longer of the two ways counts): 1 if they share the answer to some question.
    hierarchical_precision, _recall: shared ancestors (each label with its own, the root left out) over those of the
    predicted, of the true label, summed over all samples (Kiritchenko et al., 2006; Silla and Freitas, 2011).
    """
    above = [dict(nx.single_target_shortest_path_length(graph.networkx, v)) for v in labels]
    shared, guessed, true, distances = 0, 0, 0, []
    for a, b in zip(guess.tolist(), y.tolist(), strict=True):
        both = above[a].keys() & above[b].keys()
        shared, guessed, true = shared + len(both) - 1, guessed + len(above[a]) - 1, true + len(above[b]) - 1
        if a != b:
            distances.append(min(max(above[a][v], above[b][v]) for v in both))
    return {
        "wrong": len(distances),
        "lca_distance": float(np.mean(distances)) if distances else np.nan,
        "hierarchical_precision": shared / guessed,
        "hierarchical_recall": shared / true,
    }
