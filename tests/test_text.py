"""Several labels a sample: likelihoods by enumeration, the one threshold, odd texts, and Table 2 out of records."""

from itertools import product

import numpy as np
import pytest
import torch
from companion.heads.direct import DirectPathsHead
from companion.heads.several_labels import FlatHead, PathsHead, SetHead, log_not
from companion.records.profiles import cell_settings
from companion.runs import fit_method, load_task, run_seed
from companion.scoring import above_threshold, choose_threshold
from companion.tables.engine import f1_values
from helpers import build, make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch.nn.functional import logsigmoid

from labelaug_core import text_encoders
from labelaug_core.files.tokens import MINILM, tokeniser
from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.text_encoders import BertEncoder, LSTMEncoder
from labelaug_core.training import Classifier, TrainingSettings

ODD = [
    "",
    " ",
    "Ведение заметок 心得",
    "x" * 100_000,
    "word " * 20_000,
    r"\begin{equation}\alpha_{i}^{2}$$\end{equation}",
]


@pytest.fixture
def small():
    """(graph, labels, n_fine): two archives with two categories each."""
    graph = load_graph("notes")
    kept = {"note", "sky", "sea", "sky.clouds", "sky.birds", "sea.tides", "sea.fish"}
    graph = graph.without(*(v for v in reversed(graph.nodes) if v not in kept))
    return graph, ["sky.clouds", "sky.birds", "sea.tides", "sea.fish", "sky", "sea"], 4


def archive_sets(fine: np.ndarray) -> np.ndarray:
    return np.stack([fine[:, :2].any(1), fine[:, 2:].any(1)], axis=1)


def test_path_likelihood_sums_to_one_and_a_coarse_sample_is_its_marginal(small):
    torch.manual_seed(0)
    head, f = PathsHead(*small, d=5, hidden=6).double(), torch.randn(1, 5, dtype=torch.double)

    def p(row, is_coarse):
        return torch.exp(-head.loss(f, torch.tensor([row]), is_coarse)).item()

    rows = [r for r in product([False, True], repeat=6) if r[4] >= (r[0] | r[1]) and r[5] >= (r[2] | r[3])]
    assert sum(p(r, False) for r in rows) == pytest.approx(1, abs=1e-5)
    for above in product([False, True], repeat=2):
        assert p([False] * 4 + list(above), True) == pytest.approx(
            sum(p(r, False) for r in rows if r[4:] == above), abs=1e-5
        )
    logp = head.log_probs(f)[0]
    for k in range(4):  # the product of its steps is a category's marginal
        assert logp[k].exp().item() == pytest.approx(sum(p(r, False) for r in rows if r[k]), abs=1e-5)


@st.composite
def random_trees(draw) -> tuple[LabelGraph, list[str], int]:
    """(graph, labels, n_fine): a tree of 1 to 6 nodes of which none compete; leaves are fine labels, inner nodes are
    fine or coarse ones, so that every node is a label and labels nest."""
    parents: dict[str, str] = {}
    for i in range(draw(st.integers(1, 6))):
        parents[f"n{i}"] = draw(st.sampled_from(["root", *parents]))
    inner = sorted(set(parents.values()) - {"root"})
    coarse = [v for v in inner if draw(st.booleans())]
    fine = draw(st.permutations([v for v in parents if v not in coarse]))
    groups = {f"g{draw(st.integers(0, 1))}": {} for _ in range(2)}
    groups = {g: {"exclusive": False, "nodes": {}} for g in groups}
    for v, above in parents.items():
        groups[draw(st.sampled_from(sorted(groups)))]["nodes"][v] = [above]
    groups = {g: spec for g, spec in groups.items() if spec["nodes"]}
    labels = {"fine": {"nodes": list(fine)}} | ({"coarse": {"nodes": coarse}} if coarse else {})
    return build({"root": "root", "groups": groups, "labels": labels}), [*fine, *coarse], len(fine)


