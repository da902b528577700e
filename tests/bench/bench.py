"""How fast the core is, as ratios measured in one run: `make bench` -> results/bench/*.json (about two minutes).

Times are CPU time of this process, one thread: what else the machine does is not counted. Contestants of a comparison
take turns, and every ratio is the median over rounds of time / time of the first contestant in the same round. Before
anything is timed, all contestants must give the same result.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from companion.heads.baselines import FFNHead
from companion.records import profiles
from torch.nn.functional import log_softmax
from torch.utils.benchmark import Timer

from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.encoders import Identity
from labelaug_core.graph import LabelGraph
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.label_aug import OBJECTIVES, PathHead
from labelaug_core.training import Classifier

DENSE_LIMIT = 4_000  # nodes: the dense form's N x N mask takes 64 MB there, 40 GB at 10^5


def machine() -> dict:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    try:
        package = metadata.version("hierarchicalsoftmax")
    except metadata.PackageNotFoundError:
        package = "not installed"
    return {
        "cpu": (names or [platform.processor() or platform.machine()])[0],
        "cores": os.cpu_count(),
        "threads": 1,
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "hierarchicalsoftmax": package,
    }


def race(contestants: dict, rounds: int) -> list[dict]:
    """Rows of median CPU milliseconds a call, quartiles, and the ratio to the first contestant; they take turns."""
    timers = {name: Timer("f()", globals={"f": f}, timer=time.process_time) for name, f in contestants.items()}
    calls = {name: max(1, math.ceil(0.005 / t.timeit(2).mean)) for name, t in timers.items()}  # also warms up
    seconds = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(calls[name]).mean)
    first = np.array(next(iter(seconds.values())))
    rows = []
    for name, taken in seconds.items():
        ms, ratio = np.percentile(np.array(taken) * 1e3, [25, 50, 75]), np.percentile(taken / first, [25, 50, 75])
        rows.append(
            {
                "contestant": name,
                "ms": round(ms[1], 4),
                "ms_quartiles": [round(ms[0], 4), round(ms[2], 4)],
                "ratio": round(ratio[1], 3),
                "ratio_quartiles": [round(ratio[0], 3), round(ratio[2], 3)],
                "rounds": rounds,
            }
        )
    return rows


def assert_same(results: dict[str, tuple]) -> None:
    """Every contestant's tensors are the first one's, up to float rounding."""
    (_, expected), *others = results.items()
    for name, got in others:
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


# -- block softmax ------


def block_sizes(n: int, shape: str) -> list[int]:
    """A tree of two levels with about n nodes: the size of the block of groups, then of each group's block.

    even: groups of about ten; large: about sqrt(n) groups of about sqrt(n); skewed: sqrt(n) groups whose sizes fall
    as 1 / rank (Zipf), at least 2.
    """
    groups = max(2, n // 11 if shape == "even" else math.isqrt(n))
    share = 1 / np.arange(1, groups + 1) if shape == "skewed" else np.ones(groups)
    return [groups, *np.maximum(2, np.round(share / share.sum() * (n - groups))).astype(int).tolist()]


def package_loss(sizes: list[int], leaf: torch.Tensor):
    """-log p of leaves by the PyPI package hierarchicalsoftmax, as a function of z; None where it is not installed.

    The package lays blocks out as we do: the groups, then each group's members. It is asked for the two blocks on the
    way to each leaf and computes no other, block_log_softmax computes all.
    """
    try:
        from hierarchicalsoftmax import HierarchicalSoftmaxLoss, SoftmaxNode
    except ImportError:
        return None
    root = SoftmaxNode("root")
    groups = [SoftmaxNode(f"g{g}", parent=root) for g in range(sizes[0])]
    for g, size in zip(groups, sizes[1:], strict=True):
        for i in range(size):
            SoftmaxNode(f"{g.name}.{i}", parent=g)
    root.set_indexes()
    loss = HierarchicalSoftmaxLoss(root)
    return lambda z: loss(z, leaf)


def block_softmax(nodes: tuple[int, ...], rounds: int, batch: int = 64) -> list[dict]:
    """Forward and backward: all log-probabilities of all blocks, and the loss of one leaf a sample."""
    rows = []
    for n in nodes:
        for shape in ("even", "large", "skewed"):
            sizes, rng = block_sizes(n, shape), torch.Generator().manual_seed(n)
            size = torch.tensor(sizes)
            block = torch.arange(len(sizes)).repeat_interleave(size)
            z = torch.randn(batch, len(block), generator=rng).requires_grad_()
            upstream = torch.randn(z.shape, generator=rng)
            forms = {
                "block_log_softmax": lambda z, block=block: block_log_softmax(z, block),
                "loop over groups": lambda z, sizes=sizes: torch.cat([log_softmax(x, 1) for x in z.split(sizes, 1)], 1),
            }
            if len(block) <= DENSE_LIMIT:
                same = (block[:, None] == block).float()
                forms["dense mask"] = lambda z, same=same: z - (z.exp() @ same).log()  # not safe for large scores

            def all_of(form, z=z, upstream=upstream):
                out = form(z)
                return out, *torch.autograd.grad(out, z, upstream)

            group = torch.randint(sizes[0], (batch,), generator=rng)
            first = size.cumsum(0) - size
            leaf = first[1 + group] + (torch.rand(batch, generator=rng) * size[1 + group]).long()

            def leaf_loss(z, group=group, leaf=leaf, block=block):
                logp = block_log_softmax(z, block)
                return -(logp.gather(1, group[:, None]) + logp.gather(1, leaf[:, None])).mean()

            losses = {"block_log_softmax": leaf_loss}
            if sizes[0] < 2_000 and (package := package_loss(sizes, leaf)):  # its trees take minutes to build beyond
                losses["hierarchicalsoftmax"] = package

            def loss_of(form, z=z):
                out = form(z)
                return out, *torch.autograd.grad(out, z)

            for what, run, entries in (("all log-probabilities", all_of, forms), ("loss of a leaf", loss_of, losses)):
                contestants = {name: (lambda f=f, run=run: run(f)) for name, f in entries.items()}
                assert_same({name: call() for name, call in contestants.items()})
                head = {"what": what, "nodes": len(block), "groups": shape, "blocks": len(sizes), "largest": max(sizes)}
                rows += [head | {"batch": batch} | row for row in race(contestants, rounds)]
    return rows


# -- the path decoder against an FFN ------


def classifier(graph: LabelGraph, objective: str | None, encoder: torch.nn.Module, hidden: int) -> Classifier:
    """A trained method's classifier: FFN (objective None), or the path decoder."""
    fine = graph.label_nodes(next(iter(graph.labels)))
    torch.manual_seed(0)

    def head(width: int):
        if objective is None:
            return FFNHead(graph, fine, len(fine), width)
        return PathHead(graph, graph.label_nodes(), len(fine), width, hidden, objective=objective)

    return Classifier(encoder, head)


