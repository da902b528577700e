"""At scale: a batch through SLURM (stand-ins for its commands run the jobs here), and training on two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from test_training import HEADS, SETTINGS, classifier, features_task, train

TESTS = Path(__file__).parent
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
        _, history = train(model, task, task.train, SETTINGS | {"eval_every": 1, "weight_decay": 0.01}, 0)
        found[name] = {k: [row[k] for row in history] for k in ("loss", "val_nll")} | {"seen": list(seen)}
    return found


def test_two_processes_give_the_loss_curve_of_one_at_the_same_global_batch(tmp_path):
    """No dropout, no batch norm, no sampling, so that equality can be asked for. A loss is the mean over processes."""
    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys, test_scale\n"
        "from accelerate import PartialState\n"
        "found = test_scale.curves()\n"
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
        mean = np.mean([process[name]["loss"] for process in two], axis=0)
        np.testing.assert_allclose(mean, one[name]["loss"], atol=1e-4, rtol=0, err_msg=name)
        for process in two:  # one model, in both processes
            np.testing.assert_allclose(process[name]["val_nll"], one[name]["val_nll"], atol=1e-4, rtol=0)