@settings(max_examples=40, deadline=None)
@given(random_trees())
def test_path_likelihood_on_random_trees_with_labels_above_labels(tree):
    """All sets of nodes that hold the nodes above each of theirs: their probabilities sum to 1; a label's is that of
    being reached; a coarse sample's path loss is the marginal of its answers."""
    graph, labels, n_fine = tree
    torch.manual_seed(0)
    head, f = PathsHead(*tree, d=5, hidden=6).double(), make_features(1)
    above = [[labels.index(u) for u in graph.ancestors(v) - {graph.root}] for v in labels]
    rows = [
        r
        for r in product([False, True], repeat=len(labels))
        if all(r[a] for k in range(len(r)) if r[k] for a in above[k])
    ]
    p = torch.exp(-torch.stack([head.loss(f, torch.tensor([r])) for r in rows]))
    truth = torch.tensor(rows)
    torch.testing.assert_close(p.sum().item(), 1.0)
    for k in range(n_fine):
        torch.testing.assert_close(head.log_probs(f)[0, k].exp(), p[truth[:, k]].sum())
    asked = sorted({a for k in range(n_fine, len(labels)) for a in (k, *above[k])})  # coarse labels, what lies above
    for row in truth if asked else ():
        y = torch.zeros_like(row)
        y[n_fine:] = row[n_fine:]
        told = y.clone()  # what the coarse labels imply
        for k in y.nonzero()[:, 0].tolist():
            told[above[k]] = True
        same = (truth[:, asked] == told[asked]).all(1)
        torch.testing.assert_close(torch.exp(-head.loss(f, y[None], is_coarse=True)), p[same].sum())


@settings(max_examples=40, deadline=None)
@given(random_trees())
def test_direct_scores_are_a_softmax_over_all_sets_of_paths(tree):
    """By enumeration: sets of nodes that hold each node's parent and, for each node that is no fine label, a child."""
    graph, nodes, n_fine = tree
    torch.manual_seed(0)
    head, f = DirectPathsHead(graph, nodes[:n_fine], n_fine, d=5, share=0.5).double(), make_features(1)
    torch.nn.init.normal_(head.score.weight)
    z = dict(zip((p[-1] for p in head.tree.prefixes), head.scores(f)[0][0].tolist(), strict=True))
    sets = [{v for v in nodes if row[nodes.index(v)]} for row in product([False, True], repeat=len(nodes))]
    sets = [
        s
        for s in sets
        if all(set(graph.ancestors(v)) - {graph.root} <= s for v in s)
        and all(v in nodes[:n_fine] or s & set(graph.children(v)) for v in s)
    ]
    p = torch.tensor([sum(z[v] for v in s) for s in sets], dtype=torch.double).softmax(0)
    truth = torch.tensor([[v in s for v in nodes[:n_fine]] for s in sets])
    torch.testing.assert_close(torch.stack([torch.exp(-head.loss(f, row[None])) for row in truth]), p)
    for k, found in enumerate(head.predictions(f)["log_probs"][0].exp()):
        torch.testing.assert_close(found, p[truth[:, k]].sum())


