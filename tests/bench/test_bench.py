"""The benchmarks run, at sizes too small to mean anything; a wrong contestant stops them."""

import json
import platform

import bench
import bench_encoding
import bench_scale
import pytest
import torch


def test_block_softmax_bench_runs(tmp_path):
    bench.write(tmp_path, "block_softmax", bench.block_softmax, (12, 60), rounds=1, batch=2)
    text = (tmp_path / "block_softmax.json").read_text()
    found = json.loads(text)
    assert found["machine"]["cpu"] and platform.node() not in text and "/" not in text
    assert {r["contestant"] for r in found["rows"]} >= {"block_log_softmax", "loop over groups", "dense mask"}
    assert all(r["ms"] > 0 and r["ratio"] > 0 for r in found["rows"])


def test_decoder_bench_runs():
    grow = {"batch": (2,), "labels": (5,), "questions": (2,)}
    rows = bench.decoder(("critters",), grow, rounds=1, batch=2, d=4, hidden=4)
    assert {r["what"] for r in rows} == {
        "training step", "evaluation of a batch", "exact marginals",
        "training step, growing batch", "training step, growing nodes", "training step, growing paths",
    }  # fmt: skip
    assert all(r["ratio"] == 1 for r in rows if r["contestant"] == "FFN")


@pytest.mark.parametrize("shape", ["even", "large", "skewed"])
@pytest.mark.parametrize("n", [50, 1_400, 10_000])
def test_block_sizes_add_up(n, shape):
    sizes = bench.block_sizes(n, shape)
    assert len(sizes) == sizes[0] + 1 and min(sizes) >= 2 and abs(sum(sizes) - n) <= 0.06 * n


def test_unequal_results_are_not_timed():
    with pytest.raises(AssertionError, match="wrong one"):
        bench.assert_same({"a": (torch.zeros(2),), "wrong one": (torch.ones(2),)})


def test_decoding_bench_runs():
    rows = bench_scale.decoding((100,), rounds=1, batch=2, d=4, hidden=4)
    found = [r["contestant"] for r in rows]
    assert found == ["FFN", "greedy", "beam of 8", "greedy, prefix tree", "FFN", "sampled paths"]
    assert all(r["labels_per_second"] > 0 for r in rows[:4])
    assert all(r["nodes"] == 111 and r["paths"] == 200 for r in rows)
    assert rows[0]["adjacency_mb"] < 0.1


def test_another_greedy_path_is_not_timed(monkeypatch):
    monkeypatch.setattr(bench_scale, "greedy", lambda decoder, f, edges: (torch.zeros(len(f), dtype=torch.long), None))
    with pytest.raises(AssertionError, match="greedy"):
        bench_scale.decoding((100,), rounds=1, batch=16, d=4, hidden=4)


def test_whole_step_bench_runs():
    rows = bench_scale.whole_step((("tf_efficientnet_lite0", 32, 2),), rounds=1, hidden=4)
    assert [r["contestant"] for r in rows] == ["FFN", "question", "algorithm-1"] and rows[0]["ratio"] == 1


def test_encoding_bench_runs():
    few, more = bench_encoding.encoding((2, 40), size=32, encoder="small-cnn")
    assert (few["images"], more["images"]) == (2, 40) and few["peak_mb_ratio"] == 1
    assert more["images_mb"] == 0.1 and more["peak_mb"] > 100 and more["images_per_second"] > 0
