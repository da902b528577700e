"""Paired statistics as identities, and tables as functions of the records."""

import numpy as np
import pandas as pd
import pytest
import yaml
from companion.records import store as records
from companion.tables import engine as reporting
from companion.tables import sentences as report
from companion.tables.statistics import compare, hierarchical_bootstrap, holm, seeds_needed, sign_flip_p, smallest_p
from scipy.stats import binomtest


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


def test_bootstrap_equals_the_slow_one_that_draws_seeds_and_then_samples():
    rng = np.random.default_rng(2)
    delta = rng.normal(1.0, 5.0, size=(6, 40)) + rng.normal(0, 2.0, size=(6, 1))
    means = []
    for _ in range(4000):
        seeds, samples = rng.integers(6, size=6), rng.integers(40, size=40)
        means.append(delta[seeds][:, samples].mean())
    spread = np.std(means)
    assert hierarchical_bootstrap(delta, n=4000) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.15 * spread)


def test_power_is_that_of_the_test_after_holm():
    for seeds in (2, 6, 10):
        assert smallest_p(seeds) == pytest.approx(sign_flip_p(np.arange(1.0, seeds + 1)))
        assert smallest_p(seeds, 3) == pytest.approx(min(1, holm([smallest_p(seeds)] * 3)[0]))
    for m in (1, 2, 17, 100):
        assert smallest_p(seeds_needed(m), m) < 0.05 <= smallest_p(seeds_needed(m) - 1, m)


def test_compare_is_paired_and_antisymmetric():
    rng = np.random.default_rng(1)
    a, b = rng.random((6, 200)) < 0.8, rng.random((6, 200)) < 0.7
    ab, ba = compare(a, b), compare(b, a)
    assert ab["delta"] == pytest.approx(100 * (a.mean() - b.mean())) == -ba["delta"]
    assert (ab["gained"], ab["lost"]) == (ba["lost"], ba["gained"]) and ab["p_value"] == pytest.approx(ba["p_value"])
    by_hand = [binomtest(int((x & ~y).sum()), int((x ^ y).sum())).pvalue for x, y in zip(a, b, strict=True)]
    assert [float(p) for p in ab["mcnemar_seeds"].split()] == pytest.approx(by_hand, abs=5e-4)
    assert compare(a, a)["delta"] == 0 and compare(a, a)["p_value"] == 1
    with pytest.raises(ValueError, match="not paired"):
        compare(a, b[:, :10])