def test_direct_scores_sum_over_the_sets_below_an_archive(small):
    torch.manual_seed(0)
    head, f = DirectPathsHead(*small, d=5, share=0.5).double(), make_features(1)
    torch.nn.init.normal_(head.score.weight)
    every = np.array(list(product([False, True], repeat=4)))
    p = np.exp([-head.loss(f, torch.tensor(row[None])).item() for row in every])
    for above in product([False, True], repeat=2):
        y = torch.tensor([[False] * 4 + list(above)])
        expected = p[(archive_sets(every) == above).all(1)].sum()
        assert np.exp(-head.loss(f, y, is_coarse=True).item()) == pytest.approx(expected)
    graph, labels, _ = small
    with pytest.raises(GraphError, match="not exactly one coarse label on the path of 'sea.tides', 'sea.fish'"):
        DirectPathsHead(graph, labels[:5], 4, 5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_direct_scores_of_several_labels_begin_as_ffn_joined_by_noisy_or(small, share):
    direct, ffn, f = DirectPathsHead(*small, 5, share), FlatHead(*small, d=5), make_features(3)
    at = [[p[-1] for p in direct.tree.prefixes].index(v) for v in small[1][:4]]
    ffn.load_state_dict({"score.weight": direct.score.weight[at], "score.bias": direct.score.bias[at]})
    direct, ffn = direct.double(), ffn.double()
    torch.testing.assert_close(direct.predictions(f)["log_probs"], ffn.predictions(f)["log_probs"])
    fine, coarse = torch.eye(6)[:3] > 0, torch.tensor([[False] * 4 + [True, False]] * 3)
    for y, is_coarse in ((fine[:, :4], False), (coarse, True)):
        torch.testing.assert_close(direct.loss(f, y, is_coarse), ffn.loss(f, y, is_coarse))
    direct.loss(f, fine[:, :4]).backward()
    inner = [i for i in range(len(direct.tree.prefixes)) if i not in at]
    assert bool(direct.score.weight.grad[inner].any()) == (share > 0)


def test_graphs_in_which_a_path_is_not_its_label_are_refused_with_all_offenders():
    groups = {
        "g": {"below": "r", "nodes": ["a", "b"]},
        "h": {"exclusive": False, "nodes": {v: ["a", "b"] for v in ("c", "d")}},
    }
    graph = build({"root": "r", "groups": groups, "labels": {"x": {"nodes": ["c", "d"]}}})
    with pytest.raises(GraphError, match="several paths: 'c', 'd'; give `exclusive: false` to 'g'"):
        PathsHead(graph, ["c", "d"], 2, 5)


def test_log_not_keeps_its_gradient_and_its_differences_in_float32():
    z = torch.arange(-80.0, 81.0, requires_grad=True)
    found = log_not(logsigmoid(z))
    torch.testing.assert_close(found, logsigmoid(-z), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(found.sum(), z)
    torch.testing.assert_close(gradient, -torch.sigmoid(z.detach()), rtol=1e-4, atol=0)
    assert (found.diff()[80:] < -0.4).all() and found.isfinite().all()
    certain = torch.zeros(1, requires_grad=True)  # log p rounds to 0: finite, and no NaN goes back
    log_not(certain).sum().backward()
    assert log_not(certain).item() < -80 and certain.grad.isfinite().all()


def test_a_sure_wrong_answer_is_corrected_however_sure_it_is(small):
    """At a score of 60 log p rounds to 0 in float32 unless it is kept as a small number; both coarse readings."""
    for head in (PathsHead(*small, d=5, hidden=6), PathsHead(*small, d=5, hidden=6, coarse="noisy-or")):
        with torch.no_grad():
            head.decoder.score.weight.zero_()
            head.decoder.score.bias.fill_(60.0)
        for y, is_coarse in (([0, 0, 0, 0, 0, 0], False), ([0, 0, 0, 0, 1, 0], True)):
            head.zero_grad()
            loss = head.loss(torch.zeros(1, 5), torch.tensor([y], dtype=torch.bool), is_coarse)
            loss.backward()
            gradient = head.decoder.score.bias.grad
            assert loss > 50 and gradient.isfinite().all() and gradient[small[0].index["sea"]] > 0.2


def test_an_archive_without_categories_is_left_out_of_noisy_or(small):
    graph, labels, _ = small
    few = [v for v in labels if not v.startswith("sea.")]  # no fine label lies below `sea`
    y = torch.tensor([[False, False, True, True], [False, False, True, False]])
    for head in (FlatHead(graph, few, 2, 5), PathsHead(graph, few, 2, 5, 6, coarse="noisy-or")):
        losses = [head.loss(torch.zeros(1, 5), row[None], is_coarse=True) for row in y]
        torch.testing.assert_close(*losses)
        assert losses[0].isfinite() and losses[0] < 5


def test_the_features_reach_the_first_state_unsquashed(small):
    """Eq. 1 mixes f_0 into f_1: behind a tanh no coordinate of f_1 could leave [-1, 1]."""
    torch.manual_seed(0)
    decoder = PathsHead(*small, d=5, hidden=64).decoder
    f_1 = decoder.step(torch.zeros(8, dtype=torch.long), decoder.first_state(10 * torch.randn(8, 5)))
    assert f_1.abs().max() > 2 and decoder.embedding.weight.std().item() == pytest.approx(0.1, abs=0.02)


def test_noisy_or_is_the_sum_over_all_sets_of_categories(small):
    torch.manual_seed(0)
    head, f = FlatHead(*small, d=5).double(), torch.randn(1, 5, dtype=torch.double)
    every = np.array(list(product([False, True], repeat=4)))
    p = np.exp([-head.loss(f, torch.tensor(row[None])).item() for row in every])
    assert p.sum() == pytest.approx(1)
    for above in product([False, True], repeat=2):
        y = torch.tensor([[False] * 4 + list(above)])
        expected = p[(archive_sets(every) == above).all(1)].sum()
        assert np.exp(-head.loss(f, y, is_coarse=True).item()) == pytest.approx(expected, abs=1e-5)


def test_where_the_archive_is_known_its_categories_teach_the_label_set_nothing(small):
    head = SetHead(*small[:2], small[2], 5)
    head.loss(torch.randn(1, 5), torch.tensor([[False] * 4 + [True, False]]), is_coarse=True).backward()
    taught = {v for v, g in zip(small[0].nodes, head.score.bias.grad, strict=True) if g != 0}
    assert taught == {"note", "sky", "sea", "sea.tides", "sea.fish"}  # no note of the sky alone is about fish


@pytest.mark.parametrize("head", [FlatHead, PathsHead])
def test_an_unknown_reading_of_coarse_is_named(small, head):
    with pytest.raises(ValueError, match="coarse must be .*'sideways'"):
        head(*small, 5, coarse="sideways")


def test_the_threshold_is_the_best_one_and_no_prediction_is_empty():
    rng = np.random.default_rng(0)
    y = rng.random((60, 7)) < 0.3
    logp = np.log(rng.random((60, 7)) * 0.5 + 0.5 * y).astype(np.float32)
    best = max(f1_score(y, above_threshold(logp, t), average="micro") for t in [*logp.ravel(), 1.0])
    chosen = above_threshold(logp, choose_threshold(logp, y))
    assert f1_score(y, chosen, average="micro") == pytest.approx(best) and chosen.any(1).all()
    assert above_threshold(logp, 1.0).sum() == 60


@pytest.mark.parametrize("data", [{"vocabulary": 50}, {"wordpieces": MINILM}])
def test_odd_texts_go_through(data):
    inputs = tokeniser(ODD, data | {"tokens": 16})(ODD)
    x = torch.from_numpy(inputs[np.arange(len(ODD))])
    assert x.shape == (len(ODD), 16) and x.dtype == torch.int64
    encoder = LSTMEncoder(50, 8, 8) if "vocabulary" in data else BertEncoder(pretrained=False)
    with torch.no_grad():
        out = encoder.eval()(x)
        alone = torch.cat([encoder(row[None]) for row in x])  # neither order nor padding matters
    assert out.shape == (len(ODD), encoder.dim) and out.isfinite().all()
    torch.testing.assert_close(out, alone, atol=1e-5, rtol=1e-4)


def test_the_lstm_is_a_bidirectional_one_over_packed_texts():
    torch.manual_seed(0)
    encoder, plain = LSTMEncoder(50, 8, 6).eval(), torch.nn.LSTM(8, 6, batch_first=True, bidirectional=True)
    weights = {f"{k}_reverse": v for k, v in encoder.from_end.state_dict().items()}
    plain.load_state_dict(encoder.from_start.state_dict() | weights)
    x, length = torch.randint(2, 50, (6, 9)), torch.tensor([9, 3, 1, 5, 7, 2])
    x[torch.arange(9) >= length[:, None]] = 0
    packed = torch.nn.utils.rnn.pack_padded_sequence(encoder.embedding(x), length, True, enforce_sorted=False)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(plain(packed)[0], True, padding_value=-torch.inf)
    torch.testing.assert_close(encoder(x), states.amax(1))


def test_bert_trains(small):
    torch.manual_seed(0)
    encoder = BertEncoder(pretrained=False, frozen=False)
    model = Classifier(encoder, lambda d: PathsHead(*small, d, 8), TrainingSettings(trunk=8))
    ids = torch.from_numpy(tokeniser([], {"wordpieces": MINILM, "tokens": 8})(["clouds", "a tide of fish"])[[0, 1]])
    model(ids, torch.eye(4, dtype=torch.bool)[:2]).backward()
    assert model.encoder.body.embeddings.word_embeddings.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-3), ("bfloat16", 2e-2)])
