"""Run records: nothing half-written, nothing stale, nothing run twice; damage and misspellings are said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from companion.records import profiles, published, store, verify
from companion.records.profiles import RecordError

CELL = {"group": "critters", "dataset": "fine", "method": "ffn", "option": ""}
NAME = profiles.cell_name(**CELL)


def run(seed: int = 0, content_hash: str = "abc", **more) -> dict:
    """What a run says, as little as a record needs."""
    data = {"content_hash": content_hash}
    return {"data": data, "history": [{"loss": 0.1 + seed}], "validation": {}, "test": {}, "decode": "exact"} | more


def arrays(seed: int = 0, n: int = 40) -> dict[str, np.ndarray]:
    """The predictions of a run, other ones for each seed."""
    rng = np.random.default_rng(seed)
    return {
        "y": np.arange(n).astype(np.uint16) % 5,
        "exact": rng.integers(0, 5, n).astype(np.uint16),
        "p_exact": rng.random(n).astype(np.float16),
    }


@pytest.fixture
def settings():
    return json.loads(json.dumps(profiles.cell_settings("toy", **CELL)))


@pytest.fixture
def written(tmp_path, settings):
    """A folder with a record of the seeds 2 and 0, added in this order."""
    for seed in (2, 0):
        store.add(tmp_path, NAME, settings, seed, run(seed), arrays(seed))
    return tmp_path


def assert_seed(record: store.Record, seed: int) -> None:
    """The seed's run and arrays are those that were written."""
    assert record.runs[seed] == run(seed)
    found = record.of(seed)
    assert found.keys() == arrays().keys()
    assert all(found[k].dtype == v.dtype and np.array_equal(found[k], v) for k, v in arrays(seed).items())


# -- written and read -------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(written, settings):
    record = store.read(written, NAME)
    assert (record.name, record.settings, record.seeds, record.damaged) == (NAME, settings, [0, 2], {})
    assert record.predictions["y"].shape == (40,) and record.predictions["exact"].shape == (2, 40)
    for seed in (0, 2):
        assert_seed(record, seed)
    files = {p.name for p in (written / "runs").iterdir()}
    assert files == {f"{NAME}.json", f"{NAME}.npz", ".lock"}


def test_only_missing_seeds_are_run(written, settings):
    assert store.missing_seeds(written, NAME, settings, [0, 1, 2, 3], "abc") == [1, 3]
    assert store.missing_seeds(written, "another", settings, [0, 1]) == [0, 1]


def test_a_seed_that_is_added_again_replaces_the_first(written, settings):
    store.add(written, NAME, settings, 2, run(5), arrays(5))
    record = store.read(written, NAME)
    assert record.seeds == [0, 2] and record.runs[2] == run(5)
    assert np.array_equal(record.of(2)["exact"], arrays(5)["exact"])
    assert_seed(record, 0)


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda s: s["training"].update(lr=9.0), "settings have changed (training)"),
        (lambda s: s.update(graph="another"), "graph has changed"),
        (lambda s: s.update(new=1), "settings have changed (new)"),
    ],
)
def test_changed_settings_or_graph_make_a_record_stale(written, settings, change, why):
    change(settings)
    record = store.read(written, NAME)
    assert why in store.stale(record, settings)
    assert store.stale(record.settings, settings) == store.stale(record, settings)
    assert store.missing_seeds(written, NAME, settings, [0]) == [0]
    store.add(written, NAME, settings, 1, run(1), arrays(1))
    assert store.read(written, NAME).seeds == [1]  # a stale seed is not kept beside it


def test_changed_data_make_a_record_stale(written, settings):
    record = store.read(written, NAME)
    assert store.stale(record, settings, "abc") == "" and "data" in store.stale(record, settings, "other data")
    assert store.missing_seeds(written, NAME, settings, [0], "other data") == [0]
    store.add(written, NAME, settings, 1, run(1, "other data"), arrays(1))
    assert store.read(written, NAME).seeds == [1]


