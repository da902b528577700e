"""Throughput and peak memory of encoding, each run in a process of its own; part of `make bench` (bench_scale.py).

Only what the encoder needs is imported here, so that the peak is the encoder's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from labelaug_core.cache import cached_features
from labelaug_core.encoders import build_encoder


class Noise:
    """n random images of one size, made when asked for."""

    def __init__(self, n: int, size: int):
        self.n, self.size, self.key = n, size, f"noise-{size}"

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.random.default_rng(rows[0]).integers(0, 256, (len(rows), self.size, self.size, 3), dtype=np.uint8)


def peak_mb() -> float:
    """The most memory that this process has held, memory-mapped pages included, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss starts at the parent's there
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def encode(n: int, size: int, encoder: str) -> dict:
    """Encode n images with cached_features; this process does nothing else, so the peak is its own. CPU seconds."""
    torch.set_num_threads(1)
    body, begin = build_encoder({"name": encoder, "pretrained": False, "width": 8}), time.process_time()
    features = cached_features(body, Noise(n, size), "noise")
    seconds, images = time.process_time() - begin, n * size * size * 3 / 1e6
    row = {"what": "encoding", "encoder": encoder, "pixels": size, "images": n, "images_mb": round(images, 1)}
    row |= {"features_mb": round(features.nbytes / 1e6, 1), "peak_mb": round(peak_mb(), 1)}
    return row | {"seconds": round(seconds, 2), "images_per_second": round(n / seconds, 1)}


def encoding(counts: tuple[int, ...], size: int = 48, encoder: str = "tf_efficientnet_lite0") -> list[dict]:
    """Throughput and peak memory; each count in a process of its own, with an empty cache."""
    rows = []
    for n in counts:
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {"LABELAUG_CACHE": cache, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, str(n), str(size), encoder]
            rows.append(json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout))
    for row in rows:
        row |= {f"{what}_ratio": round(row[what] / rows[0][what], 3) for what in ("peak_mb", "images_per_second")}
    return rows


if __name__ == "__main__":
    print(json.dumps(encode(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
