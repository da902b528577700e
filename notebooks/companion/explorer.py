"""The explorer: one page, without a server, of test images, their probabilities on the label graph, and their paths."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path

import networkx as nx
import numpy as np
from PIL import Image

from labelaug_core.data import Split
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier, predict

PAGE = Path(__file__).with_name("explorer.html")


def data_uri(image: np.ndarray, side: int = 96) -> str:
    """uint8 [S, S, 3] -> a data URI: a PNG as it is, or, where S > side, a JPEG of `side` pixels."""
    picture, buffer, kind = Image.fromarray(image), io.BytesIO(), "png"
    if len(image) > side:
        picture, kind = picture.resize((side, side), Image.Resampling.LANCZOS), "jpeg"
    picture.save(buffer, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def graph_data(tree: PrefixTree) -> dict:
    """What the page draws: nodes (name, group, depth, kind), each group's question, and all paths as node indices."""
    graph = tree.graph
    depth = {v: d for d, level in enumerate(nx.topological_generations(graph.networkx)) for v in level}
    nodes = [v for v in graph.nodes if v in tree.legal]
    kind = {v: "label" for v in tree.labels} | {graph.root: "root"}
    index, groups = {v: i for i, v in enumerate(nodes)}, dict.fromkeys(graph.group[v] for v in nodes[1:])
    return {
        "nodes": [[v, graph.group.get(v, ""), depth[v], kind.get(v, "augmented")] for v in nodes],
        "questions": {g: graph.question.get(g, f"Which {g}?") for g in groups},
        "paths": [[index[v] for v in path] for path in tree.paths],
        "certain": tree.deterministic.int().tolist(),  # Def. 3.2
    }


def explorer_page(model: Classifier, split: Split, images, title: str, n: int = 60, seed: int = 0) -> str:
    """The page as HTML. It holds n samples of the split, drawn at random: right and wrong predictions alike.

    images: of every sample uint8 [S, S, 3]; title: says what the model is. The page is given the probability of every
    path, to three digits, and Algorithm 2's path, and computes all else from them. Raises ValueError where a label lies
    above a label, or the nodes of a group do not compete.
    """
    tree = model.head.fine_tree
    if tree.has_stops or not tree.block_exclusive.all():
        raise ValueError(
            f"{tree.graph.name}: the explorer needs labels without nodes below them, and groups that compete"
        )
    rows = np.random.default_rng(seed).permutation(len(split))[:n]
    found, names = predict(model, split.take(rows)), [v for v in tree.graph.nodes if v in tree.legal]
    shown = [
        {
            "src": data_uri(images[np.array([i])][0]),
            "id": split.ids[i],
            "truth": names.index(tree.labels[split.y[i]]),
            "greedy": path,
            "p": [float(f"{p:.3g}") for p in np.exp(logp.astype(float))],
        }
        for i, path, logp in zip(rows, found["path"].tolist(), found["path_log_probs"], strict=True)
    ]
    data = json.dumps(graph_data(tree) | {"images": shown}, separators=(",", ":"))
    title = f"{title}. {len(rows)} of {len(split):,} test images, drawn at random: right and wrong answers alike."
    page = PAGE.read_text(encoding="utf-8").replace("{{ title }}", escape(title).replace("{", "&#123;"))
    return page.replace("{{ data }}", data.replace("<", "\\u003c"))  # no name ends the script
