"""Tables as functions of the records: what is compared with what, what a verdict says, what is left out and why."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from companion.records import profiles, store
from companion.tables import archives, beyond, engine, figures, writing
from companion.tables.statistics import crossed, influence
from sklearn.metrics import f1_score

matplotlib.use("Agg")
GROUP = {"group": "critters", "option": ""}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A place for records, tables and profiles, with FFN (2 of 6 test samples wrong) and label-aug (1 wrong)."""
    root = profiles.ROOT
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "labelaug_core").symlink_to(root / "labelaug_core")
    for name in ("notebooks/profiles/toy.yaml", "notebooks/profiles/cpu.yaml", "results/expected.csv"):
        (tmp_path / name).write_text((root / name).read_text())
    (tmp_path / "notebooks/profiles/paper.yaml").write_text((root / "notebooks/profiles/toy.yaml").read_text())
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    monkeypatch.setattr(profiles, "OUT", tmp_path)
    change_profile(tmp_path)
    write("fine", "ffn", wrong=2)
    write("fine", "label-aug", wrong=1)
    return tmp_path


def change_profile(place, **parts):
    path = place / "notebooks" / "profiles" / "toy.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["seeds"] = 6
    profile["groups"]["critters"] |= {"primary": []} | parts
    path.write_text(yaml.safe_dump(profile))


def add(cell: dict, seed: int, predictions: dict, **run):
    settings = profiles.cell_settings("toy", **cell)
    run = {"data": {"content_hash": "", "n_train": 5}, "device": "cpu"} | run
    store.add(profiles.OUT / "results" / "toy", profiles.cell_name(**cell), settings, seed, run, predictions)


def write(dataset, method, wrong, option="", seeds=6, greedy_wrong=None, samples=6, validation=0.5):
    """The record of a critters cell: of the test samples the first `wrong` are wrong, in every seed."""
    y = np.arange(samples)
    predictions = {"y": y, "exact": np.where(y < wrong, 99, y)}
    if METHOD_DECODES_GREEDILY[method] or greedy_wrong is not None:
        predictions["greedy"] = np.where(y < (wrong if greedy_wrong is None else greedy_wrong), 99, y)
    for seed in range(seeds):
        cell = {"group": "critters", "dataset": dataset, "method": method, "option": option}
        add(cell, seed, predictions, validation={"val_accuracy": validation})


METHOD_DECODES_GREEDILY = {name: method.decode == "greedy" for name, method in engine.METHODS.items()}


def cells(*methods, dataset="fine"):
    return [{"group": "critters", "dataset": dataset, "method": m, "option": ""} for m in methods]


def table(*rows) -> pd.DataFrame:
    return engine.results_table("toy", 3, [c for part in rows for c in part])


def test_a_table_is_a_function_of_the_records(world):
    frame = table(cells("ffn", "label-aug", "label-aug-marginal"))
    ffn, aug, absent = (frame.iloc[i] for i in range(3))
    assert ffn["verdict"] == "the reference" and [ffn["mean"], ffn["mean_per_class"]] == pytest.approx([400 / 6] * 2)
    assert aug["delta"] == pytest.approx(100 / 6) and aug["gained"] == 1 and aug["lost"] == 0 and aug["n_seeds"] == 6
    by_hand = crossed(np.tile([0.0, 100, 0, 0, 0, 0], (6, 1)))
    assert [aug["delta_ci_low"], aug["p_value"]] == pytest.approx([by_hand.low, by_hand.p])
    assert len(aug["seeds"].split()) == 6
    assert absent["verdict"] == "not run: no record" and pd.isna(absent["mean"])
    assert table(cells("ffn", "label-aug", "label-aug-marginal")).equals(frame)
    text = writing.markdown(frame)
    assert "66.67" in text and "+16.67" in text and "not run: no record" in text
    assert max(line.count("|") - 1 for line in text.splitlines()) <= 7


def test_the_reference_is_the_ffn_that_is_better_on_validation_data(world):
    write("fine-same-compute", "ffn", wrong=3, validation=0.6)  # worse on the test set, which must not count
    frame = table(cells("ffn"), cells("ffn", dataset="fine-same-compute"))
    assert frame["role"].tolist() == ["control", "reference"] and frame["delta"][0] == pytest.approx(100 / 6)
    assert np.isnan(frame["p_holm"][0]), "a control is no claim"


