"""What a join can give, asked of the fine data alone."""

from dataclasses import replace

import numpy as np
import pytest
from companion.expect import expect, told
from companion.records.profiles import cell_settings
from companion.runs import load_task
from helpers import build

from labelaug_core.data import Split, Task


def task_of(coarse: list[str]) -> Task:
    """Four breeds and images known by the labels `coarse`."""
    graph = build()
    fine = ["Brit", "Coon", "Pug"]
    labels = fine + sorted(set(coarse) - set(fine))
    split = Split(np.zeros((3, 2), np.float32), np.arange(3), list("abc"))
    y = np.array([labels.index(v) for v in coarse])
    known = Split(np.zeros((len(coarse), 2), np.float32), y, [str(i) for i in range(len(coarse))])
    return Task(graph, labels, len(fine), split, split, known)


def test_a_true_answer_leaves_the_labels_below_it():
    """Pug is taken for a cat: whoever knows the species is right. Brit is taken for Coon: the species does not help,
    the hair does."""
    log_probs = np.log([[0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.5, 0.1, 0.4]])
    y = np.array([0, 1, 2])
    assert told(task_of(["cat", "dog"]), log_probs, y) == {"species": pytest.approx(200 / 3)}
    assert told(task_of(["Short", "Long"]), log_probs, y) == {"hair": pytest.approx(200 / 3)}
    assert told(task_of(["cat", "dog", "Short", "Long"]), log_probs, y)["hair"] == pytest.approx(200 / 3)


def test_a_label_that_answers_in_several_ways_keeps_all_of_them():
    """Brit may be Solid or Tabby, so the colour does not tell it from Coon, which is Tabby."""
    log_probs = np.log([[0.3, 0.6, 0.1]])
    assert told(task_of(["Solid", "Tabby"]), log_probs, np.array([0])) == {"color": 0.0}


def test_the_expectation_of_the_toy():
    settings = cell_settings("toy", "critters", "fusion", "ffn")
    settings["training"] |= {"steps": 40, "eval_every": 40}
    task = load_task(settings)
    found = expect(settings, task, seeds=(0,))
    assert 0 < found.accuracy <= found.given["species"] and found.headroom == found.given["species"] - found.accuracy
    assert found.coarse == len(task.coarse) and found.shared == 0 and "species" in str(found)
    fewer = expect(settings, replace(task, coarse=task.coarse.take(np.arange(4))), seeds=(0,))
    assert fewer.accuracy == found.accuracy  # the coarse images are not looked at
