"""Run records: nothing half-written, nothing stale, nothing run twice; damage and misspellings are said."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from companion.records import store as records

ROOT = Path(__file__).parents[1]

CELL = {"group": "critters", "dataset": "fine", "method": "ffn", "option": ""}


@pytest.fixture
def written(tmp_path):
    settings = records.cell_settings("toy", **CELL)
    record = {
        "settings": settings,
        "seed": 0,
        "code_hash": records.code_hash("critters"),
        "data": {"content_hash": "abc"},
    }
    path = records.record_path(tmp_path, records.cell_name(**CELL), 0)
    records.write_record(path, record, {"y": np.arange(5)})
    return tmp_path, settings, path


def test_a_record_comes_back_as_it_was_written(written):
    _, settings, path = written
    assert records.read_record(path)["settings"] == settings
    assert records.read_predictions(path)["y"].tolist() == [0, 1, 2, 3, 4]
    assert path.name == "critters__fine__ffn__seed0.json"


def test_only_missing_seeds_are_run(written):
    results, settings, _ = written
    assert records.missing_seeds(results, settings, [0, 1], "abc") == [1]


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda s: s["training"].update(lr=9.0), "settings"),
        (lambda s: s.update(graph="another"), "settings"),
    ],
)
def test_changed_settings_make_a_record_stale(written, change, why):
    results, settings, path = written
    change(settings)
    assert why in records.stale(records.read_record(path), settings)
    assert records.missing_seeds(results, settings, [0]) == [0]


def test_changed_data_or_code_make_a_record_stale(written, monkeypatch):
    results, settings, path = written
    assert "data" in records.stale(records.read_record(path), settings, "other data")
    monkeypatch.setattr(records, "code_hash", lambda group: "other code")
    assert "code" in records.stale(records.read_record(path), settings)
    assert records.missing_seeds(results, settings, [0]) == [0]


@pytest.fixture
def later_code(written, monkeypatch):
    """The code has changed since `written`; a function that writes verified.csv and says why the record is stale."""
    results, settings, path = written
    monkeypatch.setattr(records, "OUT", results)
    row = {"experiment": records.experiment(settings), "recorded": records.code_hash("critters"), "today": "later"}
    monkeypatch.setattr(records, "code_hash", lambda group: "later")
    file = results / "results" / "toy" / "verified.csv"
    file.parent.mkdir(parents=True)

    def why(**changes) -> str:
        records.verified.cache_clear()
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, [*row, "same"])
            writer.writeheader()
            writer.writerow({**row, "same": True, **changes})
        return records.stale(records.read_record(path), settings)

    yield why
    records.verified.cache_clear()


def test_code_that_was_found_to_give_the_same_numbers_leaves_the_record_valid(later_code, written):
    assert later_code() == ""
    assert records.missing_seeds(written[0], written[1], [0]) == []


@pytest.mark.parametrize("change", [{"same": False}, {"experiment": "abc"}, {"recorded": "abc"}, {"today": "latest"}])
def test_other_numbers_other_settings_and_other_code_do_not(later_code, change):
    assert "code" in later_code(**change)


def test_a_damaged_list_of_what_was_verified_is_one_error(later_code, written):
    (written[0] / "results" / "toy" / "verified.csv").write_text('experiment,same\n"abc')
    records.verified.cache_clear()
    with pytest.raises(records.RecordError, match="verified.csv: damaged"):
        records.stale(records.read_record(written[2]), written[1])


def test_notebook_13_says_of_each_run_whether_it_is_the_same_bit_for_bit(tmp_path):
    results, first = tmp_path / "results" / "cpu", ROOT / "results" / "cpu" / "runs"
    for i, name in enumerate(("pet__fine__ffn", "pet__fine__label-aug", "pet__fusion__label-aug")):
        record = records.read_record(records.record_path(first.parent, name, 0))
        arrays = records.read_predictions(records.record_path(first.parent, name, 0))
        records.write_record(records.record_path(results, name, 0), record, arrays)
        if i == 1:
            arrays["exact"] = np.where(np.arange(len(arrays["exact"])) < 3, 36 - arrays["exact"], arrays["exact"])
        if i == 2:
            record["history"][0]["loss"] += 1e-15
        records.write_record(records.record_path(results / "verify", name, 0), record | {"code_hash": "now"}, arrays)
    command = [Path(sys.executable).parent / "papermill", "--no-progress-bar", "--log-level", "ERROR"]
    environment = os.environ | {"LABELAUG_OUT": str(tmp_path)}
    subprocess.run(
        [*command, ROOT / "notebooks" / "13_verify.ipynb", tmp_path / "13.ipynb"], env=environment, check=True
    )
    with (results / "verified.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    assert [row["same"] for row in rows.values()] == ["True", "False", "False"]
    assert rows["pet__fine__label-aug"]["changed"] == "3" and rows["pet__fusion__label-aug"]["changed"] == "0"
    assert {row["today"] for row in rows.values()} == {"now"} and rows["pet__fine__ffn"]["n_test"] == "509"


def test_code_hash_sees_code_and_not_comments(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "CORE", tmp_path)
    monkeypatch.setattr(records, "DECIDING", ["m"])
    source = '"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1\n'

    def hashed(text):
        (tmp_path / "m.py").write_text(text)
        records.code_hash.cache_clear()
        return records.code_hash("none")

    same, other = source.replace("Doc.", "Other prose.") + "# a comment\n", source.replace("x + 1", "x + 2")
    assert hashed(source) == hashed(same) != hashed(other)
    records.code_hash.cache_clear()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 999}'])
def test_a_damaged_or_foreign_record_is_one_clear_error_and_is_run_again(written, damage):
    results, settings, path = written
    path.write_bytes(damage)
    with pytest.raises(records.RecordError, match=path.name):
        records.read_record(path)
    assert records.missing_seeds(results, settings, [0]) == [0]


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_truncated_predictions_are_one_clear_error(written, keep):
    _, _, path = written
    npz = path.with_suffix(".npz")
    npz.write_bytes(npz.read_bytes()[:keep])
    with pytest.raises(records.RecordError, match="npz"):
        records.read_predictions(path)


def test_a_failed_write_leaves_the_old_record_and_no_rubbish(written, monkeypatch):
    _, _, path = written
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        records.write_record(path, {"settings": {}}, {"y": np.arange(3)})
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".npz").name])


@pytest.mark.parametrize(
    "change, named",
    [
        ({"group": "critter"}, "critter"),
        ({"dataset": "fin"}, "fin"),
        ({"method": "fnn"}, "fnn"),
        ({"option": "lr"}, "lr"),
    ],
)
def test_misspelt_cells_are_named(change, named):
    with pytest.raises(records.RecordError, match=f"'{named}'"):
        records.cell_settings("toy", **(CELL | change))


def test_unknown_profile_and_parameter_are_named():
    with pytest.raises(records.RecordError, match="'toi'"):
        records.load_profile("toi")
    with pytest.raises(records.RecordError, match="'metod'"):
        records.check_parameters({"method": "ffn", "metod": "ffn"}, ["method"])
    records.check_parameters({"method": "ffn", "_hidden": 1, "In": [], "records": records}, ["method"])


def test_options_are_typed():
    assert records.parse_option("minibatch=sum,r_tf=0.5,literal=true,n_p=2") == {
        "minibatch": "sum",
        "r_tf": 0.5,
        "literal": True,
        "n_p": 2,
    }


def test_same_compute_sees_as_many_images_a_step_as_the_fusion():
    fine, same, fusion = (
        records.cell_settings("cpu", "pet", d, m)["training"]
        for d, m in (("fine", "ffn"), ("fine-same-compute", "ffn"), ("fusion", "label-aug"))
    )
    assert same["batch"] == fusion["batch"] + fusion["coarse_batch"] and fine["batch"] == fusion["batch"]
    assert same["steps"] == fusion["steps"] == fine["steps"]


def test_every_cell_of_every_profile_resolves():
    for profile in ("toy", "cpu", "paper"):
        for part in ("cells", "tuning"):
            for cell in records.cells(profile, part=part):
                json.dumps(records.cell_settings(profile, **cell))