def test_seeds_tested_on_other_samples_do_not_stay_in_one_record(written, settings):
    store.add(written, NAME, settings, 1, run(1), arrays(1, n=30))
    assert store.read(written, NAME).seeds == [1]


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 999}'])
def test_a_damaged_or_foreign_record_is_one_clear_error_and_is_run_again(written, settings, damage):
    path, _ = store.paths(written, NAME)
    path.write_bytes(damage)
    with pytest.raises(RecordError, match=path.name):
        store.read(written, NAME)
    assert store.missing_seeds(written, NAME, settings, [0]) == [0]
    store.add(written, NAME, settings, 0, run(0), arrays(0))
    assert_seed(store.read(written, NAME), 0)


@pytest.mark.parametrize("keep", [0, 10, 60, None])
def test_lost_predictions_leave_no_seed_and_say_why(written, settings, keep):
    _, npz = store.paths(written, NAME)
    npz.unlink() if keep is None else npz.write_bytes(npz.read_bytes()[:keep])
    record = store.read(written, NAME)
    assert record.seeds == [] and record.damaged.keys() == {0, 2} and "npz" in record.damaged[0]
    assert store.missing_seeds(written, NAME, settings, [0, 2]) == [0, 2]


@pytest.mark.parametrize("again", [0, 1])
def test_a_kill_between_the_two_files_never_gives_a_seed_the_predictions_of_another(written, settings, again):
    """The arrays are new, the JSON file is old. A new seed is missing then; one that was trained again is damaged."""
    path, _ = store.paths(written, NAME)
    before = path.read_bytes()
    store.add(written, NAME, settings, again, run(7), arrays(7))
    path.write_bytes(before)
    record = store.read(written, NAME)
    assert record.seeds == ([2] if again == 0 else [0, 2])
    assert list(record.damaged) == ([0] if again == 0 else [])
    for seed in record.seeds:
        assert_seed(record, seed)
    assert store.missing_seeds(written, NAME, settings, [0, 1, 2]) == ([0, 1] if again == 0 else [1])
    store.add(written, NAME, settings, again, run(again), arrays(again))
    assert_seed(store.read(written, NAME), again)


def test_a_failed_write_leaves_the_old_record_and_no_rubbish(written, settings, monkeypatch):
    files = {p: p.read_bytes() for p in (written / "runs").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"No space.*{NAME}"):
        store.add(written, NAME, settings, 1, run(1), arrays(1))
    assert {p: p.read_bytes() for p in (written / "runs").iterdir()} == files


ADD = """import sys, test_records as t
seed = int(sys.argv[2])
t.store.add(sys.argv[1], t.NAME, {}, seed, t.run(seed), t.arrays(seed))"""


def test_processes_that_add_seeds_of_one_cell_at_once_lose_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    commands = [[sys.executable, "-c", ADD, str(tmp_path), str(seed)] for seed in range(6)]
    running = [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in commands]
    for process in running:
        assert process.communicate(timeout=120)[1] == "" and process.returncode == 0
    record = store.read(tmp_path, NAME)
    assert record.seeds == list(range(6))
    for seed in record.seeds:
        assert_seed(record, seed)


# -- cells and what a reader types ------------------------------------------------------------------------------------


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
    with pytest.raises(RecordError, match=f"'{named}'"):
        profiles.cell_settings("toy", **(CELL | change))


def test_unknown_profile_part_and_parameters_are_named():
    with pytest.raises(RecordError, match="'toi'"):
        profiles.load_profile("toi")
    with pytest.raises(RecordError, match="'cell'"):
        profiles.cells("toy", part="cell")
    with pytest.raises(RecordError, match="'metod', 'sed'"):
        profiles.check_parameters({"method": "ffn", "metod": "ffn", "sed": 1}, ["method"])
    profiles.check_parameters({"method": "ffn", "_hidden": 1, "In": [], "profiles": profiles}, ["method"])


def test_options_are_typed():
    assert profiles.parse_option("minibatch=sum,r_tf=0.5,literal=true,n_p=2,lr=1e-3") == {
        "minibatch": "sum",
        "r_tf": 0.5,
        "literal": True,
        "n_p": 2,
        "lr": 0.001,
    }


