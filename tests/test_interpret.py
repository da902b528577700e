"""Explanations and what is measured about decisions: checked by hand, by enumeration and against other libraries."""

import numpy as np
import pandas as pd
import pytest
import torch
from companion import interpret
from companion.drawing import choose_for_figure_4
from companion.tables.statistics import crossed
from helpers import build
from torch import nn

from labelaug_core.data import Split
from labelaug_core.explain import best_through, explain
from labelaug_core.label_aug import PathHead, PathSettings
from labelaug_core.training import Classifier, TrainingSettings

GRAPH = build()  # Brit is Shorthair and comes in two colours: [Solid, Tabby] is its open group
FINE = GRAPH.label_nodes("fine")


class Encoder(nn.Module):
    """Batch normalisation, so that a sample would depend on its batch if the model were left in training mode."""

    dim = 5

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(x)


def classifier(seed: int = 2) -> Classifier:
    torch.manual_seed(seed)
    settings = PathSettings(hidden=6)
    model = Classifier(Encoder(), lambda d: PathHead(GRAPH, FINE, len(FINE), d, settings), TrainingSettings(trunk=16))
    with torch.no_grad():
        model.head.decoder.score.weight *= 8  # far from uniform
        model.head.decoder.start.weight *= 8
    return model.double().train()