def training_step(model: Classifier, n_fine: int, x: torch.Tensor):
    """One step of AdamW on a batch x with random labels, as a function."""
    y = torch.randint(n_fine, (len(x),))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        model(x, y).backward()
        optimizer.step()

    return step


def path_by_path(head: PathHead, features: torch.Tensor) -> torch.Tensor:
    """log p(label | x) [B, n_fine] with every path run through the decoder by itself, the way without a shared tree."""
    tree, batch = head.fine_tree, len(features)
    path = torch.arange(len(tree.paths)).repeat(batch)
    forced = torch.ones(len(tree.levels), dtype=torch.bool)
    logp = head.decoder.sequence_log_probs(features.repeat_interleave(len(tree.paths), 0), tree, path, forced)
    p = (logp.view(batch, -1) + tree.question.to(logp.dtype)).exp()
    return torch.stack([p[:, tree.path_label == k].sum(1) for k in range(len(tree.labels))], 1).log()


def questions_graph(labels: int, questions: int) -> LabelGraph:
    """Each of the labels answers every question, one of four answers, for certain: labels * questions paths."""
    answers = {q: [f"q{q}a{a}" for a in range(4)] for q in range(questions)}
    groups = {f"q{q}": {"below": "root", "nodes": names} for q, names in answers.items()}
    pick = np.random.default_rng(0).integers(4, size=(labels, questions))
    pick[:4] = np.arange(4)[:, None]  # every answer is some label's
    rows = {f"y{k}": [answers[q][pick[k, q]] for q in answers] for k in range(labels)}
    groups["label"] = {"columns": [f"q{q}" for q in answers], "nodes": rows}
    return graph_from_dict({"root": "root", "groups": groups, "labels": {"d": {"groups": ["label"]}}}, "bench.yaml")