def test_holm_by_hand():
    assert holm([0.01, 0.04, float("nan"), 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert np.isnan(holm([0.5, float("nan")])[1])


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A place for records, tables and profiles; `write` puts a cell's records there, its wrong samples given."""
    monkeypatch.setattr(reporting.records, "ROOT", tmp_path)
    monkeypatch.setattr(reporting.records, "OUT", tmp_path)
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    for name in ("notebooks/profiles/toy.yaml", "notebooks/profiles/cpu.yaml", "results/expected.csv"):
        (tmp_path / name).write_text((records.CORE.parent / name).read_text())
    (tmp_path / "notebooks/profiles/paper.yaml").write_text((tmp_path / "notebooks/profiles/toy.yaml").read_text())
    write(tmp_path, "fine", "ffn", wrong=2)
    write(tmp_path, "fine", "label-aug", wrong=1)
    return tmp_path


def write(place, dataset, method, wrong, option="", seeds=6, greedy_wrong=None, samples=6, validation=0.5):
    """The records of a critters cell: of `samples` test samples the first `wrong` are wrong, in every seed."""
    cell = {"group": "critters", "dataset": dataset, "method": method, "option": option}
    y, guess = np.arange(samples), lambda n: np.where(np.arange(samples) < n, 9, np.arange(samples))
    for seed in range(seeds):
        record = {
            "settings": records.cell_settings("toy", **cell),
            "seed": seed,
            "code_hash": records.code_hash("critters"),
            "decode": "exact" if greedy_wrong is None else "greedy",
            "data": {"content_hash": "", "n_train": 5},
            "device": "cpu",
            "validation": {"val_accuracy": validation},
        }
        predictions = {"y": y, "exact": guess(wrong)}
        if greedy_wrong is not None:
            predictions["greedy"] = guess(greedy_wrong)
        path = records.record_path(place / "results" / "toy", records.cell_name(**cell), seed)
        records.write_record(path, record, predictions)


def change_profile(place, **parts):
    path = place / "notebooks" / "profiles" / "toy.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["seeds"] = 6
    profile["groups"]["critters"] |= parts
    path.write_text(yaml.safe_dump(profile))


def cells(*methods, dataset="fine"):
    return [{"group": "critters", "dataset": dataset, "method": m, "option": ""} for m in methods]


def test_a_table_is_a_function_of_the_records(world):
    change_profile(world)
    table = lambda: reporting.results_table("toy", 3, cells("ffn", "label-aug", "label-aug-marginal"))  # noqa: E731
    frame = table()
    ffn, aug, absent = (frame.iloc[i] for i in range(3))
    assert ffn["verdict"] == "the reference" and [ffn["mean"], ffn["mean_per_class"]] == pytest.approx([400 / 6] * 2)
    assert aug["delta"] == pytest.approx(100 / 6) and aug["gained"] == 1 and aug["lost"] == 0 and aug["n_seeds"] == 6
    assert len(aug["seeds"].split()) == len(aug["mcnemar_seeds"].split()) == 6
    assert absent["verdict"] == "not run: no record" and pd.isna(absent["mean"])
    assert table().equals(frame)
    text = reporting.markdown(frame)
    assert "66.67" in text and "+16.67" in text and "not run: no record" in text


def test_the_reference_is_the_ffn_that_is_better_on_validation_data(world):
    write(world, "fine-same-compute", "ffn", wrong=3, validation=0.6)  # worse on the test set, which must not count
    change_profile(world)
    frame = reporting.results_table("toy", 3, cells("ffn") + cells("ffn", dataset="fine-same-compute"))
    assert frame["verdict"].tolist() == ["control", "the reference"] and frame["delta"][0] == pytest.approx(100 / 6)


def test_joining_alone_is_against_the_same_method_without_it(world):
    write(world, "fusion", "label-aug", wrong=3)
    change_profile(world)
    frame = reporting.results_table("toy", 3, cells("ffn", "label-aug") + cells("label-aug", dataset="fusion"))
    assert frame["joining"].isna().tolist() == [True, True, False]
    assert frame["delta"][2] == pytest.approx(-100 / 6) and frame["joining"][2] == pytest.approx(-200 / 6)


def test_declared_comparisons_are_a_family_of_their_own_and_the_rest_is_corrected_for_all(world):
    write(world, "fine", "ffn", wrong=6)
    write(world, "fusion", "label-aug", wrong=1)
    change_profile(world, primary=[{"datasets": ["fusion"], "methods": ["label-aug"]}])
    frame = reporting.results_table("toy", 3, cells("ffn", "label-aug") + cells("label-aug", dataset="fusion"))
    assert frame["primary"].tolist() == ["", "", "primary"] and frame["p_value"][1:].tolist() == [2 / 64, 2 / 64]
    assert frame["p_holm"][1:].tolist() == pytest.approx([smallest_p(6, 2), smallest_p(6, 1)])
    assert frame["verdict"][2] == "above FFN" and frame["verdict"][1] == "above FFN by its interval, not after Holm"


def test_missing_seeds_stale_and_damaged_records_are_said_and_not_shown(world, monkeypatch):
    write(world, "fine", "label-aug-marginal", wrong=1, seeds=4)
    write(world, "fine", "label-aug-question", wrong=1)
    change_profile(world, needs="a machine like no other")
    for path in (world / "results" / "toy" / "runs").glob("*question*.json"):
        path.write_text("{")
    frame = reporting.results_table(
        "toy", 3, cells("ffn", "label-aug-marginal", "label-aug-question", "label-aug-expected")
    )
    assert frame["verdict"][1].endswith("(4 of 6 seeds)") and frame["n_seeds"][1] == 4
    assert "not run: " in frame["verdict"][2] and "damaged record" in frame["verdict"][2]
    assert frame["verdict"][3] == "not run: needs a machine like no other"
    monkeypatch.setattr(reporting.records, "code_hash", lambda group: "new code")
    frame = reporting.results_table("toy", 3, cells("ffn"))
    assert frame.iloc[0]["verdict"].startswith("not run: record is stale: the code") and pd.isna(frame.iloc[0]["mean"])


def test_arms_tested_on_other_samples_are_not_compared(world):
    write(world, "fusion", "label-aug", wrong=1, samples=5)
    change_profile(world)
    frame = reporting.results_table("toy", 3, cells("ffn") + cells("label-aug", dataset="fusion"))
    assert pd.isna(frame["delta"][1]) and frame["verdict"][1] == "no reference"


def test_table_4_is_against_the_same_method_without_the_option_and_shows_both_decodings(world):
    write(world, "fine", "label-aug", wrong=1, greedy_wrong=2)
    write(world, "fine", "label-aug", wrong=3, greedy_wrong=4, option="minibatch=sum")
    change_profile(world, ablations=[{"datasets": ["fine"], "methods": ["label-aug"], "options": ["minibatch=sum"]}])
    frame = reporting.results_table("toy", 4).set_index("option")
    assert frame["verdict"][""] == "the reference" and frame.index.tolist() == ["", "minibatch=sum", "decode=exact"]
    assert frame["delta"]["minibatch=sum"] == pytest.approx(-200 / 6)
    assert frame["delta"]["decode=exact"] == pytest.approx(100 / 6)
    assert "change by the option" in reporting.markdown(frame.reset_index(), 4)


@pytest.mark.parametrize(
    "delta, low, high, p, paper, said",
    [
        (1.0, 0.5, 1.5, 0.01, 1.2, "reproduced"),
        (1.0, 0.5, 1.5, 0.01, 2.0, "direction only"),  # smaller than the paper's
        (1.0, 0.5, 1.5, 0.30, 1.2, "direction only"),  # not after Holm
        (1.0, -0.5, 2.5, 0.01, 1.2, "direction only"),  # the interval crosses zero
        (-1.0, -1.5, -0.5, 0.01, 1.2, "not reproduced"),
        (-1.0, -1.5, -0.5, 0.01, -1.2, "reproduced"),
        (-1.0, -1.5, -0.5, 0.01, np.nan, "below FFN"),
        (1.0, -0.5, 2.5, 0.01, np.nan, "no difference shown"),
        (np.nan, np.nan, np.nan, np.nan, 1.0, "no reference"),
    ],
)
def test_verdicts(delta, low, high, p, paper, said):
    row = {"delta": delta, "delta_ci_low": low, "delta_ci_high": high, "p_holm": p, "paper_delta": paper}
    assert reporting.verdict(pd.Series(row), "FFN") == said


def test_every_row_is_a_numbered_sentence_with_its_command_and_no_number_of_the_papers_is_left_out(world):
    write(world, "fusion", "label-aug", wrong=1)
    change_profile(world)
    frame = reporting.results_table(
        "toy", 3, cells("ffn", "label-aug", "label-aug-marginal") + cells("label-aug", dataset="fusion")
    )
    reporting.write_table(frame, "toy", 3)
    said = report.sentences("toy", 3, report.read_table("toy", 3))
    assert [text.split()[0] for text, _ in said] == [f"**3.{i}**" for i in range(1, 5 + 10)]  # the paper has 10 numbers
    assert "83.33" in said[1][0] and "+16.67 [" in said[1][0] and "the join alone" in said[3][0]
    assert "not run: no record" in said[2][0] and "the paper has 94.95" in " ".join(t for t, _ in said)
    assert "group: critters, dataset: fusion, method: label-aug, seeds: [0, 1, 2, 3, 4, 5]" in said[3][1]
    lines = reporting.markdown(report.read_table("toy", 3)).splitlines()
    assert lines == reporting.markdown(frame).splitlines(), "the table reads the same from its CSV"
    assert set(reporting.markdown(report.short(report.read_table("toy", 3))).splitlines()) < set(lines)
    assert len(report.sentences("toy", 2, report.read_table("toy", 2))) == 6


def test_a_word_for_every_meaning():
    assert report.meaning(1, -1, 3, 0.5, "FFN") == "so it cannot be told from FFN"
    assert report.meaning(1, 0.5, 3, 0.01, "FFN") == "so it is better than FFN"
    assert "probably worse than FFN" in report.meaning(-1, -3, -0.5, 0.5, "FFN")


def test_names_that_look_like_markup_are_shown_as_text():
    assert reporting.plain("<script>|`x`") == "&#60;script&#62;&#124;&#96;x&#96;"


def test_the_papers_numbers_are_found():
    cell = lambda dataset, method, option="": {"dataset": dataset, "method": method, "option": option}  # noqa: E731
    expected = pd.read_csv(records.ROOT / "results" / "expected.csv")
    assert set(expected["table"]) == {1, 2, 3, 4}
    found = reporting.paper_values("pet", cell("fusion", "label-aug"), 3)
    assert found["paper"] == 94.95 and found["paper_delta"] == pytest.approx(1.11)
    assert np.isnan(reporting.paper_values("pet", cell("fusion", "ffn"), 3)["paper"])
    assert reporting.paper_values("pet", cell("fusion", "label-aug", "graph=small"), 4)["paper_delta"] == -0.1
    assert np.isnan(
        reporting.paper_values("pet", cell("fusion", "label-aug-question", "graph=small"), 4)["paper_delta"]
    )
