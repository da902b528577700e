"""At scale: a batch through SLURM (stand-ins for its commands run the jobs here), two processes, GPUs, trials."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from companion.records import hours, profiles, store
from companion.runs import check_settings, gpus
from helpers import classifier, features_task
from test_batch import copy, environment, seeds_of, shrink  # noqa: F401  copy is a fixture
from test_training import HEADS, SETTINGS, train

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PROFILE = ["snakemake", "--profile", "notebooks/profiles/slurm"]
EXACT = ("ffn", "label-set", "expected-reward", "marginal", "question")  # Algorithm 1 samples paths: other draws


def curves() -> dict[str, dict]:
    """Every head's loss and validation -log p after each step, and how many samples a step this process saw."""
    found = {}
    for name in EXACT:
        task, seen = features_task(), set()
        task = task if name != "ffn" else task.fine_only()
        model = classifier(task, HEADS[name](task))
        forward = model.forward
        model.forward = lambda *parts, forward=forward, seen=seen: seen.add(len(parts[0])) or forward(*parts)
        _, history = train(model, task, task.train, replace(SETTINGS, eval_every=1, weight_decay=0.01), 0)
        found[name] = {k: [row[k] for row in history] for k in ("loss", "val_nll")} | {"seen": list(seen)}
    return found