def test_joining_alone_is_against_the_same_method_without_it(world):
    write("fusion", "label-aug", wrong=3)
    write("fusion", "pseudo-labels", wrong=0)
    frame = table(cells("ffn", "label-aug"), cells("label-aug", "pseudo-labels", dataset="fusion"))
    assert frame["joining"].isna().tolist() == [True, True, False, False]
    assert frame["delta"][2] == pytest.approx(-100 / 6) and frame["joining"][2] == pytest.approx(-200 / 6)
    assert frame["joining"][3] == frame["delta"][3] == pytest.approx(200 / 6), "Pseudo Labels without a join are FFN"


def test_a_join_of_fewer_fine_labels_is_compared_with_ffn_on_as_few(world):
    write("fine-share0.5", "ffn", wrong=5)
    write("fusion-share0.5", "label-aug", wrong=4)
    rows = cells("ffn"), cells("ffn", dataset="fine-share0.5"), cells("label-aug", dataset="fusion-share0.5")
    frame = table(*rows)
    assert frame["role"].tolist() == ["reference", "reference", ""]
    assert frame["delta"][2] == pytest.approx(100 / 6) and pd.isna(frame["joining"][2])  # label-aug alone was not run


def test_declared_comparisons_are_a_family_of_their_own_and_the_rest_is_corrected_for_all(world):
    write("fine", "ffn", wrong=200, samples=400)
    write("fine", "label-aug", wrong=195, samples=400)
    write("fusion", "label-aug", wrong=195, samples=400)
    change_profile(world, primary=[{"datasets": ["fusion"], "methods": ["label-aug"]}])
    frame = table(cells("ffn", "label-aug"), cells("label-aug", dataset="fusion"))
    assert frame["role"].tolist() == ["reference", "", "primary"]
    p = frame["p_value"][1]
    assert 0.025 < p < 0.05 and frame["p_value"][2] == p
    assert frame["p_holm"][1:].tolist() == pytest.approx([2 * p, p])
    assert frame["verdict"].tolist() == ["the reference", "no difference shown", "better"]


def test_missing_seeds_stale_and_damaged_records_are_said_and_not_shown(world):
    write("fine", "label-aug-marginal", wrong=1, seeds=4)
    write("fine", "label-aug-question", wrong=1)
    (world / "results" / "toy" / "runs" / "critters__fine__label-aug-question.json").write_text("{")
    change_profile(world, needs="a machine like no other")
    frame = table(cells("ffn", "label-aug-marginal", "label-aug-question", "label-aug-expected"))
    assert frame["verdict"][1].endswith("(4 of 6 seeds)") and frame["n_seeds"][1] == 4
    assert "not run: " in frame["verdict"][2] and "damaged record" in frame["verdict"][2]
    assert frame["verdict"][3] == "not run: needs a machine like no other"
    methods = yaml.safe_load((world / "notebooks/profiles/toy.yaml").read_text())["groups"]["critters"]["methods"]
    change_profile(world, methods=methods | {"ffn": {"lr": 0.5}})
    frame = table(cells("ffn"))
    assert frame["verdict"][0].startswith("not run: its record is stale") and pd.isna(frame["mean"][0])


def test_a_seed_whose_predictions_are_damaged_is_left_out(world):
    path = world / "results" / "toy" / "runs" / "critters__fine__label-aug.npz"
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files}
    arrays["greedy"][2] = 0
    np.savez(path, **arrays)
    frame = table(cells("ffn", "label-aug"))
    assert frame["n_seeds"][1] == 5 and frame["delta"][1] == pytest.approx(100 / 6)
    assert "(5 of 6 seeds)" in frame["verdict"][1]


def test_arms_tested_on_other_samples_are_not_compared(world):
    write("fusion", "label-aug", wrong=1, samples=5)
    frame = table(cells("ffn"), cells("label-aug", dataset="fusion"))
    assert pd.isna(frame["delta"][1]) and frame["verdict"][1] == "no reference"


def test_table_4_is_against_the_same_method_without_the_option_and_names_each_decoding(world):
    write("fine", "label-aug", wrong=1, greedy_wrong=2)
    write("fine", "label-aug", wrong=3, greedy_wrong=4, option="minibatch=sum")
    change_profile(world, ablations=[{"datasets": ["fine"], "methods": ["label-aug"], "options": ["minibatch=sum"]}])
    frame = engine.results_table("toy", 4).set_index("option")
    assert frame["verdict"][""] == "the reference" and frame.index.tolist() == ["", "minibatch=sum", "decode=exact"]
    assert frame["decode"].tolist() == ["greedy", "greedy", "exact"]
    assert frame["delta"]["minibatch=sum"] == pytest.approx(-200 / 6)
    assert frame["delta"]["decode=exact"] == pytest.approx(100 / 6)
    assert (frame["mean_exact"] > frame["mean_greedy"]).all()
    text = writing.markdown(frame.reset_index(), 4)
    assert (
        "change by the option" in text
        and "Algorithm 1 · exact |" in text
        and "Algorithm 1 · greedy · minibatch=sum |" in text
    )


