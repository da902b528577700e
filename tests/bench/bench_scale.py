"""Large graphs, whole steps and encoding: the second half of `make bench` -> results/bench/*.json (a few minutes).

As in bench.py, contestants take turns, and what counts is the ratio within one run.
"""

from __future__ import annotations

import bench
import bench_encoding
import numpy as np
import torch
from companion.heads.baselines import FFNHead
from companion.heads.large import Edges, SampledPathHead, beam, greedy
from companion.records import profiles

from labelaug_core.decoder import PathDecoder
from labelaug_core.encoders import Identity, TimmEncoder
from labelaug_core.graph import LabelGraph
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier

TREE_LIMIT = 1_000  # labels: the largest graph here of which a prefix tree is made

# -- decoding without a prefix tree ------


def taxonomy(labels: int) -> LabelGraph:
    """Levels of 10, 100, ... nodes down to `labels` (a power of ten); below the first, each node has two parents.

    A level is one competing group; a node has about twenty children; 2 ** (levels - 1) paths lead to each label.
    """
    rng, size, last = np.random.default_rng(0), 10, "level 0"
    groups: dict[str, dict] = {last: {"below": "root", "nodes": [f"0.{j}" for j in range(size)]}}
    for i in range(1, len(str(labels)) - 1):
        other = (np.arange(10 * size) // 10 + rng.integers(1, size, 10 * size)) % size
        rows = {f"{i}.{j}": [f"{i - 1}.{j // 10}", f"{i - 1}.{k}"] for j, k in enumerate(other)}
        last, size = f"level {i}", 10 * size
        groups[last] = {"nodes": rows}
    return graph_from_dict({"root": "root", "groups": groups, "labels": {"d": {"groups": last}}}, "bench.yaml")


def decoding(sizes: tuple[int, ...], rounds: int, batch: int = 64, d: int = 1280, hidden: int = 256) -> list[dict]:
    """Greedy and beam decoding, and a training step on 4 sampled paths, against one linear layer over all labels."""
    rows = []
    for n in sizes:
        torch.manual_seed(0)
        graph = taxonomy(n)
        ffn = Classifier(Identity(d), lambda width, g=graph, n=n: FFNHead(g, g.label_nodes(), n, width))
        ours = Classifier(Identity(d), lambda w, g=graph, n=n: SampledPathHead(g, g.label_nodes(), n, w, hidden, k=4))
        decoder, edges, x = ours.head.decoder, ours.head.fine_edges, torch.randn(batch, d)
        with torch.no_grad():
            f = ours.eval().features(x)
        contestants = {
            "FFN": lambda ffn=ffn, f=f: ffn.head.score(f).argmax(1),
            "greedy": lambda decoder=decoder, f=f, edges=edges: greedy(decoder, f, edges),
            "beam of 8": lambda decoder=decoder, f=f, edges=edges: beam(decoder, f, edges, 8),
        }
        if n <= TREE_LIMIT:
            tree = PrefixTree(graph, graph.label_nodes())
            assert_equal_to_the_tree(decoder, edges, tree, f)
            contestants["greedy, prefix tree"] = lambda decoder=decoder, f=f, tree=tree: tree.greedy(
                decoder.slot_log_probs(f, tree)
            )
        with torch.no_grad():
            decoded = bench.race(contestants, rounds)
        for row in decoded:
            row["labels_per_second"] = round(batch / row["ms"] * 1e3)
        at = {"labels": n, "nodes": len(graph.nodes), "batch": batch}
        at["paths"] = sum(edges.n_paths[y] for y in edges.labels)
        at["adjacency_mb"] = round(sum(b.nbytes for b in edges.buffers()) / 1e6, 2)
        rows += [{"what": "decoding"} | at | row for row in decoded]
        steps = {"FFN": bench.training_step(ffn, n, x), "sampled paths": bench.training_step(ours.train(), n, x)}
        rows += [{"what": "training step"} | at | row for row in bench.race(steps, rounds)]
    return rows


def assert_equal_to_the_tree(decoder: PathDecoder, edges: Edges, tree: PrefixTree, x: torch.Tensor) -> None:
    """Greedy takes the tree's paths, and the beam's paths have the tree's log-probabilities."""
    with torch.no_grad():
        slot_logp = decoder.slot_log_probs(x, tree)
        label, _ = greedy(decoder, x, edges)
        bench.assert_same({"tree": (tree.path_label[tree.greedy(slot_logp)],), "greedy": (label,)})
        at = {path: p for p, path in enumerate(tree.paths)}
        _, logp, nodes = beam(decoder, x, edges, 8)
        names = edges.graph.nodes
        index = [[at[tuple(names[v] for v in path if v >= 0)] for path in paths] for paths in nodes.tolist()]
        bench.assert_same({"tree": (tree.path_log_probs(slot_logp).gather(1, torch.tensor(index)),), "beam": (logp,)})


# -- a whole training step, encoder included ------


def whole_step(encoders: tuple[tuple[str, int, int], ...], rounds: int, hidden: int = 256) -> list[dict]:
    """(timm model, image size, batch): a step of everything on random images, weights random, nothing frozen."""
    rows, graph = [], load_graph("pet")
    for name, size, batch in encoders:
        x, steps = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8), {}
        for title, objective in (("FFN", None), ("question", "question"), ("algorithm-1", "algorithm-1")):
            model = bench.classifier(graph, objective, TimmEncoder(name, pretrained=False, frozen=False), hidden)
            steps[title] = bench.training_step(model, 37, x)
        at = {"what": "whole training step", "encoder": name, "pixels": size, "batch": batch}
        rows += [at | row for row in bench.race(steps, rounds)]
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT = profiles.OUT / "results" / "bench"
    ENCODERS = (("tf_efficientnet_lite0", 224, 8), ("tf_efficientnet_b4", 380, 2))
    bench.write(OUT, "whole_step", whole_step, ENCODERS, rounds=3)
    bench.write(OUT, "decoding", decoding, (1_000, 10_000, 100_000), rounds=3)
    bench.write(OUT, "encoding", bench_encoding.encoding, (1_000, 4_000, 16_000))