def test_two_processes_give_the_loss_curve_of_one_at_the_same_global_batch(tmp_path):
    """No dropout, no batch norm, no sampling, so that equality can be asked for."""
    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys, pytest, test_scale as t\n"
        "from accelerate import PartialState\n"
        "found = t.curves()\n"
        "with pytest.raises(ValueError, match='15 samples cannot be shared by 2 processes'):\n"
        "    task = t.features_task()\n"
        "    model, odd = t.classifier(task, t.HEADS['marginal'](task)), t.replace(t.SETTINGS, batch=15)\n"
        "    t.train(model, task, task.train, odd, 0)\n"
        "json.dump(found, open(f'{sys.argv[1]}/{PartialState().process_index}.json', 'w'))\n"
    )
    command = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [sys.executable, *command.split(), "--dynamo_backend", "no", "--main_process_port", "0"]
    paths = os.pathsep.join([str(TESTS), *sys.path[1:]])
    environment = os.environ | {"PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launched = subprocess.run([*command, script, tmp_path], env=environment, capture_output=True, text=True)
    assert launched.returncode == 0, launched.stderr
    one, two = curves(), [json.loads(file.read_text()) for file in sorted(tmp_path.glob("[0-9].json"))]
    assert len(two) == 2
    for name in EXACT:
        assert one[name]["seen"] == [16] and [process[name]["seen"] for process in two] == [[8], [8]]
        for process in two:  # one model and one history, in both processes
            for key in ("loss", "val_nll"):
                np.testing.assert_allclose(process[name][key], one[name][key], atol=1e-4, rtol=0, err_msg=name)


def test_two_processes_of_one_notebook_leave_the_record_of_one(copy):  # noqa: F811
    """As papermill runs it, on the CPU; no dropout, no sampling, as above."""
    shrink(copy, ffn={"dropout": 0.0})
    found = []
    for processes in (1, 2):
        given = {"processes": processes, "seeds": [0, 1], "results_folder": str(copy / str(processes))}
        command = ["papermill", "--no-progress-bar", "notebooks/20_train_cell.ipynb", f"{processes}.ipynb"]
        command += ["-y", json.dumps(given)]
        done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (copy / f"{processes}.ipynb").read_text().count("seed 1: validation") == 1  # the first process speaks
        found.append(store.read(copy / str(processes), "critters__fine__ffn"))
    one, two = found
    assert one.settings == two.settings and one.seeds == two.seeds == [0, 1]
    for seed in one.seeds:
        assert two.runs[seed]["device"] == f"2 x {one.runs[seed]['device']}"
        for a, b in zip(one.runs[seed]["history"], two.runs[seed]["history"], strict=True):
            assert a == pytest.approx(b, abs=1e-4)
        assert one.runs[seed]["test"] == pytest.approx(two.runs[seed]["test"], abs=1e-4)
        np.testing.assert_array_equal(one.of(seed)["exact"], two.of(seed)["exact"])


def test_an_error_of_one_process_ends_the_notebook_and_is_shown(copy):  # noqa: F811
    shrink(copy, ffn={"lr": 1e30})
    command = ["papermill", "--no-progress-bar", "notebooks/20_train_cell.ipynb", "out.ipynb", "-p", "processes", "2"]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
    assert done.returncode != 0 and "TrainingError: step" in done.stderr
    assert not seeds_of(copy)


def test_a_cell_is_trained_on_the_gpus_that_its_profile_asks_for_and_that_are_there(monkeypatch):
    settings = profiles.cell_settings("paper", "pet", "fine", "ffn")
    asked, there = profiles.load_profile("paper"), 4
    monkeypatch.setattr("torch.cuda.device_count", lambda: there)
    assert asked["gpu"] == 1 and gpus("paper", settings) == 1
    monkeypatch.setitem(asked, "gpu", 2)
    assert gpus("paper", settings) == 2
    assert gpus("paper", settings | {"encoder": settings["encoder"] | {"tune": "frozen"}}) == 1  # no use for two
    assert gpus("paper", settings | {"training": settings["training"] | {"cpu": True}}) == 1
    there = 0
    assert gpus("paper", settings) == gpus("cpu", settings) == 1


SBATCH = r"""#!/bin/bash
# A cluster of one machine: the job runs at once, and its end is known when it has been sent.
printf '%s\n' "$*" >> "$SLURM_STAND_IN/sent"
while [ $# -gt 0 ]; do case $1 in -D) folder=$2;; --output) log=$2;; esac; shift; done
cd "$folder" && SLURM_JOB_ID=$$ sh /dev/stdin > "${log//%j/$$}" 2>&1 && state=COMPLETED || state=FAILED
echo "$$|$state" >> "$SLURM_STAND_IN/jobs"
echo $$
"""
COMMANDS = {
    "sbatch": SBATCH,
    "srun": '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done; exec "$@"\n',  # a step: the same machine
    "sacct": '#!/bin/bash\n[[ "$*" == *--name* ]] && cat "$SLURM_STAND_IN/jobs"; true\n',
    "sinfo": "#!/bin/bash\necho 'PARTITION\nsmall*'\n",
}


@pytest.fixture
def cluster(tmp_path_factory):
    """Stand-ins for SLURM's commands; the environment that finds them, and the folder where they note their calls."""
    folder = tmp_path_factory.mktemp("slurm")
    for name, script in COMMANDS.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (folder / "jobs").touch()
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    given = os.environ | {"PATH": path, "SLURM_STAND_IN": str(folder), "XDG_CACHE_HOME": str(folder / "xdg")}
    given.pop("LABELAUG_OUT", None)
    return given, folder


@pytest.mark.parametrize("profile", ["toy", "cpu", "paper"])
def test_the_slurm_profile_plans_every_cell(cluster, profile):
    """With nothing recorded every cell is a job; only the profile of the GPU asks for one."""
    given, folder = cluster
    given |= {"PYTHONPATH": f"{folder}:{folder / 'notebooks'}"}
    for name in ("labelaug_core", "notebooks", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    command = [*PROFILE, "cells", "--config", f"profile={profile}", "--dry-run"]
    plan = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    text = plan.stdout + plan.stderr
    cells = int(re.search(r"0 of (\d+) cells are recorded", text)[1])
    assert cells > 40 and re.search(rf"train_cell +{cells}\n", text)
    wanted = [line for line in text.splitlines() if "resources:" in line and "gpu=" in line]
    asked = "mem_mb=4000", "runtime=120", "cpus_per_task=1", f"gpu={int(profile == 'paper')}"
    assert len(wanted) == cells and all(a in line for line in wanted for a in asked)


def test_a_batch_through_slurm_leaves_its_records_and_finds_nothing_to_do_again(cluster, copy):  # noqa: F811
    given, stand_in = cluster
    shrink(copy)
    given |= {k: environment(copy)[k] for k in ("PYTHONPATH", "LABELAUG_CACHE")}
    command = [*PROFILE, "--slurm-init-seconds-before-status-checks", "1", "--config", "profile=toy", "--"]

    def batch() -> str:
        run = subprocess.run([*command, "cells"], cwd=copy, env=given, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    batch()
    assert seeds_of(copy) == {"critters__fine__ffn": [0, 1], "critters__fine__label-aug": [0, 1]}
    sent = (stand_in / "sent").read_text().splitlines()
    assert len(sent) == 2 and all("--mem 4000 " in call and " -t 120 " in call for call in sent)
    assert "2 of 2 cells are recorded, nothing to be done" in batch()


def test_a_job_leaves_the_marks_of_other_jobs_alone(copy):  # noqa: F811
    """Each job reads the Snakefile again, maybe between another cell's last record and its mark `.done`."""
    shrink(copy)
    mark = copy / "results" / "toy" / "cells" / "critters__fine__ffn.done"
    mark.parent.mkdir(parents=True)
    for mode, kept in (("remote", True), ("default", False)):
        mark.touch()
        command = [Path(sys.executable).parent / "snakemake", "--mode", mode, "--nolock", "--cores", "1", "--dry-run"]
        subprocess.run([*command, "cells"], cwd=copy, env=environment(copy), check=True, capture_output=True)
        assert mark.exists() == kept


# -- the rehearsal of a large profile ------


def test_a_trial_has_every_cell_of_its_profile_and_is_small():
    trial = profiles.load_profile("paper-rehearsal")
    assert trial["groups"].keys() == profiles.load_profile("paper")["groups"].keys()
    for part in ("cells", "ablations"):
        cells = profiles.cells("paper-rehearsal", part=part)
        assert cells == profiles.cells("paper", part=part)
        for cell in cells:
            settings = profiles.cell_settings("paper-rehearsal", **cell)
            check_settings(settings)
            assert settings["training"]["steps"] == 2 and settings["training"]["cpu"]
            assert settings["encoder"]["name"] == "lstm" or settings["encoder"]["pretrained"] is False
            full = profiles.cell_settings("paper", **cell)
            check_settings(full)
            assert full["training"]["steps"] == 6000 and "few" not in full["data"]
    with pytest.raises(profiles.RecordError, match=r"paper.yaml has no trial 'holiday' \(known: rehearsal, timing\)"):
        profiles.load_profile("paper-holiday")


def test_hours_are_steps_times_seconds_times_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "OUT", tmp_path)
    cells = profiles.cells("paper", "pet")
    for cell, seconds in zip(cells, (0.5, 1.5), strict=False):
        settings = profiles.cell_settings("paper-timing", **cell)
        run = {"seconds_a_step": {"data": 0.1, "all": seconds}, "device": "a GPU", "data": {"content_hash": ""}}
        name = profiles.cell_name(**cell)
        store.add(tmp_path / "results/paper-timing", name, settings, 0, run, {"y": np.zeros(2)})
    (row,) = hours.hours("paper", "paper-timing")
    assert (row["group"], row["ran"], row["step"], row["data"]) == ("pet", 2, 1.0, pytest.approx(0.1))
    assert row["hours"] == len(cells) * 6000 * 6 * 1.0 / 3600
    text = hours.lines("paper", "paper-timing")
    assert text[1].endswith(f"{row['hours']:.1f}") and "on a GPU" in text[-1]


@pytest.mark.parametrize("each", [1, 2])
def test_each_cell_takes_gpus_that_no_other_cell_holds(tmp_path, each):
    """The lines of the Snakefile, with a stand-in for nvidia-smi that knows two GPUs a cell."""
    names = [str(gpu) for gpu in range(2 * each)]
    low, high = ",".join(names[:each]), ",".join(names[each:])
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/bash\necho {' '.join(names)} | tr ' ' '\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    text = (ROOT / "Snakefile").read_text()
    found = {"SPEC": {"gpu": each}, "shutil": shutil, "__builtins__": {}}
    begin = text.index("GPU = (")
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", given["PATH"])
        exec(text[begin : text.index("\nRUN =", begin)], found)
    take = "set -euo pipefail; " + found["GPU"].format() + 'echo "$CUDA_VISIBLE_DEVICES"; '

    def cell(wait: str, **more) -> subprocess.Popen:
        return subprocess.Popen(["bash", "-c", take + wait], env=given | more, stdout=subprocess.PIPE, text=True)

    first = cell("exec sleep 60")  # holds it until it ends, as papermill does
    assert first.stdout.readline() == f"{low}\n"
    second = cell("exec sleep 60")
    assert second.stdout.readline() == f"{high}\n"
    assert cell("", CUDA_VISIBLE_DEVICES=high).communicate()[0] == f"{high}\n"  # a cluster's choice is kept
    first.kill()
    first.wait()
    assert cell("").communicate()[0] == f"{low}\n"
    second.kill()
    second.wait()