@pytest.mark.parametrize(
    "typed, seeds", [(3, [3]), ([0, 1], [0, 1]), ("[0, 1]", [0, 1]), ("0 1", [0, 1]), ("4,4,2", [4, 2])]
)
def test_seeds_may_be_typed_in_any_way(typed, seeds):
    assert profiles.seed_list(typed) == seeds


def test_a_cell_has_the_seeds_of_its_row_and_a_trial_has_one():
    cell = {"group": "pet", "dataset": "fusion", "method": "label-aug", "option": ""}
    assert [profiles.seed_count("cpu", cell | {"method": m}) for m in ("label-aug", "wordtree")] == [10, 6]
    assert profiles.seed_count("cpu", cell | {"option": "decode=exact"}) == 10
    assert profiles.seed_count("cpu", cell | {"option": "graph=small"}) == 6
    assert profiles.seed_count("paper-rehearsal", cell) == 1


@pytest.mark.parametrize(
    "typed, named", [("0 one two", "'one', 'two'"), ([], r"\[\]"), (-1, "-1"), (True, "True"), (0.5, "0.5")]
)
def test_seeds_that_are_none_are_all_named(typed, named):
    with pytest.raises(RecordError, match=named):
        profiles.seed_list(typed)


def test_unknown_settings_are_all_named(settings):
    from companion.runs import check_settings, fit_cell

    check_settings(settings)
    settings["training"] |= {"learning_rate": 1.0, "stepz": 2}
    settings["head"] |= {"hiden": 3}
    for refused in (check_settings, lambda s: fit_cell(s, None, 0)):
        with pytest.raises(RecordError, match="training: 'learning_rate', training: 'stepz', head: 'hiden'"):
            refused(settings)


@pytest.mark.parametrize(
    "key, value", [("lr", "fast"), ("steps", 1.5), ("steps", True), ("cpu", 1), ("mixed_precision", 2)]
)
def test_a_setting_of_another_kind_is_named(settings, key, value):
    from companion.runs import check_settings

    settings["training"][key] = value
    with pytest.raises(RecordError, match=f"training: {key} = "):
        check_settings(settings)


def test_same_compute_sees_as_many_images_a_step_as_the_fusion():
    fine, same, fusion = (
        profiles.cell_settings("cpu", "pet", d, m)["training"]
        for d, m in (("fine", "ffn"), ("fine-same-compute", "ffn"), ("fusion", "label-aug"))
    )
    assert same["batch"] == fusion["batch"] + fusion["coarse_batch"] and fine["batch"] == fusion["batch"]
    assert same["steps"] == fusion["steps"] == fine["steps"]


def test_every_cell_of_every_profile_resolves_and_has_settings_that_there_are():
    from companion.runs import check_settings

    for profile in ("toy", "cpu", "paper"):
        for part in profiles.PARTS:
            for cell in profiles.cells(profile, part=part):
                settings = profiles.cell_settings(profile, **cell)
                json.dumps(settings)
                check_settings(settings)


def test_a_batch_is_planned_without_torch():
    code = "import sys; from companion.records import profiles, store; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- trained again ----------------------------------------------------------------------------------------------------


