"""The batch as a user runs it, on a copy of the repository: killed and resumed, repeated, with a failing cell."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from companion.records import profiles, store
from companion.runs import load_task, run_seed

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path):
    """The repository with a toy profile of two small cells, two seeds each."""
    for name in ("labelaug_core", "notebooks", "Snakefile"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "expected.csv", tmp_path / "results")
    return tmp_path


def shrink(copy: Path, **changes) -> None:
    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "toy.yaml").read_text())
    group = profile["groups"]["critters"]
    profile |= {"seeds": 2, "reports": {"22_table3": ["results/toy/table3.csv"]}}
    profile["training"] |= {"steps": 10, "eval_every": 5}
    group["data"] |= {"n_fine": 5, "n_test": 4, "n_coarse": 3}
    group["cells"] = [{"datasets": ["fine"], "methods": ["ffn", "label-aug"]}]
    for part in ("ablations", "beyond", "primary", "tuning"):
        group.pop(part, None)
    profile["groups"] = {"critters": group}
    group["methods"] |= changes
    (copy / "notebooks" / "profiles" / "toy.yaml").write_text(yaml.safe_dump(profile))


def environment(copy: Path) -> dict[str, str]:
    """In which the copy is run: its own packages, caches and results."""
    given = os.environ | {
        "PYTHONPATH": f"{copy}:{copy / 'notebooks'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LABELAUG_CACHE": str(copy / "cache"),
        "XDG_CACHE_HOME": str(copy / "xdg"),
    }
    given.pop("LABELAUG_OUT", None)
    return given


def batch(copy: Path, *targets: str, wait: bool = True, **config):
    """Snakemake on the copy. -> (its output, exit status); wait=False: the process."""
    command = "snakemake --cores 2 --nolock --rerun-incomplete --rerun-triggers mtime --keep-going --config".split()
    settings = [f"{k}={v}" for k, v in {"profile": "toy", **config}.items()]
    process = subprocess.Popen(
        [*command, *settings, "--", *targets],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return (process.communicate(timeout=300)[0], process.returncode) if wait else process


def seeds_of(copy: Path) -> dict[str, list[int]]:
    """The recorded seeds of every cell of the copy."""
    results = copy / "results" / "toy"
    return {p.stem: store.read(results, p.stem).seeds for p in sorted((results / "runs").glob("[!.]*.json"))}


def table(copy: Path) -> pd.DataFrame:
    return pd.read_csv(copy / "results" / "toy" / "table3.csv")


def test_killed_and_resumed_is_uninterrupted_and_a_second_call_does_nothing(copy, tmp_path_factory):
    shrink(copy)
    whole = tmp_path_factory.mktemp("whole") / "repo"
    shutil.copytree(copy, whole)
    killed = batch(copy, "cells", wait=False)
    runs = copy / "results" / "toy" / "runs"
    deadline = time.time() + 200
    while not list(runs.glob("[!.]*.json")) and time.time() < deadline:
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 1 <= sum(map(len, seeds_of(copy).values())) < 4
    for folder in (copy, whole):
        out, code = batch(folder, "cells")
        assert code == 0, out
        out, code = batch(folder, "report")
        assert code == 0, out
    assert seeds_of(copy) == {"critters__fine__ffn": [0, 1], "critters__fine__label-aug": [0, 1]}
    assert not list(runs.glob("*.partial"))
    pd.testing.assert_frame_equal(table(copy), table(whole))
    before = {p: p.stat().st_mtime_ns for p in runs.iterdir()}
    for target in ("cells", "report"):
        out, code = batch(copy, target)
        assert code == 0 and "nothing to be done" in out.lower(), out
    assert before == {p: p.stat().st_mtime_ns for p in runs.iterdir()}


def test_a_failing_cell_does_not_stop_the_others_and_keeps_its_notebook(copy):
    shrink(copy, **{"label-aug": {"lr": 1e30}})
    out, code = batch(copy, "cells")
    assert code != 0
    assert seeds_of(copy) == {"critters__fine__ffn": [0, 1]}
    kept = (copy / "results" / "toy" / "cells" / "critters__fine__label-aug.ipynb").read_text()
    assert "TrainingError" in kept and "the loss is" in kept
    out, code = batch(copy, "report")
    assert code == 0, out
    verdicts = table(copy).set_index("method")["verdict"]
    assert verdicts["label-aug"] == "not run: no record" and verdicts["ffn"] == "the reference"


def test_a_misspelt_parameter_is_an_error(copy):
    command = "papermill notebooks/20_train_cell.ipynb out.ipynb -p metod ffn".split()
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
    assert done.returncode != 0 and "unknown parameter 'metod'" in done.stderr


def test_cells_are_verified_by_training_them_again(copy):
    """As `make verify` does. A changed prediction is found; so is a number of another model."""
    shrink(copy)
    assert batch(copy, "cells")[1] == 0

    def again(name: str) -> tuple[str, int]:
        out, code = batch(copy, "cells", part="verify", cells=1 if name == "one" else 0, out=copy / name)
        assert code == 0, out
        command = [sys.executable, "-m", "companion.records.verify", "toy", str(copy / name)]
        done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
        return done.stdout + done.stderr, done.returncode

    assert again("one") == ("1 cells trained again: 1 the same bits\n", 0)
    assert again("all") == ("2 cells trained again: 2 the same bits\n", 0)
    results, name = copy / "results" / "toy", "critters__fine__ffn"
    record = store.read(results, name)
    other = record.of(0) | {"exact": record.predictions["y"]}  # all right: no model of ten steps is
    store.add(results, name, record.settings, 0, record.runs[0], other)
    said, code = again("all")
    assert code == 1 and "1 the same bits, 1 different" in said and f"{name}: different" in said


CELLS = [  # one of each kind of head and control
    {},
    {"method": "label-aug"},
    {"dataset": "fusion", "method": "hex"},
    {"dataset": "fusion", "method": "hiclass"},
    {"method": "estimator-leave-one-out"},
    {"dataset": "fusion-share0.75", "method": "label-aug-question", "option": "graph=random-tree"},
    {"group": "notes", "dataset": "fusion", "method": "label-aug"},
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(cell.values()) or "ffn")
def test_every_kind_of_cell_is_trained_and_recorded(tmp_path, cell):
    settings = profiles.cell_settings("toy", **{"group": "critters", "dataset": "fine", "method": "ffn"} | cell)
    settings["training"] |= {"steps": 6, "eval_every": 3}
    settings["data"] |= {"n_fine": 60, "n_coarse": 60, "n_test": 40} if "group" in cell else {"n_fine": 6, "n_test": 4}
    task, name = load_task(settings), "cell"
    for seed in (1, 0):
        run, predictions, model = run_seed(settings, task, seed)
        store.add(tmp_path, name, settings, seed, run, predictions)
        assert run["validation"] in run["history"] and run["data"]["content_hash"] == task.content_hash
        again = run_seed(settings, task, seed)[1]
        assert all(np.array_equal(again[k], v) for k, v in predictions.items())  # the same bits
    record = store.read(tmp_path, name)
    assert record.seeds == [0, 1] and not record.damaged
    assert store.missing_seeds(tmp_path, name, settings, [0, 1, 2], task.content_hash) == [2]