def test_the_last_layer_on_what_lies_before_it_is_the_whole_bert(dtype, atol):
    """Also for empty texts and texts that are cut; and only the last layer is there to be trained."""
    inputs = tokeniser([], {"wordpieces": MINILM, "tokens": 16})(ODD)
    x = torch.from_numpy(inputs[np.arange(len(ODD))])
    before = text_encoders.BeforeLastLayer(BertEncoder(dtype=dtype), 16).eval()(x)
    last = text_encoders.LastLayer(BertEncoder(dtype=dtype)).train()
    assert before.shape == (len(ODD), *(16, last.dim)) and not before[x == 0].any()
    with torch.no_grad():
        whole = BertEncoder(dtype=dtype).eval()(x)
    torch.testing.assert_close(last(before.half()).detach(), whole, atol=atol, rtol=0)
    last(before.half()).sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in last.named_parameters() if "key.bias" not in name)  # softmax: none


def test_tune_last_trains_the_last_layer_after_the_frozen_arm(tmp_path, monkeypatch):
    """A cell of arxiv-bert-last on made-up notes: it starts where the frozen arm of its seed ended, and moves on."""
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    given = cell_settings("cpu", "arxiv-bert-last", "fusion", "label-aug") | {"source": "notes"}
    given["data"] = {"join": True, "n_fine": 40, "n_coarse": 20, "n_test": 20, "tokens": 12, "wordpieces": MINILM}
    given["training"] |= {"steps": 6, "batch": 8, "coarse_batch": 8, "eval_every": 3}
    task = load_task(given)
    assert task.train.inputs[np.arange(2)].shape == (2, 12, 384) and task.head_first.train.inputs[[0]].shape == (1, 384)
    frozen = fit_method(given | {"encoder": given["encoder"] | {"tune": "frozen"}}, task.head_first, 0).model
    given["finetune"] = {"steps": 1, "eval_every": 1, "lr": 0.0, "lr_encoder": 0.0}
    record, _, still = run_seed(given, task, 0)
    assert all(torch.equal(still.head.state_dict()[k], v) for k, v in frozen.head.state_dict().items())
    given["finetune"]["lr_encoder"] = 0.001
    _, _, moved = run_seed(given, task, 0)
    assert not torch.equal(moved.encoder.layer.output.dense.weight, still.encoder.layer.output.dense.weight)
    assert record["parameters"] > 1_700_000