def changed(n: int, better: int, worse: int) -> dict[str, np.ndarray]:
    """Predictions of n samples, of which the first half was right: so many wrong ones are right now, and vice versa."""
    y = np.zeros(n, np.uint16)
    exact = (np.arange(n) >= n // 2).astype(np.uint16)
    exact[:worse], exact[n // 2 : n // 2 + better] = 1, 0
    return {"y": y, "exact": exact}


def test_a_run_that_was_trained_again_is_the_same_bits_within_noise_or_different(tmp_path, settings, monkeypatch):
    names = [
        "critters__fine__ffn",
        "critters__fine__label-set",
        "critters__fine__wordtree",
        "critters__fine__label-aug",
    ]
    cells = {n: dict(zip(CELL, [*n.split("__"), ""], strict=True)) for n in names}
    now = [(0, 0), (9, 7), (0, 40), (0, 0)]
    for (name, cell), (better, worse) in zip(cells.items(), now, strict=True):
        for folder, counts in (("old", (0, 0)), ("new", (better, worse))):
            said = run(loss=0.5 + (folder == "new" and name.endswith("label-aug")) * 1e-15)
            said["history"] = [{"loss": said.pop("loss")}]
            store.add(tmp_path / folder, name, profiles.cell_settings("toy", **cell), 0, said, changed(400, *counts))
    cells["critters__fusion__hex"] = CELL | {"dataset": "fusion", "method": "hex"}  # without a record
    frame = verify.verify(tmp_path / "old", tmp_path / "new", cells, "toy").set_index("cell")
    wanted = [verify.BITS, verify.NOISE, verify.DIFFERENT, verify.NOISE, verify.NOTHING]
    assert frame["verdict"].tolist() == wanted
    assert frame["changed"].tolist()[:4] == [0, 16, 40, 0] and frame["p"].iloc[3] == 1
    text = verify.summary(frame.reset_index())
    assert "1 the same bits, 2 the same within noise, 1 different, 1 nothing to compare with" in text
    assert "critters__fine__wordtree: different (40 of 400 predictions differ, 0 better, 40 worse" in text
    assert "critters__fusion__hex" in text and "ffn" not in text


def test_labels_of_several_are_compared_label_by_label():
    y = np.packbits(np.array([[1, 0, 0], [1, 1, 0]], bool), axis=1)
    predicted = np.packbits(np.array([[1, 1, 1], [1, 1, 0]], bool), axis=1)
    record = store.Record("a", {}, [0], {0: run()}, {"y": y, "predicted": predicted[None]})
    assert verify.mistakes(record, 0)[1].tolist() == [2, 0]


# -- published numbers ------------------------------------------------------------------------------------------------

TABLE = "group,dataset,method,option,mean,delta,n_seeds\npet,fine,ffn,,50.123,,6\npet,fusion,hex,lr=0.1,52.5,2.377,6\n"


def test_published_numbers_that_did_not_come_out_again_are_named():
    assert published.came_out_again(TABLE, TABLE) == (3, [])
    assert published.came_out_again(TABLE, TABLE.replace("50.123", "50.1199")) == (3, [])  # as shown: two digits
    n, lines = published.came_out_again(TABLE, TABLE.replace("52.5,2.377", "52.4,2.277"))
    assert n == 3 and lines == [
        "pet fusion hex lr=0.1, mean: published 52.50, now 52.40",
        "pet fusion hex lr=0.1, delta: published 2.38, now 2.28",
    ]
    assert published.came_out_again(TABLE, TABLE[: TABLE.index("pet,fusion")])[1][0].endswith("52.50, now missing")


def test_without_git_the_end_of_a_batch_says_that_it_cannot_compare(tmp_path, monkeypatch):
    (tmp_path / "results" / "toy").mkdir(parents=True)
    (tmp_path / "results" / "toy" / "table3.csv").write_text(TABLE)
    monkeypatch.setattr(published, "OUT", tmp_path)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    for path in (os.environ["PATH"], ""):  # no repository there; no git at all
        monkeypatch.setenv("PATH", path)
        assert (
            published.lines("toy") == [published.lines("toy")[0]] and "no published tables" in published.lines("toy")[0]
        )


def test_with_git_it_counts(tmp_path, monkeypatch):
    folder = tmp_path / "results" / "toy"
    folder.mkdir(parents=True)
    monkeypatch.setattr(published, "OUT", tmp_path)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    (folder / "table3.csv").write_text(TABLE)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "tables"]):
        subprocess.run([*git, *command], check=True)
    assert published.lines("toy") == ["toy: 3 of 3 published numbers came out again"]
    (folder / "table3.csv").write_text(TABLE.replace("50.123", "51"))
    assert published.lines("toy") == [
        "toy: 2 of 3 published numbers came out again, these did not:",
        "  table3: pet fine ffn, mean: published 50.12, now 51.00",
    ]


def test_a_run_without_git_is_recorded(monkeypatch):
    from companion.runs import environment

    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] == "unknown"