def decoder(
    graphs: tuple[str, ...], grow: dict, rounds: int, batch: int = 64, d: int = 1280, hidden: int = 256
) -> list[dict]:
    """Training steps and exact marginals on shipped graphs; then how a step grows with batch, nodes and paths."""
    rows = []
    for name in graphs:
        graph = load_graph(name)
        models = {"FFN": classifier(graph, None, Identity(d), hidden)}
        models |= {o: classifier(graph, o, Identity(d), hidden) for o in OBJECTIVES}
        head, x = models["marginal"].head, torch.randn(batch, d)
        steps = {m: training_step(model, len(head.fine_tree.labels), x) for m, model in models.items()}
        at = {"graph": name, "nodes": len(graph.nodes), "paths": len(head.fine_tree.paths), "batch": batch}
        rows += [{"what": "training step"} | at | row for row in race(steps, rounds)]
        few = torch.randn(2, head.decoder.start.in_features)
        with torch.no_grad():
            assert_same({"tree": (head.log_probs(few),), "path by path": (path_by_path(head, few),)})
            evaluation = {
                "FFN": lambda m=models["FFN"], x=x: m.head.predictions(m.features(x))["log_probs"],
                "exact marginals": lambda m=models["marginal"], x=x: m.head.log_probs(m.features(x)),
                "exact marginals, greedy, paths": lambda m=models["marginal"], x=x: m.head.predictions(m.features(x)),
            }
            rows += [{"what": "evaluation of a batch"} | at | row for row in race(evaluation, rounds)]
            marginals = {
                "shared tree": lambda head=head, few=few: head.log_probs(few),
                "path by path": lambda head=head, few=few: path_by_path(head, few),
            }
            rows += [{"what": "exact marginals"} | at | {"batch": len(few)} | row for row in race(marginals, rounds)]
    sizes = [("batch", load_graph("pet"), b) for b in grow["batch"]]
    sizes += [("nodes", questions_graph(k, 4), batch) for k in grow["labels"]]
    sizes += [("paths", questions_graph(37, q), batch) for q in grow["questions"]]
    for what, graph, b in sizes:
        models = {"FFN": None, "question": "question"}
        models = {m: classifier(graph, objective, Identity(d), hidden) for m, objective in models.items()}
        tree = models["question"].head.fine_tree
        at = {"graph": graph.name, "nodes": len(graph.nodes), "paths": len(tree.paths), "batch": b}
        steps = {m: training_step(model, len(tree.labels), torch.randn(b, d)) for m, model in models.items()}
        rows += [{"what": f"training step, growing {what}"} | at | row for row in race(steps, rounds)]
    return rows


def write(out: Path, name: str, measure, *args, **options) -> None:
    """Measure, and keep the rows beside what they were measured on."""
    on = machine()
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": on, "rows": measure(*args, **options)}, indent=1)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT = profiles.OUT / "results" / "bench"
    write(OUT, "block_softmax", block_softmax, (50, 1_400, 10_000, 100_000), rounds=7)
    GROW = {"batch": (16, 64, 256), "labels": (10, 100, 1_000), "questions": (2, 8, 32)}
    write(OUT, "decoder", decoder, ("pet", "flower", "critters"), GROW, rounds=15)
