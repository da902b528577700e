"""Block softmax, the path decoder and large graphs, each against the plain alternative (see race.py)."""

from __future__ import annotations

import math

import numpy as np
import torch
from companion.heads.baselines import FFNHead
from companion.heads.large import Edges, SampledPathHead, beam
from companion.heads.large import greedy as greedy_on_edges
from hierarchicalsoftmax import HierarchicalSoftmaxLoss, SoftmaxNode
from hierarchicalsoftmax.inference import node_probabilities
from race import assert_same, race
from torch.nn.functional import log_softmax

from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.decoder import greedy
from labelaug_core.encoders import Identity, TimmEncoder
from labelaug_core.graph import LabelGraph
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.label_aug import OBJECTIVES, PathHead, PathSettings
from labelaug_core.prefix_tree import PrefixTree
from labelaug_core.training import Classifier, TrainingSettings, make_optimizer

DENSE_LIMIT = 4_000  # nodes: an N x N mask takes 64 MB there, 40 GB at 100,000
PACKAGE_LIMIT = 2_000  # blocks: the package takes minutes to build a larger tree
TREE_LIMIT = 1_000  # labels: the largest graph here of which a prefix tree is made

# -- block softmax ------


def block_sizes(n: int, shape: str) -> list[int]:
    """A tree of two levels with about n nodes: the size of the block of groups, then of each group's block.

    even: groups of about ten; large: about sqrt(n) groups of about sqrt(n); skewed: sqrt(n) groups whose sizes fall
    as 1 / rank, at least 2.
    """
    groups = max(2, n // 11 if shape == "even" else math.isqrt(n))
    share = 1 / np.arange(1, groups + 1) if shape == "skewed" else np.ones(groups)
    return [groups, *np.maximum(2, np.round(share / share.sum() * (n - groups))).astype(int).tolist()]


def package_tree(sizes: list[int]) -> SoftmaxNode:
    """The same tree in the PyPI package hierarchicalsoftmax, which lays out scores as we do: groups, then members."""
    root = SoftmaxNode("root")
    groups = [SoftmaxNode(f"g{g}", parent=root) for g in range(sizes[0])]
    for g, size in zip(groups, sizes[1:], strict=True):
        for i in range(size):
            SoftmaxNode(f"{g.name}.{i}", parent=g)
    root.set_indexes()
    return root


def block_softmax(nodes: tuple[int, ...], rounds: int, batch: int = 64) -> list[dict]:
    """Three tasks on random scores [batch, N] of trees of two levels.

    all log-probabilities, forward and backward: against a loop and a dense mask. probability of every node, forward,
    and loss of a leaf, forward and backward: against the package. Its loss computes the two blocks on the way to each
    leaf and no other; block_log_softmax computes all.
    """
    rows = []
    for n, shape in ((n, shape) for n in nodes for shape in ("even", "large", "skewed")):
        sizes = block_sizes(n, shape)
        tasks = block_tasks(sizes, batch, torch.Generator().manual_seed(n))
        for what, contestants in tasks.items():
            assert_same({name: call() for name, call in contestants.items()})
            at = {"what": what, "nodes": n, "groups": shape, "blocks": len(sizes), "largest": max(sizes)}
            rows += [at | {"batch": batch} | row for row in race(contestants, rounds)]
    return rows


def block_tasks(sizes: list[int], batch: int, rng: torch.Generator) -> dict[str, dict]:
    """The tasks of block_softmax: {task: {contestant: a function that gives a tuple of tensors}}."""
    size = torch.tensor(sizes)
    block = torch.arange(len(sizes)).repeat_interleave(size)
    z = torch.randn(batch, len(block), generator=rng).requires_grad_()
    upstream = torch.randn(z.shape, generator=rng)
    group = torch.randint(sizes[0], (batch,), generator=rng)
    leaf = (size.cumsum(0) - size)[1 + group] + (torch.rand(batch, generator=rng) * size[1 + group]).long()

    def with_gradient(form, upstream=None):
        def call():
            out = form(z)
            return out, *torch.autograd.grad(out, z, upstream)

        return call

    forms = {
        "block_log_softmax": lambda z: block_log_softmax(z, block),
        "loop over blocks": lambda z: torch.cat([log_softmax(x, 1) for x in z.split(sizes, 1)], 1),
    }
    if len(block) <= DENSE_LIMIT:
        same = (block[:, None] == block).float()
        forms["dense mask"] = lambda z: z - (z.exp() @ same).log()  # not safe for large scores
    tasks = {"all log-probabilities": {name: with_gradient(form, upstream) for name, form in forms.items()}}
    if len(sizes) > PACKAGE_LIMIT:
        return tasks
    root = package_tree(sizes)
    loss = HierarchicalSoftmaxLoss(root)

    def leaf_loss(z):
        logp = block_log_softmax(z, block)
        return -(logp.gather(1, group[:, None]) + logp.gather(1, leaf[:, None])).mean()

    def probabilities():
        logp = block_log_softmax(z.detach(), block)
        above = logp[:, : sizes[0]].repeat_interleave(size[1:], 1)
        return (torch.cat([logp[:, : sizes[0]], logp[:, sizes[0] :] + above], 1).exp(),)

    tasks["probability of every node"] = {
        "block_log_softmax": probabilities,
        "hierarchicalsoftmax": lambda: (node_probabilities(z.detach(), root),),
    }
    tasks["loss of a leaf"] = {
        "block_log_softmax": with_gradient(leaf_loss),
        "hierarchicalsoftmax": with_gradient(lambda z: loss(z, leaf)),
    }
    return tasks


# -- the path decoder against an FFN ------


def classifier(graph: LabelGraph, objective: str | None, encoder: torch.nn.Module, hidden: int = 256) -> Classifier:
    """A method's classifier, untrained: FFN (objective None), or label-aug."""
    n_fine = len(graph.label_nodes(next(iter(graph.labels))))
    torch.manual_seed(0)

    def head(d: int):
        if objective is None:
            return FFNHead(graph, graph.label_nodes(), n_fine, d)
        return PathHead(graph, graph.label_nodes(), n_fine, d, PathSettings(hidden, objective))

    return Classifier(encoder, head, TrainingSettings())


def training_step(model: Classifier, n_fine: int, x: torch.Tensor):
    """One step of training on a batch x with random labels, as a function. Rate 0: each step costs the same."""
    y = torch.randint(n_fine, (len(x),), generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(model, TrainingSettings(lr=0.0))

    def step() -> None:
        optimizer.zero_grad()
        model(x, y).backward()
        optimizer.step()

    return step


def path_by_path(head: PathHead, features: torch.Tensor) -> torch.Tensor:
    """log p(label | x) [B, n_fine] with every path run through the decoder by itself, without a shared tree."""
    tree, batch = head.fine_tree, len(features)
    path = torch.arange(len(tree.paths)).repeat(batch)
    forced = torch.ones(len(tree.levels), dtype=torch.bool)
    logp = head.decoder.sequence_log_probs(features.repeat_interleave(len(tree.paths), 0), tree, path, forced)
    question = torch.cat([tree.log_question, tree.log_question.new_zeros(1)])[tree.path_slots].sum(1)
    p = (logp.view(batch, -1) + question.to(logp.dtype)).exp()
    return torch.stack([p[:, tree.path_label == k].sum(1) for k in range(len(tree.labels))], 1).log()


MATRIX = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def operations(contestants: dict, repeats: int) -> list[dict]:
    """A row a contestant: milliseconds a call in matrix products and in all other operations of torch."""
    rows = []
    for name, f in contestants.items():
        f()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            for _ in range(repeats):
                f()
        spent = {True: 0.0, False: 0.0}
        for event in found.key_averages():
            spent[event.key in MATRIX] += event.self_cpu_time_total / 1e3 / repeats
        rows.append({"contestant": name, "matrix_ms": round(spent[True], 4), "other_ms": round(spent[False], 4)})
    return rows


def decoder(graphs: tuple[str, ...], rounds: int, batch: int = 64, d: int = 1280, hidden: int = 256) -> list[dict]:
    """On cached features: a training step of every objective, and the evaluation of a batch."""
    rows = []
    for name in graphs:
        graph = load_graph(name)
        models = {"FFN": classifier(graph, None, Identity(d), hidden)}
        models |= {objective: classifier(graph, objective, Identity(d), hidden) for objective in OBJECTIVES}
        head, x = models["marginal"].head, torch.randn(batch, d)
        steps = {m: training_step(model, len(head.fine_tree.labels), x) for m, model in models.items()}
        at = {"graph": name, "nodes": len(graph.nodes), "paths": len(head.fine_tree.paths), "batch": batch}
        rows += [{"what": "training step"} | at | row for row in race(steps, rounds)]
        two = {f"step, {m}": steps[m] for m in ("FFN", "algorithm-1")}
        rows += [{"what": "operations"} | at | row for row in operations(two, rounds)]
        few = torch.randn(2, head.decoder.start.in_features)
        for model in models.values():
            model.eval()
        with torch.no_grad():
            assert_same({"tree": (head.log_probs(few),), "path by path": (path_by_path(head, few),)})
            ffn, ours = models["FFN"], models["marginal"]
            evaluation = {
                "FFN": lambda m=ffn, x=x: m.head.predictions(m.features(x)),
                "exact label probabilities": lambda m=ours, x=x: m.head.log_probs(m.features(x)),
                "with greedy and all paths": lambda m=ours, x=x: m.head.predictions(m.features(x)),
            }
            rows += [{"what": "evaluation"} | at | row for row in race(evaluation, rounds)]
            two = {f"evaluation, {m}": evaluation[m] for m in ("FFN", "exact label probabilities")}
            rows += [{"what": "operations"} | at | row for row in operations(two, rounds)]
            ways = {"shared tree": head.log_probs, "path by path": lambda few, head=head: path_by_path(head, few)}
            ways = {way: lambda f=f, few=few: f(few) for way, f in ways.items()}
            rows += [{"what": "shared tree"} | at | {"batch": len(few)} | row for row in race(ways, rounds)]
    return rows


def questions_graph(labels: int, questions: int) -> LabelGraph:
    """Each of the labels answers every question, one of four answers, for certain: labels * questions paths."""
    answers = {q: [f"q{q}a{a}" for a in range(4)] for q in range(questions)}
    groups = {f"q{q}": {"below": "root", "nodes": names} for q, names in answers.items()}
    pick = np.random.default_rng(0).integers(4, size=(labels, questions))
    pick[:4] = np.arange(4)[:, None]  # every answer is some label's
    rows = {f"y{k}": [answers[q][pick[k, q]] for q in answers] for k in range(labels)}
    groups["label"] = {"columns": [f"q{q}" for q in answers], "nodes": rows}
    return graph_from_dict({"root": "root", "groups": groups, "labels": {"d": {"groups": ["label"]}}}, "bench.yaml")


def growth(
    batches: tuple, labels: tuple, questions: tuple, rounds: int, batch: int = 64, d: int = 1280, hidden: int = 256
) -> list[dict]:
    """How a training step grows: with the batch (pets), with the nodes (four questions), with the paths (37 labels)."""
    sizes = [("batch", load_graph("pet"), b) for b in batches]
    sizes += [("nodes", questions_graph(k, 4), batch) for k in labels]
    sizes += [("paths", questions_graph(37, q), batch) for q in questions]
    rows = []
    for what, graph, b in sizes:
        methods = {"FFN": None, "question": "question", "algorithm-1": "algorithm-1"}
        models = {name: classifier(graph, objective, Identity(d), hidden) for name, objective in methods.items()}
        tree = models["question"].head.fine_tree
        at = {"growing": what, "nodes": len(graph.nodes), "paths": len(tree.paths), "batch": b}
        steps = {m: training_step(model, len(tree.labels), torch.randn(b, d)) for m, model in models.items()}
        rows += [at | row for row in race(steps, rounds)]
    return rows


def whole_step(encoders: tuple[tuple[str, int, int], ...], rounds: int, hidden: int = 256) -> list[dict]:
    """(timm model, image size, batch): a step of everything on random images, weights random, nothing frozen."""
    rows, graph = [], load_graph("pet")
    for name, size, batch in encoders:
        x, steps = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8), {}
        for title, objective in (("FFN", None), ("question", "question"), ("algorithm-1", "algorithm-1")):
            model = classifier(graph, objective, TimmEncoder(name, pretrained=False, frozen=False), hidden)
            steps[title] = training_step(model, 37, x)
        at = {"encoder": name, "pixels": size, "batch": batch}
        rows += [at | row for row in race(steps, rounds)]
    return rows


# -- large graphs ------


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


def large(sizes: tuple[int, ...], rounds: int, batch: int = 64, d: int = 1280, hidden: int = 256) -> list[dict]:
    """Greedy and beam decoding, and a training step on 4 sampled paths, against one linear layer over all labels."""
    rows = []
    for n in sizes:
        torch.manual_seed(0)
        graph = taxonomy(n)
        labels, x = graph.label_nodes(), torch.randn(batch, d)
        ffn = Classifier(Identity(d), lambda w, g=graph, y=labels: FFNHead(g, y, len(y), w), TrainingSettings())
        ours = Classifier(
            Identity(d), lambda w, g=graph, y=labels: SampledPathHead(g, y, len(y), w, hidden, k=4), TrainingSettings()
        )
        decoder, edges = ours.head.decoder, ours.head.fine_edges
        with torch.no_grad():
            f = ours.eval().features(x)
            contestants = {
                "FFN": lambda ffn=ffn, f=f: ffn.head.score(f).argmax(1),
                "greedy": lambda decoder=decoder, f=f, edges=edges: greedy_on_edges(decoder, f, edges),
                "beam of 8": lambda decoder=decoder, f=f, edges=edges: beam(decoder, f, edges, 8),
            }
            if n <= TREE_LIMIT:
                tree = PrefixTree(graph, labels)
                assert_equal_to_the_tree(decoder, edges, tree, f)
                contestants["greedy, prefix tree"] = lambda decoder=decoder, f=f, tree=tree: greedy(
                    tree, decoder.slot_log_probs(f, tree)
                )
            decoded = race(contestants, rounds)
        at = {"labels": n, "nodes": len(graph.nodes), "paths": sum(graph.n_paths[y] for y in labels), "batch": batch}
        at["adjacency_mb"] = round(sum(b.nbytes for b in edges.buffers()) / 1e6, 2)
        rows += [{"what": "decoding"} | at | row for row in decoded]
        steps = {"FFN": training_step(ffn, n, x), "sampled paths": training_step(ours.train(), n, x)}
        rows += [{"what": "training step"} | at | row for row in race(steps, rounds)]
    return rows


def assert_equal_to_the_tree(decoder, edges: Edges, tree: PrefixTree, x: torch.Tensor) -> None:
    """Greedy takes the tree's paths, and the beam's paths have the tree's log-probabilities."""
    slot_logp = decoder.slot_log_probs(x, tree)
    label, _ = greedy_on_edges(decoder, x, edges)
    assert_same({"tree": (tree.path_label[greedy(tree, slot_logp)],), "greedy": (label,)})
    at = {path: p for p, path in enumerate(tree.paths)}
    _, logp, nodes = beam(decoder, x, edges, 8)
    names = edges.graph.nodes
    index = [[at[tuple(names[v] for v in path if v >= 0)] for path in paths] for paths in nodes.tolist()]
    assert_same({"tree": (tree.path_log_probs(slot_logp).gather(1, torch.tensor(index)),), "beam": (logp,)})
