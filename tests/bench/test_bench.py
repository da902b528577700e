"""The benchmarks run, at sizes too small to mean anything; a wrong contestant stops them."""

import json
import platform

import bench
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
