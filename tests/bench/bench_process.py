"""What is measured in a process of its own: imports, a kernel, one toy cell, image reading, the memory of encoding.

    python tests/bench/bench_process.py toy_cell '["ffn", "fine"]'    # what bench.py runs; prints one row as JSON

Only what a measurement needs is imported inside it. Seconds are CPU time, as in race.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY = "import torch; from companion.runs import load_task, run_seed"  # what notebook 20 imports before it trains


def alone(measurement: str, *arguments) -> dict:
    """The row of one function of this file, run in a new process, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"LABELAUG_CACHE": cache, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, measurement, json.dumps(arguments)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, cwd=cache)
    return {"what": measurement, **json.loads(done.stdout.splitlines()[-1])}


def import_core() -> dict:
    """Seconds of `import labelaug_core`."""
    begin = time.process_time()
    import labelaug_core  # noqa: F401

    return {"cpu_seconds": round(time.process_time() - begin, 4)}


def kernel() -> dict:
    """Seconds of a Jupyter kernel from its start until it has imported what training needs."""
    from jupyter_client.manager import start_new_kernel

    begin, (manager, client) = time.perf_counter(), start_new_kernel(kernel_name="python3")
    try:
        client.execute_interactive(READY, timeout=120)
        wall, printed = time.perf_counter() - begin, []
        client.execute_interactive(
            "import time; print(time.process_time())",
            timeout=120,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return {"cpu_seconds": round(float("".join(printed)), 2), "wall_seconds": round(wall, 2)}


def toy_cell(method: str, dataset: str) -> dict:
    """Seconds of one seed of a toy cell, after the imports of the kernel; of the first training step among them."""
    import torch
    from companion.records import profiles
    from companion.runs import load_task, run_seed

    torch.set_num_threads(1)
    settings = profiles.cell_settings("toy", "critters", dataset, method)
    task, begin = load_task(settings), time.process_time()
    short = settings | {"training": settings["training"] | {"steps": 1}}
    run_seed(short, task, 0)
    first, begin = time.process_time() - begin, time.process_time()
    run_seed(settings, task, 0)
    seconds = {"first_step": round(first, 2), "cpu_seconds": round(time.process_time() - begin, 2)}
    return {"method": method, "dataset": dataset} | seconds


def read_images(n: int) -> dict:
    """Images a second that one process reads at 380 px from JPEG files of 500 x 375 pixels."""
    import numpy as np
    from PIL import Image

    from labelaug_core.images import ImageFiles

    rng, paths = np.random.default_rng(0), [Path(f"{i}.jpg") for i in range(n)]
    for path in paths:  # smooth noise: about as many bytes as a photograph
        small = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    images, begin = ImageFiles(paths, 380), time.process_time()
    for first in range(0, n, 32):
        images[np.arange(first, min(first + 32, n))]
    seconds = time.process_time() - begin
    kilobytes = sum(path.stat().st_size for path in paths) / n / 1e3
    return {"images": n, "kilobytes": round(kilobytes, 1), "images_per_second": round(n / seconds, 1)}


def encode(n: int, size: int, name: str) -> dict:
    """Images a second of `cached_features` and the most memory of its process."""
    import numpy as np
    import torch

    from labelaug_core.cache import cached_features
    from labelaug_core.encoders import build_encoder

    class Noise:
        """n random images of one size, made when asked for."""

        key = f"noise-{size}"

        def __len__(self):
            return n

        def __getitem__(self, rows):
            return np.random.default_rng(rows[0]).integers(0, 256, (len(rows), size, size, 3), dtype=np.uint8)

    torch.set_num_threads(1)
    encoder, begin = build_encoder({"name": name, "pretrained": False, "width": 8}), time.process_time()
    cached_features(encoder, Noise(), "noise")
    speed, mb = n / (time.process_time() - begin), n * size * size * 3 / 1e6
    row = {"encoder": name, "pixels": size, "images": n, "images_mb": round(mb, 1)}
    return row | {"peak_mb": round(peak_mb(), 1), "images_per_second": round(speed, 1)}


def peak_mb() -> float:
    """The most memory that this process has held, memory-mapped pages included, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss starts at the parent's there
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def first_figure() -> dict:
    """Seconds of notebook 00 until its first figure is there."""
    cells = json.loads((ROOT / "notebooks" / "00_quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    first = next(i for i, c in enumerate(code) if any("image/png" in o.get("data", {}) for o in c["outputs"]))
    source = "\n".join("".join(c["source"]) for c in code[: first + 1])
    begin, environment = time.perf_counter(), os.environ | {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", source], env=environment, check=True, stdout=subprocess.DEVNULL)
    return {"cpu_seconds": round(sum(os.times()[2:4]), 2), "wall_seconds": round(time.perf_counter() - begin, 2)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
