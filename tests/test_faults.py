"""Faults that happen: the batch killed at any moment, the disk full, several runs at once, NaN in a batch."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from companion import widgets
from companion.records import profiles, store
from companion.runs import run_seed
from companion.tables import engine, writing
from helpers import features_task
from PIL import Image
from test_batch import batch, copy, environment, seeds_of, shrink, table  # noqa: F401 (copy is a fixture)
from test_training import Drawings

from labelaug_core.encoders import SmallCNN
from labelaug_core.files.cache import cached_features
from labelaug_core.training import TrainingError

BOTH = {"critters__fine__ffn": [0, 1], "critters__fine__label-aug": [0, 1]}

# ---- killed ---------------------------------------------------------------------------------------------------


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL for the batch, its papermill runs and their kernels (which are in sessions of their own)."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)  # also what started since
    for p in below:
        try:
            p.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait()


def killed_after(folder: Path, seconds: float) -> str:
    """Start the batch and then its report; kill whatever runs after so many seconds. -> what was running."""
    end = time.time() + seconds
    for target in ("cells", "report"):
        process = batch(folder, target, wait=False)
        try:
            process.wait(max(0.0, end - time.time()))
        except subprocess.TimeoutExpired:
            kill_tree(process)
            return target
    return "nothing"


def assert_whole(folder: Path) -> None:
    """Every file that anyone reads is whole: a temporary name (hidden, or `.partial` in it) is nobody's business."""
    for path in [p for top in ("results", "figures") for p in (folder / top).rglob("*") if p.is_file()]:
        if path.name.startswith(".") or ".partial" in path.name:
            continue
        if path.suffix == ".json":
            record = store.read(path.parents[1], path.stem)
            assert record.seeds and not record.damaged
        elif path.suffix == ".ipynb":
            assert json.loads(path.read_text())["cells"], path
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n") and len(pd.read_csv(path)), path
        elif path.suffix == ".pdf":
            assert path.read_bytes().rstrip().endswith(b"%%EOF"), path


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_at_any_moment_and_resumed_is_uninterrupted(copy, tmp_path_factory, record_property, kills):  # noqa: F811
    shrink(copy)
    whole = tmp_path_factory.mktemp("whole") / "repo"
    shutil.copytree(copy, whole)

    def complete(folder):
        for target in ("cells", "report"):
            out, code = batch(folder, target)
            assert code == 0, out
        assert_whole(folder)
        return table(folder)

    start = time.time()
    expected, took = complete(whole), time.time() - start
    rng, hit, runs = random.Random(kills), [], copy / "results" / "toy" / "runs"
    while len(hit) < kills:
        what = killed_after(copy, rng.uniform(0.1, 0.5) * took)
        if what != "nothing":
            hit.append((what, sum(map(len, seeds_of(copy).values()))))
        assert_whole(copy)
        if what != "cells" and len(hit) < kills:  # all was recorded: from the start again
            shutil.rmtree(copy / "results" / "toy")
    for name in ("critters__fine__ffn.json", "critters__fine__ffn.npz"):  # as a run killed in a write
        runs.mkdir(parents=True, exist_ok=True)
        (runs / f".{name}.12ab34cd.partial").write_bytes(b"{")
    pd.testing.assert_frame_equal(complete(copy), expected)
    assert seeds_of(copy) == BOTH
    record_property("kills", len(hit))
    record_property("while", " ".join(f"{what}:{n}" for what, n in hit))


# ---- disk full ------------------------------------------------------------------------------------------------


@contextmanager
def full(folder: Path):
    """Not a byte more fits: the small tmpfs is filled up or, where there is none, no file of the process may grow."""
    if os.path.ismount(folder):
        with (folder / "ballast").open("wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        yield
        (folder / "ballast").unlink()
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def on_a_full_disk(folder: Path) -> None:
    """Run inside the small file system: each writer fails with one error that names its file, changes nothing that was
    there, leaves nothing behind, and works again when there is space."""
    profiles.OUT = folder
    figure, texts = plt.figure(), ("option", "decode", "role", "verdict", "paper_verdict")
    frame = pd.DataFrame([dict.fromkeys(engine.COLUMNS, 0) | dict.fromkeys(texts, "")])
    writers = {
        "cell": lambda v: store.add(folder, "cell", {}, 0, {"data": {"content_hash": v}}, {"y": np.full(9, v)}),
        "table3": lambda v: writing.write_table(frame.assign(mean=v), "toy", 3),
        "figure1": lambda v: (figure.suptitle(str(v)), writing.write_figure(figure, "toy", "figure1")),
        "ratings.csv": lambda v: widgets.write_rating(folder / "ratings.csv", dict.fromkeys(widgets.COLUMNS, str(v))),
    }
    for name, write in writers.items():
        write(1)
        files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        mine = [p for p in files if name in p.name]
        with full(folder):
            try:
                write(2)
            except OSError as error:
                assert error.errno in (errno.ENOSPC, errno.EFBIG) and name in str(error), error
            else:
                raise AssertionError(f"{name} was written where nothing fits")
            left = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "ballast"}
            assert left == files, left.keys() ^ files.keys()
        write(3)
        assert mine and all(p.read_bytes() != files[p] for p in mine), name
        assert not list(folder.rglob("*.partial"))


def features_on_a_full_disk(folder: Path) -> None:
    """Features that do not fit are one error that names their file, others are left alone; with space they are kept."""
    (folder / "cache").mkdir()
    os.environ["LABELAUG_CACHE"] = str(cache := folder / "cache")
    torch.manual_seed(0)
    encoder, images = SmallCNN(4), Drawings(3_000, 8)
    cached_features(encoder, images, "first", batch=500)
    kept = {p: p.read_bytes() for p in cache.iterdir()}
    with full(folder):
        try:
            cached_features(encoder, images, "second", batch=500)
        except OSError as error:
            assert error.errno in (errno.ENOSPC, errno.EFBIG) and str(cache / "features-") in str(error), error
        else:
            raise AssertionError("features were written where nothing fits")
        assert {p: p.read_bytes() for p in cache.iterdir()} == kept
    assert len(cached_features(encoder, images, "second", batch=500)) == 3_000