def images(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("through", [None, "color"])
def test_an_explanation_depends_on_its_own_sample_alone(through):
    model, x = classifier(), images(12)
    model.features(x)  # leaves the batch's statistics in the normalisation
    together = explain(model, x, through)
    for i, e in enumerate(together):
        alone = explain(model.train(), x[i : i + 1], through)[0]
        elsewhere = explain(model, torch.cat([images(3, seed=9), x[i : i + 1]]), through)[3]
        for other in (alone, elsewhere):
            assert other.path == e.path and other.other_path == e.other_path and other.greedy == e.greedy
            assert [(s.answer, s.runner_up) for s in other.steps] == [(s.answer, s.runner_up) for s in e.steps]
            assert [s.p for s in other.steps] == pytest.approx([s.p for s in e.steps], abs=1e-12)
            assert (other.label_p, other.path_p) == pytest.approx((e.label_p, e.path_p), abs=1e-12)
    assert len({e.path for e in together}) > 1  # the samples do differ


def test_the_numbers_of_an_explanation_are_those_of_the_tree():
    model, x = classifier().eval(), images(8)
    tree = model.head.fine_tree
    slot_logp = model.head.decoder.slot_log_probs(model.features(x), tree)
    path_p = tree.path_log_probs(slot_logp).exp()
    for i, e in enumerate(explain(model, x)):
        path = tree.paths.index(e.path)
        same = [q for q, other in enumerate(tree.paths) if other[-1] == e.path[-1]]
        assert e.path_p == pytest.approx(path_p[i, path].item())
        assert e.label_p == pytest.approx(path_p[i, same].sum().item())
        assert np.prod([s.p for s in e.steps]) == pytest.approx(tree.answer_log_probs(slot_logp)[i, path].exp().item())
        assert [s.answer for s in e.steps] == list(e.path[1:])
        rest = [q for q in same if q != path]
        assert e.other_path == (tree.paths[max(rest, key=lambda q: path_p[i, q])] if rest else None)
        assert all(s.p + s.runner_up_p == pytest.approx(1) for s in e.steps if s.runner_up)  # two answers a question
        assert all(f"{s.answer:18s} {s.p:.2f}" in str(e) for s in e.steps)


def test_the_best_path_through_a_question_is_found_by_enumeration():
    tree = classifier().head.fine_tree
    logp, label = torch.randn(40, len(tree.paths)).log_softmax(1), torch.arange(40) % 3
    for group in ("hair", "color", "species"):
        best = best_through(tree, logp, label, group)
        for i, found in enumerate(best.tolist()):
            members = {v for v, g in GRAPH.group.items() if g == group}
            ways = [q for q, p in enumerate(tree.paths) if p[-1] == FINE[label[i]] and members & set(p)]
            assert found == (max(ways, key=lambda q: logp[i, q]) if ways else -1)


def test_figure_4_chooses_by_rule():
    model, x = classifier(), images(300)
    explanations = explain(model, x, "color")
    chosen = choose_for_figure_4(explanations, "Tabby", 8, seed=3)
    assert chosen == choose_for_figure_4(explanations, "Tabby", 8, seed=3) and len(set(chosen)) == 8
    assert all("Tabby" in explanations[i].path for i in chosen)
    assert sum(explanations[i].deterministic for i in chosen) == 4  # there are enough of both kinds
    assert choose_for_figure_4(explanations, "no such node", 8, seed=3) == []


# Two Brits, one Coon, one Pug. Paths: 0 Short>Brit, 1 Short... are looked up by their nodes.
def by_hand():
    tree = classifier().head.fine_tree
    path = {p[1:]: q for q, p in enumerate(tree.paths)}
    truth = [{"species": "cat", "hair": "Short", "color": c} for c in ("Solid", "Tabby")]
    truth += [{"species": "cat", "hair": "Long", "color": "Tabby"}, {"species": "dog"}]
    best = [("cat", "Solid", "Brit"), ("cat", "Solid", "Brit"), ("cat", "Tabby", "Coon"), ("dog", "Pug")]
    logp = np.full((4, len(tree.paths)), -9.0)
    logp[range(4), [path[p] for p in best]] = -0.1
    way = [("cat", "Solid", "Brit"), ("cat", "Short", "Brit"), ("cat", "Tabby", "Coon"), ("dog", "Pug")]
    label = np.array([FINE.index(p[-1]) for p in best])
    return tree, truth, {"label": label, "path": np.array([path[p] for p in way]), "path_logp": logp}


def test_path_correctness_by_hand():
    tree, truth, p = by_hand()
    assert interpret.open_groups(GRAPH, FINE) == {"color": {"Brit": 2}}
    rows = interpret.path_correctness(GRAPH, tree, [p, p], truth, ["Solid"]).set_index(["question", "node"])
    row = rows.loc["color", ""]
    assert row[["rate", "chance", "majority", "rate_n"]].tolist() == [0.5, 0.5, 0.5, 2]  # the second Brit is a tabby
    assert row[["greedy", "greedy_rate", "greedy_rate_n"]].tolist() == [0.25, 1, 1]  # one path of four asks the colour
    assert rows.loc["all", ""].equals(row.rename(("all", "")))  # the only open group
    assert rows.loc[("color", "Solid"), ["rate", "greedy", "greedy_rate"]].tolist() == [0.5, 0.25, 1]
    assert row["rate_low"] <= row["rate"] <= row["rate_high"]
    unknown = interpret.path_correctness(GRAPH, tree, [{k: p[k] for k in ("label", "path")}])
    assert "rate" not in unknown and unknown.set_index("question").loc["color", "greedy"] == 0.25


def test_a_wrong_species_is_not_counted():
    tree, truth, p = by_hand()
    rows = interpret.path_correctness(GRAPH, tree, [p], [*truth[:1], {"species": "dog"}, *truth[2:]])
    assert rows.set_index("question").loc["color", ["rate", "rate_n"]].tolist() == [1, 1]


def test_the_interval_of_a_share_covers_it_and_shrinks():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 5000):
        counted = rng.random((5, n)) < 0.5
        value, low, high = interpret.share(counted & (rng.random((5, n)) < 0.7), counted)
        assert low < value < high and abs(value - 0.7) < 0.1
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    assert np.isnan(interpret.share(np.zeros((2, 3)), np.zeros((2, 3)))).all()
    value, low, high = interpret.share(np.ones((4, 10)), np.ones((4, 10)))  # ten of ten images, as each seed says
    assert (value, high) == (1, 1) and low == pytest.approx(0.025 ** (1 / 10))


def test_the_interval_of_a_share_is_that_of_a_mean_where_every_sample_is_counted():
    right = np.random.default_rng(1).random((5, 200)) < 0.7
    by_hand = crossed(right)
    assert interpret.share(right, np.ones_like(right)) == pytest.approx((by_hand.mean, by_hand.low, by_hand.high))


