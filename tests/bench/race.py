"""How the benchmarks measure: contestants take turns, and what counts is a ratio within one run.

Times are CPU time of this process, one thread: what else the machine does is not counted. A ratio is the median over
rounds of time / time of the first contestant in the same round. Before anything is timed, contestants that compute the
same thing must give the same result.
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
from torch.utils.benchmark import Timer


def machine() -> dict:
    """What the numbers are measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": (names or [platform.processor() or platform.machine()])[0],
        "cores": os.cpu_count(),
        "threads": 1,
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "hierarchicalsoftmax": metadata.version("hierarchicalsoftmax"),
    }


def race(contestants: dict, rounds: int) -> list[dict]:
    """A row a contestant (a function without arguments): median CPU milliseconds a call, the ratio, its quartiles."""
    timers = {name: Timer("f()", globals={"f": f}, timer=time.process_time) for name, f in contestants.items()}
    calls = {name: max(1, math.ceil(0.005 / t.timeit(2).mean)) for name, t in timers.items()}  # also warms up
    seconds = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(calls[name]).mean)
    first, rows = np.array(next(iter(seconds.values()))), []
    for name, taken in seconds.items():
        low, middle, high = np.percentile(taken / first, [25, 50, 75]).round(3)
        row = {"contestant": name, "ms": round(1e3 * float(np.median(taken)), 4), "ratio": middle}
        rows.append(row | {"ratio_low": low, "ratio_high": high, "rounds": rounds})
    return rows


def assert_same(results: dict[str, tuple]) -> None:
    """Every contestant's tensors are the first one's, up to float rounding."""
    (_, expected), *others = results.items()
    for name, got in others:
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def write(out: Path, name: str, rows: list[dict], on: dict) -> None:
    """Keep the rows beside what they were measured on."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"machine": on, "rows": rows}, indent=1) + "\n", encoding="utf-8")
