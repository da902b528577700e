"""`make bench` -> results/bench/*.json: the speed of the core, and bars.json, what was promised against what came out.

It wants a quiet machine. See race.py for how times are taken.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import bench_core
import bench_process
import torch
from companion.records import profiles
from race import machine, write

from labelaug_core.label_aug import OBJECTIVES

TOY_CELLS = (("ffn", "fine"), ("label-aug", "fine"), ("label-aug", "fusion"))
NODES = (50, 1_400, 10_000, 100_000)


def processes() -> list[dict]:
    """Every measurement of bench_process; what is short is the median of five."""
    rows = [bench_process.alone("import_core") for _ in range(5)]
    rows = [rows[0] | {"cpu_seconds": statistics.median(r["cpu_seconds"] for r in rows)}]
    rows += [bench_process.alone("kernel"), bench_process.alone("first_figure")]
    rows += [bench_process.alone("toy_cell", *cell) for cell in TOY_CELLS]
    rows += [bench_process.alone("read_images", 200), bench_process.alone("loader", 1_600)]
    rows += [bench_process.alone("encode_files", 320, "tf_efficientnet_lite0")]
    return rows + [bench_process.alone("encode", n, 48, "tf_efficientnet_lite0") for n in (1_000, 8_000)]


def bars(folder: Path) -> list[dict]:
    """Rows of bar, limit (`at most` or `at least`), measured, met; measured and met are None for what was not run."""
    found = {f.stem: json.loads(f.read_text(encoding="utf-8")).get("rows", []) for f in folder.glob("*.json")}

    def values(file: str, column: str, **where) -> list[float]:
        return [r[column] for r in found.get(file, ()) if all(r.get(k) == v for k, v in where.items())]

    step, one = {"what": "training step", "graph": "pet"}, "one process reads, images a second at 380 px"
    asked = [("import labelaug_core, seconds", "at most", 0.3, values("processes", "cpu_seconds", what="import_core"))]
    kernel, figure = (values("processes", "cpu_seconds", what=what) for what in ("kernel", "first_figure"))
    asked += [("a kernel is ready to train, seconds", "at most", 3, kernel)]
    asked += [("first figure of notebook 00, seconds", "at most", 60, figure)]
    for objective in OBJECTIVES:
        ratios = values("decoder", "ratio", contestant=objective, **step)
        asked.append((f"training step on pets, {objective} / FFN", "at most", 3, ratios))
    exact = values("decoder", "ratio", what="evaluation", graph="pet", contestant="exact label probabilities")
    asked.append(("exact label probabilities on pets / FFN's", "at most", 3, exact))
    for n in NODES:
        at = {"what": "loss of a leaf", "contestant": "hierarchicalsoftmax", "nodes": n}
        package = values("block_softmax", "ratio", **at)
        asked.append((f"hierarchicalsoftmax / block softmax, {n:,} nodes", "at least", 10, package))
    asked.append(("nodes of the largest label graph", "at least", 1e5, values("large", "nodes")))
    asked.append((one, "at least", 150, values("processes", "images_per_second", what="read_images")))
    fed = values("processes", "images_per_second", what="loader")
    asked.append(("two workers on two cores read, images a second at 380 px", "at least", 300, fed))
    share = values("processes", "training_process_share", what="loader")
    asked.append(("the training process computes meanwhile, share of the time", "at most", 0.1, share))
    encoded = values("processes", "images_per_second", what="encode_files")
    asked.append(("EfficientNet-Lite0 encodes, images a second at 224 px", "at least", 40, encoded))
    rows = []
    for bar, limit, value, measured in asked:
        row = {"bar": bar, "limit": f"{limit} {value:,g}", "measured": None, "met": None}
        if measured:  # of several (shapes of graphs) the worst; of the largest graph, the largest
            worst = max(measured) if limit == "at most" or "largest" in bar else min(measured)
            row |= {"measured": worst, "met": worst <= value if limit == "at most" else worst >= value}
        rows.append(row)
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT, ON = profiles.OUT / "results" / "bench", machine()
    ENCODERS = (("tf_efficientnet_lite0", 224, 8), ("tf_efficientnet_b4", 380, 2))
    write(OUT, "processes", processes(), ON)
    write(OUT, "decoder", bench_core.decoder(("pet", "flower", "critters"), rounds=15), ON)
    write(OUT, "block_softmax", bench_core.block_softmax(NODES, rounds=7), ON)
    write(OUT, "growth", bench_core.growth((16, 64, 256), (10, 100, 1_000), (2, 8, 32), rounds=9), ON)
    write(OUT, "whole_step", bench_core.whole_step(ENCODERS, rounds=3), ON)
    write(OUT, "large", bench_core.large((1_000, 10_000, 100_000), rounds=3), ON)
    write(OUT, "bars", bars(OUT), ON)
    for row in bars(OUT):
        print(f"{row['bar']:60} {row['limit']:16} {row['measured']!s:>10} {row['met']}")
