"""Pictures of label graphs, the path decoder and explanations, after the paper's Figures 1 to 4 (an inch a unit)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve

from companion.fonts import use_fonts_for
from labelaug_core.graph import LabelGraph

if TYPE_CHECKING:  # it imports torch, which no drawing needs
    from labelaug_core.explain import Explanation, Step

YELLOW, GREEN, BLUE, PINK, PALE = "#f9dd77", "#b1dca4", "#b4d1f0", "#f4c1d6", "#e4e4e4"
RED, GREY, INK, FULL = "#c8242f", "#777777", "#555555", dict(left=0, right=1, bottom=0, top=1)
NAME = dict(parse_math=False)  # a name is shown as it is, also one with dollars in it


def _width(text: str) -> float:
    """Of a node's box; a character of Chinese, Japanese or Korean takes two places."""
    return 0.073 * sum(1 + (east_asian_width(c) in "WF") for c in text) + 0.22


def _fit(fig, ax, left: float, right: float, bottom: float, top: float) -> plt.Figure:
    """Show this part of the axes, an inch a unit, without a frame."""
    fig.set_size_inches(right - left, top - bottom)
    ax.axis("off")
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return fig


def _box(ax, at, text: str, color: str, width: float = 0, height: float = 0.3, edge: str = INK, math=False) -> None:
    """A node: text in a rounded box around `at`; math: the text may hold mathematics."""
    w, h = (width or _width(text)) - 0.1, height - 0.1
    style = dict(boxstyle="round,pad=0.05", fc=color, ec=edge, lw=2.2 if edge == RED else 0.9, zorder=4)
    ax.add_patch(FancyBboxPatch((at[0] - w / 2, at[1] - h / 2), w, h, **style))
    ax.text(*at, text, ha="center", va="center", fontsize=9, zorder=5, parse_math=math)


def _frame(ax, left: float, right: float, bottom: float, top: float) -> None:
    """The light ground of a competing group."""
    style = dict(boxstyle="round,pad=0.02", fc="#f5f5f2", ec="#c9c9c4", lw=0.8, zorder=1)
    ax.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, **style))


def _arrow(ax, *points, color: str = GREY, dashed: bool = False) -> None:
    """Along straight lines, or along a Bezier curve if four points are given."""
    codes = [Curve.MOVETO] + [Curve.CURVE4 if len(points) == 4 else Curve.LINETO] * (len(points) - 1)
    width, order = (2, 3) if color == RED else (1.1, 2)
    style = dict(color=color, lw=width, ls=(0, (4, 2.5)) if dashed else "-", zorder=order)
    ax.add_patch(FancyArrowPatch(path=Curve(points, codes), arrowstyle="-|>", mutation_scale=9, **style))


def _places(graph: LabelGraph, nodes: list[str], sideways: bool) -> dict[str, tuple[float, float]]:
    """A node's row is its longest distance from the root; inside a row, groups stay together."""
    depth = {v: d for d, level in enumerate(nx.topological_generations(graph.networkx)) for v in level}
    at, x = {}, 0.0
    for d in sorted({depth[v] for v in nodes}):
        row, cursor, middles, last = [v for v in nodes if depth[v] == d], 0.0, [], None
        for v in row:
            if (g := graph.group.get(v, "")) != last:
                cursor, last = cursor + (0.36 if sideways else 0.3 + 0.06 * len(g)), g
            middles.append(cursor + (0.15 if sideways else _width(v) / 2))
            cursor += 0.4 if sideways else _width(v) + 0.22
        middle, wide = (middles[0] + middles[-1]) / 2, max(map(_width, row))
        for v, c in zip(row, middles, strict=True):
            at[v] = (x + wide / 2, middle - c) if sideways else (c - middle, -1.05 * d)
        x += wide + 1.05
    return at