def test_a_smaller_graph_is_compared_under_both_decodings(world):
    write("fine", "label-aug", wrong=1, greedy_wrong=2)
    write("fine", "label-aug", wrong=2, greedy_wrong=4, option="graph=small")
    change_profile(world, ablations=[{"datasets": ["fine"], "methods": ["label-aug"], "options": ["graph=small"]}])
    frame = engine.results_table("toy", 4).set_index("option")
    assert frame.index.tolist() == ["", "graph=small", "decode=exact", "graph=small,decode=exact"]
    assert frame["delta"].tolist()[1:] == pytest.approx([-200 / 6, 100 / 6, -100 / 6])
    text = writing.markdown(frame.reset_index(), 4)
    assert "Algorithm 1 · exact · graph=small |" in text and "· greedy · graph=small |" in text
    assert writing.command("toy", next(frame.iloc[[3]].reset_index().itertuples())).count("decode") == 0


def test_a_table_can_have_a_reference_of_its_own(world):
    write("fine", "hex", wrong=3)
    rows = cells("ffn", "label-aug", "hex")
    frame = engine.results_table("toy", 3, rows, against=lambda cell: cell | {"method": "hex"})
    assert frame["role"].tolist() == ["control", "", "reference"] and frame["delta"][1] == pytest.approx(200 / 6)


@pytest.mark.parametrize(
    "delta, low, high, p, paper, against_reference, against_paper",
    [
        (1.0, 0.5, 1.5, 0.01, 1.2, "better", "reproduced"),
        (1.0, 0.5, 1.5, 0.01, 2.0, "better", "direction only"),  # smaller than the paper's
        (1.0, 0.5, 1.5, 0.30, 1.2, "no difference shown", "direction only"),  # not after Holm
        (-1.0, -1.5, -0.5, 0.01, 1.2, "worse", "reversed"),
        (-1.0, -2.5, 0.5, 0.30, 1.2, "no difference shown", "not reproduced"),
        (-1.0, -1.5, -0.5, 0.01, -1.2, "worse", "reproduced"),
        (-1.0, -1.5, -0.5, 0.01, -2.0, "worse", "direction only"),
        (-1.0, -1.5, -0.5, 0.01, np.nan, "worse", ""),
        (np.nan, np.nan, np.nan, np.nan, 1.0, "no reference", ""),
    ],
)
def test_verdicts(delta, low, high, p, paper, against_reference, against_paper):
    row = {"delta": delta, "delta_ci_low": low, "delta_ci_high": high, "p_holm": p, "paper_delta": paper, "role": ""}
    assert engine.verdict(pd.Series(row)) == against_reference
    assert engine.paper_verdict(pd.Series(row)) == against_paper


# -- several labels a sample -------------------------------------------------------------------------------------------


@pytest.fixture
def notes(world):
    """Records of `notes`, 14 categories, 40 test samples, 6 seeds: right in part, label-aug all right on the fusion."""
    labels = engine.taxonomy("notes")[0]
    rng = np.random.default_rng(0)
    y = rng.random((40, len(labels))) < 0.2
    y[:, 0] |= ~y.any(1)
    guesses = {}
    for dataset, method, share in (("fine", "ffn", 0.1), ("fine", "label-aug", 0.1), ("fusion", "label-aug", 0.0)):
        for seed in range(6):
            guess = y ^ (rng.random(y.shape) < share)
            guesses[dataset, method, seed] = guess
            cell = {"group": "notes", "dataset": dataset, "method": method, "option": ""}
            arrays = {"y": np.packbits(y, axis=1), "predicted": np.packbits(guess, axis=1)}
            add(cell, seed, arrays, validation={"val_f1": 0.5}, test={"f1_macro": 0.5, "f1_samples": 0.25})
    return y, guesses


