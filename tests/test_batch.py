"""The batch as a user runs it, on a copy of the repository: killed and resumed, repeated, with a failing cell."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

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
    for part in ("ablations", "primary", "tuning"):
        del group[part]
    profile["groups"] = {"critters": group}
    group["methods"] |= changes
    (copy / "notebooks" / "profiles" / "toy.yaml").write_text(yaml.safe_dump(profile))


def batch(copy: Path, *targets: str, wait: bool = True):
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "LABELAUG_CACHE": str(copy / "cache"),
        "XDG_CACHE_HOME": str(copy / "xdg"),
    }
    environment.pop("LABELAUG_OUT", None)
    command = [
        "snakemake",
        "--cores",
        "2",
        "--nolock",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "--keep-going",
        "--config",
        "profile=toy",
        "--",
        *targets,
    ]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return (process.communicate(timeout=300)[0], process.returncode) if wait else process


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
    assert 1 <= len(list(runs.glob("[!.]*.json"))) < 4
    for folder in (copy, whole):
        out, code = batch(folder, "cells")
        assert code == 0, out
        out, code = batch(folder, "report")
        assert code == 0, out
    assert len(list(runs.glob("[!.]*.json"))) == 4 and not list(runs.glob("*.partial"))
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
    assert len(list((copy / "results" / "toy" / "runs").glob("critters__fine__ffn__seed*.json"))) == 2
    kept = (copy / "results" / "toy" / "cells" / "critters__fine__label-aug.ipynb").read_text()
    assert "TrainingError" in kept and "the loss is" in kept
    out, code = batch(copy, "report")
    assert code == 0, out
    verdicts = table(copy).set_index("method")["verdict"]
    assert verdicts["label-aug"] == "not run: no record" and verdicts["ffn"] == "the reference"


def test_a_misspelt_parameter_is_an_error(copy):
    command = [
        str(Path(sys.executable).parent / "papermill"),
        "notebooks/20_train_cell.ipynb",
        "out.ipynb",
        "-p",
        "metod",
        "ffn",
    ]
    done = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True)
    assert done.returncode != 0 and "unknown parameter 'metod'" in done.stderr