def edge_kinds(graph: LabelGraph, labels: list[str]) -> dict[tuple[str, str], bool]:
    """Every edge on a path to one of these labels: True if it lies on nondeterministic paths only."""
    kinds: dict[tuple[str, str], bool] = {}
    for uncertain, path in ((i, path) for label in labels for i in (0, 1) for path in graph.split_paths(label)[i]):
        for edge in zip(path, path[1:], strict=False):
            kinds[edge] = kinds.get(edge, True) and bool(uncertain)
    return kinds


def draw_graph(
    graph: LabelGraph, labels=None, nodes=None, path=(), color=None, sideways=False, onto=None, shift=(0, 0)
) -> plt.Figure | None:
    """Draw a label graph, or what lies on the way to some labels, as in Figure 2; returns the figure.

    The root is yellow, labels are green, augmented nodes blue. Edges on nondeterministic paths only are dashed. A frame
    is a competing group. labels: draw the way to these (default: all); nodes: draw no others; path: the nodes of a path
    to highlight; color: node -> colour; sideways: the root is on the left. onto, shift: draw on these axes, moved by
    (x, y) inches; nothing is returned. Raises GraphError for an unknown label, or where there are too many paths.
    """
    use_fonts_for(graph.nodes)
    kinds = edge_kinds(graph, list(labels or graph.label_nodes()))
    keep = [v for v in graph.nodes if v in {v for edge in kinds for v in edge}.intersection(nodes or graph.nodes)]
    fig, ax = (None, onto) if onto else plt.subplots(gridspec_kw=FULL)
    at = {v: (x + shift[0], y + shift[1]) for v, (x, y) in _places(graph, keep, sideways).items()}
    half, left = {v: _width(v) / 2 for v in keep}, at[graph.root][0] - _width(graph.root) / 2
    frame = {v: (graph.group[v], at[v][not sideways]) for v in keep[1:]}  # a group on two rows has two frames
    for key in dict.fromkeys(frame.values()):
        g, members = key[0], [v for v in keep[1:] if frame[v] == key]
        x, right = min(at[v][0] - half[v] for v in members) - 0.07, max(at[v][0] + half[v] for v in members) + 0.07
        y, top = (f(at[v][1] for v in members) for f in (min, max))
        name = (x + 0.03, top + 0.25) if sideways else (x - 0.06 * len(g) + 0.02, top)  # out of the arrows' way
        x, right = (x, max(right, x + 0.06 * len(g) + 0.06)) if sideways else (name[0] - 0.05, right)
        _frame(ax, x, right, y - 0.2, top + (0.37 if sideways else 0.2))
        ax.text(*name, g, fontsize=7.5, style="italic", color="#666660", va="center", zorder=6, **NAME)
        left = min(left, x)
    for u, v in (edge for edge in kinds if at.keys() >= set(edge)):
        (x, y), (a, b) = at[u], at[v]
        (x, a), (y, b) = ((x + half[u], a - half[v]), (y, b)) if sideways else ((x, a), (y - 0.15, b + 0.15))
        bend = [((x + a) / 2, y), ((x + a) / 2, b)] if sideways else [(x, (y + b) / 2), (a, (y + b) / 2)]
        ink = RED if (u, v) in zip(path, path[1:], strict=False) else GREY
        _arrow(ax, (x, y), *bend, (a, b), color=ink, dashed=kinds[u, v])
    for v in keep:
        own = YELLOW if v == graph.root else BLUE if v in graph.augmented else GREEN
        _box(ax, at[v], v, (color or {}).get(v, own), edge=RED if v in path else INK)
    right, bottom = max(at[v][0] + half[v] for v in keep), min(y for _, y in at.values())
    if fig is not None:
        return _fit(fig, ax, left - 0.15, right + 0.3, bottom - 0.35, max(y for _, y in at.values()) + 0.5)