def test_a_full_disk_is_one_error_that_changes_nothing(tmp_path):
    code = "import sys, pathlib, test_faults as t; p = pathlib.Path(sys.argv[1]); t.on_a_full_disk(p)"
    command = [sys.executable, "-c", f"{code}; t.features_on_a_full_disk(p)", str(tmp_path)]
    if shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0:
        mount = 'mount -t tmpfs -o size=1m tmpfs "$4" && exec "$@"'  # a file system that this process alone sees
        command = ["unshare", "-rm", "sh", "-c", mount, "sh", *command]
    paths = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- several runs, several threads, numbers that are none ------------------------------------------------------


def test_several_runs_into_one_folder_lose_nothing(copy):  # noqa: F811
    """Two of them train the very same seeds, two others seeds of one cell."""
    shrink(copy)
    todo = [("ffn", [0, 1]), ("ffn", [0, 1]), ("label-aug", [0]), ("label-aug", "1")]
    command = ["papermill", "--no-progress-bar", "notebooks/20_train_cell.ipynb"]
    runs = [
        subprocess.Popen(
            [*command, f"out{i}.ipynb", "-y", json.dumps({"method": method, "seeds": seeds})],
            cwd=copy,
            env=environment(copy),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i, (method, seeds) in enumerate(todo)
    ]
    for run in runs:
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    folder = copy / "results" / "toy" / "runs"
    assert {p.name for p in folder.iterdir()} == {".lock"} | {f"{n}.{kind}" for n in BOTH for kind in ("json", "npz")}
    assert seeds_of(copy) == BOTH
    assert_whole(copy)


def test_a_run_needs_no_home_no_git_and_no_module_resource(copy, tmp_path_factory):  # noqa: F811
    """Containers, clusters, Windows. The seeds are typed as people type them."""
    shrink(copy)
    place = tmp_path_factory.mktemp("bare")
    (place / "home").touch()  # a file: nobody can make a folder in it
    (place / "sitecustomize.py").write_text("import sys\nsys.modules['resource'] = None\n")
    given = environment(copy) | {"HOME": str(place / "home"), "PATH": str(Path(sys.executable).parent)}
    given = {k: v for k, v in given.items() if k not in ("LABELAUG_CACHE", "XDG_CACHE_HOME")}
    given |= {"PYTHONPATH": f"{place}:{given['PYTHONPATH']}", "TMPDIR": str(place)}
    command = ["papermill", "--no-progress-bar", "notebooks/20_train_cell.ipynb", "out.ipynb", "-p", "seeds", "[0,1]"]
    done = subprocess.run(command, cwd=copy, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = store.read(copy / "results" / "toy", "critters__fine__ffn")
    assert record.seeds == [0, 1] and not record.damaged
    assert record.runs[0]["peak_memory_mb"] is None and record.runs[0]["git_commit"] == "unknown"
    assert list(place.glob("labelaug-*/critters-*.npy")), "the cache is in the temporary folder"


THREADS = """
import sys, torch, test_training as t
settings = t.small("ffn")
settings["training"] |= {"steps": 100, "eval_every": 20, "trunk": 64}
settings["data"] |= {"n_fine": 25, "n_test": 40}
torch.set_num_threads(int(sys.argv[1]))
record, _, _ = t.run_seed(settings, t.load_task(settings), 0)
print(record["device"], "|", record["test"]["accuracy"])
"""


def test_the_number_of_threads_moves_the_accuracy_by_less_than_three_points(tmp_path):
    """Sums in another order are other sums: of 560 test images, at most 16 (two standard errors would be 22) change
    sides. Batches use one thread, so that the same seed gives the same record."""
    paths = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": paths, "LABELAUG_CACHE": str(tmp_path), "OMP_WAIT_POLICY": "passive"}
    found = []
    for threads in (1, 2):
        command = [sys.executable, "-c", THREADS, str(threads)]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert f"{threads} threads" in out or "cpu" not in out
        found.append(float(out.split("|")[1]))
    assert abs(found[0] - found[1]) < 0.03 and found[0] > 0.2  # and something was learned


@pytest.mark.parametrize("method", ["ffn", "label-set", "label-aug", "label-aug-expected"])
def test_nan_in_a_batch_stops_the_run_names_the_batch_and_keeps_the_last_record(tmp_path, method):
    settings = json.loads(json.dumps(profiles.cell_settings("cpu", "pet", "fine", method)))
    settings["training"] |= {"steps": 8, "eval_every": 4, "batch": 16}
    task = features_task(80).fine_only()
    spoilt = replace(task, train=replace(task.train, inputs=task.train.inputs.copy()))
    spoilt.train.inputs[::7] = np.nan
    name = f"pet__fine__{method}"
    store.add(tmp_path, name, settings, 0, *run_seed(settings, task, 0)[:2])  # as notebook 20 does
    files = {p: p.read_bytes() for p in (tmp_path / "runs").iterdir()}
    with pytest.raises(TrainingError, match=r"step 1: an input is not a finite number in image \d+"):
        store.add(tmp_path, name, settings, 1, *run_seed(settings, spoilt, 1)[:2])
    assert {p: p.read_bytes() for p in (tmp_path / "runs").iterdir()} == files
    assert store.missing_seeds(tmp_path, name, settings, [0, 1], task.content_hash) == [1]