@pytest.fixture(scope="module")
def run():
    given = cell_settings("toy", "notes", "fusion", "label-aug")
    given["data"] |= {"n_fine": 60, "n_coarse": 60, "n_test": 50}
    given["training"] |= {"steps": 6, "batch": 8, "coarse_batch": 8, "eval_every": 3}
    task = load_task(given)
    return task, run_seed(given, task, 0), run_seed(given, task, 0)


def test_the_same_seed_gives_the_same_record_and_its_bits_give_its_scores(run):
    task, (record, kept, _), (again, kept_again, _) = run
    assert record["test"] == again["test"] and record["history"] == again["history"]
    assert all(np.array_equal(kept[k], kept_again[k]) for k in kept)
    predicted = np.unpackbits(kept["predicted"], axis=1, count=task.n_fine).astype(bool)
    assert np.array_equal(np.unpackbits(kept["y"], axis=1, count=task.n_fine), task.test.y)
    assert f1_values(predicted[None], task.test.y).mean() == pytest.approx(100 * record["test"]["f1"])


def test_the_direct_decoder_of_a_cell_has_the_cells_share(run):
    given = cell_settings("toy", "notes", "fusion", "label-aug") | {"method": "label-aug-direct"}
    given["training"] |= {"steps": 2, "batch": 8, "coarse_batch": 8, "eval_every": 2}
    for share in (0.0, 0.3):
        head = fit_method(given | {"head": {"hidden": 8, "share": share}}, run[0], 0).model.head
        assert head.rate.min().item() == pytest.approx(share) and head.rate.max().item() == 1