def _photo(ax, x: float, y: float, fur: str = "#8e9db3") -> None:
    """A cat to classify: a blue British Shorthair, unless `fur` says otherwise."""
    ax.add_patch(Rectangle((x - 0.42, y - 0.42), 0.84, 0.84, fc="#e9efe2", ec=INK, lw=0.9, zorder=4))
    ears = [(0.06, 0.2), (0.28, 0.34), (0.3, 0.06), (-0.3, 0.06), (-0.28, 0.34), (-0.06, 0.2)]
    for corners in ([(-0.33, -0.42), (-0.2, -0.1), (0.2, -0.1), (0.33, -0.42)], ears):
        ax.add_patch(Polygon([(x + a, y + b) for a, b in corners], fc=fur, zorder=5))
    eyes = [
        (s * 0.13, 0.06, w, h, c, z)
        for s in (-1, 1)
        for w, h, c, z in ((0.13, 0.13, "#e8a93a", 7), (0.035, 0.1, "#222222", 8))
    ]
    for a, b, w, h, c, z in ((0, 0.02, 0.62, 0.5, fur, 6), (0, -0.07, 0.07, 0.04, "#d88a8a", 8), *eyes):
        ax.add_patch(Ellipse((x + a, y + b), w, h, fc=c, ec="#00000020", zorder=z))
    for a, b in ((-0.36, -0.14), (-0.36, -0.08), (0.36, -0.14), (0.36, -0.08)):  # whiskers
        ax.plot([x + a / 6, x + a], [y - 0.1, y + b], color="#444444", lw=0.6, zorder=8)


def figure_1(graph: LabelGraph, path, fine: str, coarse: str) -> plt.Figure:
    """Figure 1: a flat classifier for each dataset (top) against one path on a joint label graph (bottom).

    path: the nodes of the path to highlight; fine, coarse: the names of the graph's two label sets.
    """
    fig, ax = plt.subplots(gridspec_kw=FULL)
    groups = list(dict.fromkeys(graph.group[v] for v in graph.augmented))
    color = {v: (GREEN, PINK)[groups.index(graph.group[v]) % 2] for v in graph.augmented} | {graph.root: PALE}
    for dataset, c, y, fur, name in ((fine, BLUE, 0.5, "#8e9db3", "$f^a$"), (coarse, YELLOW, -0.5, "#d9a066", "$f^b$")):
        x = -1.65
        for v in graph.label_nodes(dataset):
            _box(ax, (x + _width(v) / 2, y), v, c, edge=RED if v in path else INK)
            x, color[v] = x + _width(v) + 0.22, c
        for f, at, meet in ((name, y, y), ("$f$", y - 3.35, -3.35)):
            _photo(ax, -3.9, at, fur)
            _box(ax, (-2.6, meet), f, PALE, 0.6, 0.6, math=True)
            _arrow(ax, (-3.45, at), (-2.92, meet))
        _arrow(ax, (-2.28, y), (-1.7, y))
    ax.text(-4.4, 1.2, "Single label: for each dataset a network and a flat list", fontsize=11, weight="bold")
    ax.text(
        -4.4, -1.6, "Label graph: one network, and a path for every image of either dataset", fontsize=11, weight="bold"
    )
    draw_graph(graph, path=path, color=color, onto=ax, shift=(1.6, -2.3))
    _arrow(ax, (-2.28, -3.35), (-1.6, -3.35), (-1.4, -2.3), (1.6 - _width(graph.root) / 2, -2.3))
    for i, (c, text) in enumerate(
        ((BLUE, f"a: {fine}"), (YELLOW, f"b: {coarse}"), *zip((GREEN, PINK), groups, strict=False))
    ):
        _box(ax, (-3.75, -4.65 - 0.34 * i), text, c, width=1.3)
    return _fit(fig, ax, -4.6, 5.0, -5.95, 1.55)


