"""Paired statistics as identities, and tables as functions of the records."""

import numpy as np
import pandas as pd
import pytest

from labelaug_core import records, reporting
from labelaug_core.evaluation import compare, hierarchical_bootstrap, holm, sign_flip_p


def test_sign_flip_is_exact_for_few_seeds():
    assert sign_flip_p(np.full(6, 0.5)) == pytest.approx(2 / 2**6)
    assert sign_flip_p(np.full(10, -0.5)) == pytest.approx(2 / 2**10)
    assert sign_flip_p(np.zeros(6)) == 1.0 and sign_flip_p(np.array([1.0, -1.0])) == 1.0


def test_interval_holds_a_known_difference_and_shrinks_with_data():
    rng = np.random.default_rng(0)
    few, many = (rng.normal(1.0, 5.0, size=(10, n)) for n in (50, 5000))
    (low, high), (low2, high2) = hierarchical_bootstrap(few), hierarchical_bootstrap(many)
    assert low < 1.0 < high and high2 - low2 < (high - low) / 3
    assert hierarchical_bootstrap(np.full((3, 4), 2.0)) == (2.0, 2.0)


def test_compare_is_paired_and_antisymmetric():
    rng = np.random.default_rng(1)
    a, b = rng.random((6, 200)) < 0.8, rng.random((6, 200)) < 0.7
    ab, ba = compare(a, b), compare(b, a)
    assert ab["delta"] == pytest.approx(100 * (a.mean() - b.mean())) == -ba["delta"]
    assert (ab["gained"], ab["lost"]) == (ba["lost"], ba["gained"]) and ab["p_value"] == pytest.approx(ba["p_value"])
    assert compare(a, a)["delta"] == 0 and compare(a, a)["p_value"] == 1
    with pytest.raises(ValueError, match="not paired"):
        compare(a, b[:, :10])


def test_holm_by_hand():
    assert holm([0.01, 0.04, float("nan"), 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert np.isnan(holm([0.5, float("nan")])[1])


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A results folder with three seeds of FFN and of label-aug, four of six test samples right or five."""
    monkeypatch.setattr(reporting.records, "ROOT", tmp_path)
    monkeypatch.setattr(reporting.records, "OUT", tmp_path)
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    for name in ("notebooks/profiles/toy.yaml", "results/expected.csv"):
        (tmp_path / name).write_text((records.CORE.parent / name).read_text())
    for method, wrong in (("ffn", 2), ("label-aug", 1)):
        cell = {"group": "critters", "dataset": "fine", "method": method, "option": ""}
        settings = records.cell_settings("toy", **cell)
        for seed in range(3):
            y = np.arange(6)
            guess = np.where(np.arange(6) < wrong, 9, y)
            record = {
                "settings": settings,
                "seed": seed,
                "code_hash": records.code_hash("critters"),
                "decode": "exact",
                "data": {"content_hash": "", "n_train": 5},
                "device": "cpu",
                "test": {"mean_per_class": 0.5},
                "validation": {"val_accuracy": 0.5},
            }
            records.write_record(
                records.record_path(tmp_path / "results" / "toy", records.cell_name(**cell), seed),
                record,
                {"y": y, "exact": guess},
            )
    return tmp_path


def cells(*methods):
    return [{"group": "critters", "dataset": "fine", "method": m, "option": ""} for m in methods]


def test_a_table_is_a_function_of_the_records(world):
    frame = reporting.results_table("toy", "critters", cells("ffn", "label-aug", "label-aug-marginal"))
    ffn, aug, absent = (frame.iloc[i] for i in range(3))
    assert ffn["verdict"] == "the reference" and ffn["mean"] == pytest.approx(400 / 6)
    assert aug["delta"] == pytest.approx(100 / 6) and aug["gained"] == 1 and aug["lost"] == 0 and aug["n_seeds"] == 3
    assert absent["verdict"] == "not run: no record" and pd.isna(absent["mean"])
    assert reporting.results_table("toy", "critters", cells("ffn", "label-aug", "label-aug-marginal")).equals(frame)
    text = reporting.markdown(frame)
    assert "66.67" in text and "+16.67" in text and "not run: no record" in text


def test_stale_records_are_said_and_not_shown(world, monkeypatch):
    monkeypatch.setattr(reporting.records, "code_hash", lambda group: "new code")
    frame = reporting.results_table("toy", "critters", cells("ffn"))
    assert frame.iloc[0]["verdict"].startswith("not run: record is stale: the code") and pd.isna(frame.iloc[0]["mean"])


def test_names_that_look_like_markup_are_shown_as_text():
    assert reporting.plain("<script>|`x`") == "&#60;script&#62;&#124;&#96;x&#96;"


def test_expected_csv_holds_the_papers_tables():
    expected = pd.read_csv(records.ROOT / "results" / "expected.csv")
    assert set(expected["table"]) == {1, 2, 3, 4}
    assert reporting.paper_value("pet", "fusion", "label-aug", 3) == 94.95
    assert np.isnan(reporting.paper_value("pet", "fusion", "ffn", 3))