def test_f1_is_scikit_learns_and_its_interval_is_that_of_the_influence_values(notes):
    y, guesses = notes
    frame = engine.results_table("toy", 2).set_index(["dataset", "method", "option"])
    row = frame.loc["fine", "ffn", ""]
    f1 = [100 * f1_score(y, guesses["fine", "ffn", s], average="micro") for s in range(6)]
    assert row["mean"] == pytest.approx(np.mean(f1)) and row["metric"] == "micro-F1" and row["f1_macro"] == 50
    both = [np.stack([guesses[d, m, s] for s in range(6)]) for d, m in (("fusion", "label-aug"), ("fine", "ffn"))]
    values = [100 * influence(2 * (p & y).sum(2), p.sum(2) + y.sum(1)) for p in both]
    by_hand, joined = crossed(values[0] - values[1]), frame.loc["fusion", "label-aug", ""]
    assert [joined["delta"], joined["delta_ci_low"], joined["p_value"]] == pytest.approx(
        [by_hand.mean, by_hand.low, by_hand.p]
    )
    assert joined["mean"] == joined["f1_archive"] == 100 and joined["joining"] > 0 and joined["verdict"] == "better"
    assert frame.loc["fusion", "ffn", ""]["verdict"] == "not run: no record"
    text = writing.markdown(frame.reset_index(), 2)
    assert max(line.count("|") - 1 for line in text.splitlines()) <= 7


def test_archives(notes):
    y, guesses = notes
    read = engine.Reader("toy")
    fine, fusion = (
        read({"group": "notes", "dataset": d, "method": "label-aug", "option": ""}) for d in ("fine", "fusion")
    )
    gains = archives.archive_gains("notes", fine, fusion).set_index("archive")
    _, below, names = engine.taxonomy("notes")
    assert len(gains) == len(names) and (gains["fusion"] == 100).all() and gains["gain"].is_monotonic_decreasing
    inside = below[:, 0] > 0
    f1 = [100 * f1_score(y[:, inside], guesses["fine", "label-aug", s][:, inside], average="micro") for s in range(6)]
    first = gains.loc[names[0].removeprefix("archive ")]
    assert first["fine"] == pytest.approx(np.mean(f1)) and first["gain"] == pytest.approx(100 - np.mean(f1))
    assert archives.confusion("notes", fusion).to_numpy().sum() == 0
    assert archives.confusion("notes", fine).to_numpy().sum() > 0


# -- what is written ---------------------------------------------------------------------------------------------------


def test_every_row_is_a_numbered_sentence_with_its_command_and_no_number_of_the_papers_is_left_out(world):
    write("fusion", "label-aug", wrong=1)
    frame = table(cells("ffn", "label-aug", "label-aug-marginal"), cells("label-aug", dataset="fusion"))
    writing.write_table(frame, "toy", 3)
    again = writing.read_table("toy", 3)
    found = writing.sentences("toy", 3, again)
    assert [text.split()[0] for text, _ in found] == [f"**3.{i}**" for i in range(1, 5 + 10)]  # 10 of the paper's
    assert "it is the reference" in found[0][0]
    assert "83.33" in found[1][0] and "+16.67 [" in found[1][0] and "joining changes" in found[3][0]
    assert "not run: no record" in found[2][0] and "the paper has 94.95" in " ".join(t for t, _ in found)
    assert "group: critters, dataset: fusion, method: label-aug, seeds: [0, 1, 2, 3, 4, 5]" in found[3][1]
    lines = writing.markdown(again).splitlines()
    assert lines == writing.markdown(frame).splitlines(), "the table reads the same from its CSV"
    assert set(writing.markdown(writing.short(again)).splitlines()) < set(lines)
    assert len(writing.sentences("toy", 2, writing.read_table("toy", 2))) == 6
    assert writing.sizes(frame) == "critters: 6 seeds, 6 test samples."
    nothing = frame.iloc[2:3]
    assert writing.markdown(writing.short(nothing)) == "" and "No cell" in writing.sizes(nothing)


def test_the_meaning_of_a_row_is_that_of_its_verdict():
    row = pd.Series({"verdict": "better (4 of 6 seeds)", "delta_ci_low": 0.5, "delta_ci_high": 3})
    assert writing.meaning(row, "FFN") == "so it is better than FFN"
    row["verdict"] = "no difference shown"
    assert "among all comparisons" in writing.meaning(row, "FFN")
    row["delta_ci_low"] = -0.5
    assert writing.meaning(row, "FFN") == "so no difference from FFN is shown"


def test_names_that_look_like_markup_are_shown_as_text():
    assert writing.plain("<script>|`x`") == "&#60;script&#62;&#124;&#96;x&#96;"