def figure_3(steps: list[tuple[str, str, dict[str, dict[str, float]]]]) -> plt.Figure:
    """Figure 3: encoder, GRU steps, block softmax. steps: the node fed in, the answer chosen, {block: {answer: p}}."""
    fig, ax = plt.subplots(gridspec_kw=FULL)
    _photo(ax, 0, 0)
    ax.add_patch(Polygon([(0.82, -0.6), (0.82, 0.6), (1.6, 0.3), (1.6, -0.3)], fc=PALE, ec=INK, lw=0.9, zorder=4))
    ax.text(1.2, 0, "encoder\n$g_{enc}$", ha="center", va="center", fontsize=9, zorder=5)
    last, highest = 1.6, 0.0
    for t, (fed, chosen, blocks) in enumerate(steps):
        x, y = 3.5 + 3.2 * t, 0.85
        _box(ax, (x, 0), "GRU", "#f6c89f", width=0.84, height=0.6)
        _box(ax, (x, -1.0), fed if t else f"⟨START⟩ = {fed}", BLUE if t else YELLOW)
        for a, b in (
            *([] if t else [((0.45, 0), (0.8, 0))]),
            ((last, 0), (x - 0.42, 0)),
            ((x, -0.84), (x, -0.31)),
            ((x, 0.31), (x, 0.64)),
        ):
            _arrow(ax, a, b)
        for at, text in (
            ((last + 0.3, 0.1), f"$f_{t}$"),
            ((x + 0.08, -0.62), f"$e_{t + 1}$"),
            ((x + 0.08, 0.42), f"$f_{t + 1}$"),
        ):
            ax.text(*at, text, fontsize=10)
        for block, answers in reversed(blocks.items()):
            for answer, p in reversed(answers.items()):
                ink = RED if answer == chosen else "#6f8fb5"
                ax.add_patch(Rectangle((x + 0.22, y - 0.07), 0.55 * p, 0.14, fc=ink, zorder=4))
                shade = ink if ink == RED else "black"
                ax.text(x + 0.16, y, answer, ha="right", va="center", fontsize=8, color=shade, **NAME)
                ax.text(x + 0.26 + 0.55 * p, y, f"{p:.2f}", va="center", fontsize=7.5)
                if ink == RED and t + 1 < len(steps):
                    end, side = (x + 3.2 - _width(steps[t + 1][0]) / 2, -1), x + 1.6
                    _arrow(ax, (x + 1.2, y), (side, y), (side, 0), (side, -1), end, color=RED)
                y += 0.22
            ax.text(x - 1.1, y, block, fontsize=7.5, style="italic", color="#666660", va="center", **NAME)
            y += 0.3
        _frame(ax, x - 1.15, x + 1.18, 0.66, y - 0.17)
        last, highest = x + 0.42, max(highest, y)
    return _fit(fig, ax, -0.6, last + 1.0, -1.3, highest + 0.1)


def draw_steps(ax: plt.Axes, steps: list[Step]) -> None:
    """The steps of an explanation as bars: to the right the answer taken, to the left, in grey, its runner-up."""
    for i, s in enumerate(reversed(steps)):
        ax.barh([i, i], [s.p, -s.runner_up_p], color=["#2a7f9e", "0.8"])
        inside = s.p > 0.45  # a name that is longer than its bar stands beside it
        at, ink = (0.02, "white") if inside else (s.p + 0.02, INK)
        ax.text(at, i, s.answer, va="center", color=ink, fontsize=9, **NAME)
        ax.text(-0.02, i, s.runner_up or "", va="center", ha="right", fontsize=8, color="0.35", **NAME)
        ax.text(1.02, i, f"{s.p:.2f}", va="center", fontsize=8)
    ax.set_yticks(range(len(steps)), [s.question for s in reversed(steps)], **NAME)
    ax.set(xlim=(-1, 1), xticks=[-1, 0, 1], xticklabels=["1", "0", "1"])
    ax.spines[["top", "right"]].set_visible(False)