def test_answers_are_the_decoders_own_probabilities():
    model, x = classifier().eval(), images(4)
    tree = model.head.fine_tree
    with torch.no_grad():
        slot_logp = model.head.decoder.slot_log_probs(model.features(x), tree)
        logp = tree.path_log_probs(slot_logp).numpy()
    _, truth, p = by_hand()
    found = interpret.answers(tree, logp, truth, p["label"], interpret.open_groups(GRAPH, FINE))
    for group, asked in (("species", 4), ("color", 3), ("hair", 3)):
        rows = found[found["question"] == group]
        slots = [e for e, q in enumerate(tree.slot_block) if tree.block_group[q] == group]
        assert len(rows) == asked
        assert rows["p"].tolist() == pytest.approx(slot_logp[:asked, slots].exp().max(1).values.tolist())
    assert found[found["question"] == "color"]["open"].tolist() == [True, True, False]


def test_how_much_a_question_is_used_by_enumeration():
    model, x = classifier().eval(), images(60)
    split = Split(x.numpy(), np.arange(60) % len(FINE), [str(i) for i in range(60)])
    tree = model.head.fine_tree
    paths = tree.path_log_probs(model.head.decoder.slot_log_probs(model.features(x), tree)).exp()
    wanted = {"asked": 0, "greedy": 0, "alone": 0, "exact": 0}
    for e, p, y in zip(explain(model, x), paths, split.y, strict=True):
        alone, exact = dict.fromkeys(FINE, 0.0), dict.fromkeys(FINE, 0.0)
        for path, value in zip(tree.paths, p.tolist(), strict=True):
            exact[path[-1]] += value
            alone[path[-1]] += value * any(GRAPH.group.get(v) == "color" for v in path)
        wanted["asked"] += any(GRAPH.group.get(v) == "color" for v in e.path)
        wanted["greedy"] += e.path[-1] == FINE[y]
        wanted["alone"] += max(alone, key=alone.get) == FINE[y]
        wanted["exact"] += max(exact, key=exact.get) == FINE[y]
    assert interpret.asked(model, split, "color", batch=7) == {k: 100 * n / 60 for k, n in wanted.items()}
    assert 0 < wanted["asked"] < 60 and wanted["alone"] != wanted["exact"]


def test_calibration_of_right_and_of_too_high_probabilities():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    stated, observed, size, ece = interpret.reliability(p, rng.random(40_000) < p)
    assert np.abs(stated - observed).max() < 0.03 and ece < 0.02 and size.sum() == 40_000
    assert interpret.reliability(np.full(100, 0.9), np.arange(100) < 60)[-1] == pytest.approx(0.3)


def test_mistakes_on_the_graph_by_hand():
    index = {v: i for i, v in enumerate(FINE)}
    y = np.array([index["Brit"], index["Brit"], index["Coon"], index["Pug"]])
    right = interpret.mistakes(GRAPH, FINE, y, y)
    assert right["wrong"] == 0 and right["hierarchical_precision"] == right["hierarchical_recall"] == 1
    near = interpret.mistakes(GRAPH, FINE, np.array([index["Coon"]]), y[:1])  # both may be tabbies
    assert near["lca_distance"] == 1
    # with themselves Brit has 5 ancestors (cat, Short, Solid, Tabby), Coon 4 (cat, Long, Tabby); cat, Tabby are shared
    assert near["hierarchical_precision"] == pytest.approx(2 / 4) and near["hierarchical_recall"] == pytest.approx(
        2 / 5
    )
    far = interpret.mistakes(GRAPH, FINE, np.array([index["Pug"]]), y[:1])
    assert far["lca_distance"] == 3 and far["hierarchical_recall"] == 0


def ratings(**verdicts) -> pd.DataFrame:
    rows = [(f"i{k}", rater, v) for rater, vs in verdicts.items() for k, v in enumerate(vs)]
    return pd.DataFrame(rows, columns=["image", "rater", "verdict"])


def test_ratings_by_eye():
    assert interpret.rating_summary(ratings()) == {"verdict": "not rated"}
    row = interpret.rating_summary(ratings(ann=["yes"] * 8 + ["no"] * 2 + ["cannot tell"]))
    assert row["rate"] == 0.8 and row["n_images"] == 11 and row["cannot_tell"] == 1 and "kappa" not in row
    assert (row["rate_low"], row["rate_high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson (1927), 8 of 10
    row = interpret.rating_summary(ratings(ann=["yes", "yes", "no", "no"], bob=["yes", "no", "no", "no"]))
    assert row["kappa"] == pytest.approx(0.5)  # agreement 3/4, by chance 1/2
    assert row["cannot_tell"] == 1 and row["rate"] == pytest.approx(1 / 3)  # the image they differ on
