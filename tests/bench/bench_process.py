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


def photographs(n: int, width: int, height: int) -> list[Path]:
    """JPEG files of smooth noise, of about as many bytes as photographs."""
    import numpy as np
    from PIL import Image

    rng, paths = np.random.default_rng(0), [Path(f"{i}.jpg").resolve() for i in range(n)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def read_images(n: int) -> dict:
    """Images a second that one process reads at 380 px from JPEG files of 500 x 375 pixels."""
    import numpy as np

    from labelaug_core.files.images import ImageFiles

    images = ImageFiles(paths := photographs(n, 500, 375), 380)
    begin = time.process_time()
    for first in range(0, n, 32):
        images[np.arange(first, min(first + 32, n))]
    seconds = time.process_time() - begin
    kilobytes = sum(path.stat().st_size for path in paths) / n / 1e3
    return {"images": n, "kilobytes": round(kilobytes, 1), "images_per_second": round(n / seconds, 1)}


def loader(n: int, workers: int = 2, batch: int = 32) -> dict:
    """Images a second that the workers of one training process bring it at 380 px from JPEG files of 500 x 375 pixels.

    By the clock, from the second batch on; per second of the workers' own CPU time, which says what as many free cores
    would bring; and the share of the time in which the training process itself computes.
    """
    import numpy as np

    from labelaug_core.files.images import ImageFiles
    from labelaug_core.files.loading import Loader

    paths = photographs(min(n, 200), 500, 375)
    images = ImageFiles([paths[i % len(paths)] for i in range(n)], 380)
    steps = [(np.arange(first, first + batch),) for first in range(0, n - batch + 1, batch)]
    with Loader([images], steps, workers) as loaded:
        found = iter(loaded)
        next(found)
        wall, mine, seen = time.perf_counter(), time.process_time(), sum(len(x) for _, (x,) in found)
        wall, mine = time.perf_counter() - wall, time.process_time() - mine
    children = os.times()
    row = {"workers": workers, "images": seen, "images_per_second": round(seen / wall, 1)}
    own = workers * (seen + batch) / (children.children_user + children.children_system)
    return row | {"images_per_second_of_free_cores": round(own, 1), "training_process_share": round(mine / wall, 3)}


def encode_files(n: int, name: str) -> dict:
    """Images a second of `cached_features` from JPEG files of 128 x 128 pixels at 224 px, on all cores."""
    from labelaug_core.encoders import build_encoder
    from labelaug_core.files.cache import cached_features
    from labelaug_core.files.images import ImageFiles

    images = ImageFiles(photographs(n, 128, 128), 224, squash=128)
    encoder = build_encoder({"name": name, "pretrained": False})
    cached_features(encoder, ImageFiles(images.paths[:64], 224), "first")
    wall, cpu = time.perf_counter(), time.process_time()
    cached_features(encoder, images, "photographs")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"encoder": name, "images": n, "images_per_second": round(n / wall, 1), "cpu_seconds": round(cpu, 1)}


def encode(n: int, size: int, name: str) -> dict:
    """Images a second of `cached_features` and the most memory of its process."""
    import numpy as np
    import torch

    from labelaug_core.encoders import build_encoder
    from labelaug_core.files.cache import cached_features

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