def choose_for_figure_4(explanations: list[Explanation], node: str, n: int, seed: int) -> list[int]:
    """Indices of at most n of the samples whose path goes through the node, by rule and seed (Figure 4).

    Half of them on deterministic and half on nondeterministic paths where there are enough of both; Algorithm 2's own
    paths before those that were asked for; among equals at random. Right or wrong plays no part.
    """
    order = [i for i in np.random.default_rng(seed).permutation(len(explanations)) if node in explanations[i].path]
    order.sort(key=lambda i: not explanations[i].greedy)  # stable: equals stay in random order
    certain, uncertain = ([int(i) for i in order if explanations[i].deterministic is kind] for kind in (True, False))
    k = min(len(certain), max(n - len(uncertain), n // 2))
    return certain[:k] + uncertain[: n - k]


CERTAIN, UNCERTAIN = "#2f6db5", "#2e9b48"  # frames of Figure 4: deterministic, nondeterministic


def figure_4(rows: dict[str, tuple[str, list[tuple]]], width: int = 8) -> plt.Figure:
    """Figure 4: images whose path goes through a node, a row a node.

    rows: node -> (a note, [(image uint8 [S, S, 3], its Explanation, the true label)]), at most `width` images.
    Blue frame: deterministic path, green: nondeterministic; dashed: the best path through the node's question, where
    Algorithm 2 itself went another way; a wrong label is red, the true one below it.
    """
    fig, ax = plt.subplots(gridspec_kw=FULL)
    side, gap, high = 1.0, 0.16, 1.55
    for r, (node, (note, cells)) in enumerate(rows.items()):
        y = -high * r
        _box(ax, (-0.95, y + 0.16), node, BLUE)
        ax.text(-0.95, y - 0.12, note, ha="center", va="top", fontsize=7, color="#555550", linespacing=1.35)
        if not cells:
            ax.text(0.1, y, "no path goes through this node", va="center", fontsize=9, color="#555550")
        for c, (image, e, truth) in enumerate(cells):
            x, right = 0.1 + c * (side + gap), e.path[-1] == truth
            ax.imshow(image, extent=(x, x + side, y - side / 2, y + side / 2), interpolation="antialiased", zorder=3)
            frame = dict(fc="none", ec=CERTAIN if e.deterministic else UNCERTAIN, lw=2.6, zorder=5)
            frame |= {} if e.greedy else {"ls": (0, (2.2, 1.3))}
            ax.add_patch(Rectangle((x, y - side / 2), side, side, **frame))
            label, ink = (e.path[-1], "#222222") if right else (f"✗ {e.path[-1]}", RED)
            mid = x + side / 2
            style = dict(ha="center", va="top", fontsize=7, **NAME)
            ax.text(mid, y - 0.56, label, color=ink, weight="bold", **style)
            ax.text(mid, y - 0.69, f"p({node.split('-')[0]}) = {e.p(node):.2f}", **style)
            if not right:
                ax.text(mid, y - 0.82, f"is {truth}", color=RED, **style)
    bottom, right = -high * (len(rows) - 1) - 1.0, 0.1 + width * (side + gap)
    legend = (
        (CERTAIN, "-", "deterministic path"),
        (UNCERTAIN, "-", "nondeterministic path"),
        (INK, (0, (2.2, 1.3)), "asked: the best path through this question; Algorithm 2 went another way"),
    )
    x = 0.1
    for ink, style, text in legend:
        ax.add_patch(Rectangle((x, bottom - 0.16), 0.2, 0.16, fc="none", ec=ink, lw=2, ls=style))
        ax.text(x + 0.28, bottom - 0.08, text, va="center", fontsize=7.5)
        x += 0.6 + 0.053 * len(text)
    ax.text(x, bottom - 0.08, "✗ wrong label", va="center", fontsize=7.5, color=RED, weight="bold")
    return _fit(fig, ax, -2.0, right, bottom - 0.25, 0.6)
