"""The benchmarks run, at sizes too small to mean anything; a wrong contestant stops them."""

import json
import platform

import bench
import bench_core
import bench_process
import pytest
import race
import torch

from labelaug_core.label_aug import OBJECTIVES


def test_block_softmax_runs_and_is_written(tmp_path):
    race.write(tmp_path, "block_softmax", bench_core.block_softmax((12, 60), rounds=1, batch=2), race.machine())
    text = (tmp_path / "block_softmax.json").read_text()
    found = json.loads(text)
    assert found["machine"]["cpu"] and platform.node() not in text and "/" not in text
    names = {"block_log_softmax", "loop over blocks", "dense mask", "hierarchicalsoftmax"}
    assert {r["contestant"] for r in found["rows"]} == names
    assert all(r["ms"] > 0 and r["ratio"] > 0 for r in found["rows"])


def test_decoder_runs():
    rows = bench_core.decoder(("critters",), rounds=1, batch=2, d=4, hidden=4)
    steps = [r for r in rows if r["what"] == "training step"]
    assert [r["contestant"] for r in steps] == ["FFN", *OBJECTIVES]
    assert {r["what"] for r in rows} == {"training step", "operations", "evaluation", "shared tree"}
    assert all(r["ratio"] == 1 for r in rows if r["contestant"] == "FFN")
    assert all(r["matrix_ms"] > 0 and r["other_ms"] > 0 for r in rows if r["what"] == "operations")


def test_growth_runs():
    rows = bench_core.growth((2,), (5,), (2,), rounds=1, batch=2, d=4, hidden=4)
    assert [r["growing"] for r in rows[::3]] == ["batch", "nodes", "paths"]


@pytest.mark.parametrize("shape", ["even", "large", "skewed"])
@pytest.mark.parametrize("n", [50, 1_400, 10_000])
def test_block_sizes_add_up(n, shape):
    sizes = bench_core.block_sizes(n, shape)
    assert len(sizes) == sizes[0] + 1 and min(sizes) >= 2 and abs(sum(sizes) - n) <= 0.06 * n


def test_unequal_results_are_not_timed():
    with pytest.raises(AssertionError, match="wrong one"):
        race.assert_same({"a": (torch.zeros(2),), "wrong one": (torch.ones(2),)})


def test_large_graphs_run():
    rows = bench_core.large((100,), rounds=1, batch=2, d=4, hidden=4)
    found = [r["contestant"] for r in rows]
    assert found == ["FFN", "greedy", "beam of 8", "greedy, prefix tree", "FFN", "sampled paths"]
    assert all(r["nodes"] == 111 and r["paths"] == 200 and r["adjacency_mb"] < 0.1 for r in rows)


def test_another_greedy_path_is_not_timed(monkeypatch):
    wrong = lambda decoder, f, edges: (torch.zeros(len(f), dtype=torch.long), None)  # noqa: E731
    monkeypatch.setattr(bench_core, "greedy_on_edges", wrong)
    with pytest.raises(AssertionError, match="greedy"):
        bench_core.large((100,), rounds=1, batch=16, d=4, hidden=4)


def test_whole_step_runs():
    rows = bench_core.whole_step((("tf_efficientnet_lite0", 32, 2),), rounds=1, hidden=4)
    assert [r["contestant"] for r in rows] == ["FFN", "question", "algorithm-1"] and rows[0]["ratio"] == 1


@pytest.mark.parametrize(
    ("measurement", "arguments", "column"),
    [
        ("import_core", (), "cpu_seconds"),
        ("kernel", (), "cpu_seconds"),
        ("read_images", (2,), "images_per_second"),
        ("loader", (8, 1, 2), "images_per_second"),
        ("encode_files", (4, "tf_efficientnet_lite0"), "images_per_second"),
        ("encode", (2, 32, "small-cnn"), "peak_mb"),
    ],
)
def test_a_process_of_its_own_gives_a_row(measurement, arguments, column):
    row = bench_process.alone(measurement, *arguments)
    assert row["what"] == measurement and row[column] > 0


def test_bars_name_what_is_met_missed_and_not_run(tmp_path):
    shapes = [{"what": "loss of a leaf", "contestant": "hierarchicalsoftmax", "nodes": 50, "ratio": r} for r in (11, 9)]
    step = {"what": "training step", "graph": "pet", "contestant": "algorithm-1", "ratio": 2.5}
    race.write(tmp_path, "block_softmax", shapes, {})
    race.write(tmp_path, "decoder", [step], {})
    found = {row["bar"]: row for row in bench.bars(tmp_path)}
    missed = found["hierarchicalsoftmax / block softmax, 50 nodes"]
    assert (missed["limit"], missed["measured"], missed["met"]) == ("at least 10", 9, False)  # the worst shape counts
    assert found["training step on pets, algorithm-1 / FFN"]["met"] is True
    assert found["import labelaug_core, seconds"]["met"] is None