@pytest.mark.parametrize(
    "group, dataset, method, option, number, paper, delta",
    [
        ("pet", "fusion", "label-aug", "", 3, 94.95, 1.11),
        ("pet", "fine", "ffn", "", 3, 93.84, np.nan),
        ("pet", "fusion", "ffn", "", 3, np.nan, np.nan),
        ("pet-last", "fine", "label-aug", "", 3, 94.66, 0.82),
        ("pet", "fusion", "label-aug", "graph=small", 4, np.nan, -0.1),
        ("pet", "fusion", "label-aug-question", "graph=small", 4, np.nan, np.nan),
        ("arxiv-bert", "fusion", "label-aug", "", 2, 79.3, 3.8),
        ("arxiv-lstm", "fusion", "label-aug", "", 2, np.nan, np.nan),
        ("arxiv-bert", "fusion", "label-aug", "coarse=noisy-or", 2, np.nan, np.nan),
    ],
)
def test_the_papers_numbers_are_found(group, dataset, method, option, number, paper, delta):
    cell = {"group": group, "dataset": dataset, "method": method, "option": option}
    found = engine.paper_values("cpu", cell, number)
    assert [found["paper"], found["paper_delta"]] == pytest.approx([paper, delta], nan_ok=True)


def drawn(n: int, **more) -> pd.DataFrame:
    """A frame of n compared rows of one group."""
    names = list(engine.METHODS)[:n]
    row = {"group": "pet", "option": "", "decode": "", "metric": "accuracy", "role": "", "paper_delta": np.nan}
    rows = [
        row | {"dataset": "fusion" if i % 2 else "fine", "method": m, "delta": float(i)} for i, m in enumerate(names)
    ]
    frame = pd.DataFrame(rows).assign(n_seeds=6, n_test=10, verdict="better", **more)
    return frame.assign(delta_ci_low=frame["delta"] - 1, delta_ci_high=frame["delta"] + 1)


def test_a_question_shows_the_photographs_first_and_writes_the_figures_of_its_own_profile_alone(world):
    real = drawn(3).assign(data="all", name=["a", "b", "c"])
    (world / "results" / "cpu").mkdir()
    real.to_csv(beyond.table_path("cpu", "which"), index=False)
    real.assign(group="critters").to_csv(world / "results" / "toy" / "beyond_which.csv", index=False)
    rows, notes = beyond.question("toy", "which")
    assert rows["group"].tolist() == ["pet"] * 3 + ["critters"] * 3
    assert ["for the profile cpu" in note for note in notes] == [True, False] and "the committed table" in notes[1]
    for name, part in rows.groupby("group"):
        beyond.draw(part, "FFN", "message", f"beyond_which_{name}", "toy")
    assert [f.name for f in (world / "figures" / "toy").glob("*.png")] == ["beyond_which_critters.png"]


def test_a_figure_has_at_most_ten_rows_sorted_in_groups_under_its_message():
    frame = drawn(14)
    frame.loc[13, "role"] = "primary"
    figure = figures.draw_deltas(frame, "FFN")
    axes = figure.axes[0]
    assert len(figure.axes) == 1 and len(axes.get_yticks()) == 10
    shown = writing.key_rows(frame)
    assert 13 in shown.index and len(shown) == 10
    values = axes.collections[1].get_offsets()[:, 0].tolist()
    fine = shown[shown["dataset"] == "fine"]["delta"].sort_values(ascending=False).tolist()
    fusion = shown[shown["dataset"] == "fusion"]["delta"].sort_values(ascending=False).tolist()
    assert values == fine + fusion
    assert "10 of 10 rows better" in figure.get_suptitle() and "+13.00 [+12.00, +14.00]" in figure.get_suptitle()
    assert figures.draw_deltas(frame.assign(delta=np.nan), "FFN") is None
    with pytest.raises(ValueError, match="at most ten"):
        figures.draw_intervals(pd.DataFrame({"label": list("abcdefghijk")}), "", "")


def test_a_long_table_is_cut_into_figures_that_lose_no_row():
    frame = pd.concat([drawn(8).assign(option=f"o{i}") for i in range(3)])
    found = figures.pages(frame)
    assert all(len(page) <= 10 for page in found) and sum(map(len, found)) == len(frame) == 24


def test_every_method_has_one_colour():
    colours = [figures.colour(m) for m in figures.COLOURS]
    assert len(set(colours)) == len(colours) and all(figures.colour(m) for m in engine.METHODS)


def test_curves_are_one_line_a_method():
    frame = pd.concat([drawn(3).assign(share=s) for s in (0.5, 0.9)])
    axes = plt.subplots()[1]
    figures.draw_curves(axes, frame, "share")
    assert len(axes.get_legend_handles_labels()[1]) == 3
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "0.9"]
