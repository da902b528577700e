"""Training end to end on small data: repeatable, able to fit, careful with bad losses; encoders and their caches."""

import inspect
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from companion.heads.baselines import FFNHead, LabelSetHead
from companion.methods import METHODS
from companion.records import profiles
from companion.runs import fit_method, load_task, run_seed, trained
from companion.scoring import OneLabel, temperature
from helpers import classifier, features_task

from labelaug_core import encoders, training
from labelaug_core.data import DataError, Split
from labelaug_core.encoders import SmallCNN
from labelaug_core.files.cache import cached_features
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import PathHead, PathSettings
from labelaug_core.training import TrainingError, TrainingSettings, batches, hold_out, make_optimizer, predict

SETTINGS = TrainingSettings(steps=20, batch=16, coarse_batch=8, lr=0.01, weight_decay=0.0, eval_every=10, cpu=True)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("LABELAUG_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def small(method: str, dataset: str = "fine") -> dict:
    """The toy profile's settings, made small enough for a test."""
    settings = json.loads(json.dumps(profiles.cell_settings("toy", "critters", dataset, method)))
    settings["data"] |= {"n_fine": 6, "n_coarse": 4, "n_test": 4}
    settings["encoder"] |= {"width": 8}
    settings["training"] |= {"steps": 12, "eval_every": 6, "trunk": 16}
    return settings


def train(model, task, val: Split, settings: TrainingSettings, seed: int, checkpoint=None):
    """The training loop, scored by the exact label probabilities."""
    return training.train(model, task, val, settings, seed, OneLabel().score, OneLabel.criterion, checkpoint)


HEADS = {
    "ffn": lambda t: lambda d: FFNHead(t.graph, t.labels, t.n_fine, d),
    "label-set": lambda t: lambda d: LabelSetHead(t.graph, t.labels, t.n_fine, d),
    **{
        o: (lambda t, o=o: lambda d: PathHead(t.graph, t.labels, t.n_fine, d, PathSettings(32, o)))
        for o in ("algorithm-1", "expected-reward", "marginal", "question")
    },
}


@pytest.mark.parametrize("name", HEADS)
def test_one_batch_overfits(name):
    task = features_task(32).fine_only()
    model, _ = train(
        classifier(task, HEADS[name](task)),
        task,
        task.train,
        replace(SETTINGS, steps=150, batch=32, eval_every=150),
        0,
    )
    assert (predict(model, task.train)["log_probs"].argmax(1) == task.train.y).mean() > 0.95


@pytest.mark.parametrize("method, dataset", [("ffn", "fine"), ("label-aug", "fusion-attributes")])
def test_the_same_seed_twice_gives_the_same_record(method, dataset):
    settings = small(method, dataset)
    (a, pa, _), (b, pb, _) = (run_seed(settings, load_task(settings), 3) for _ in "ab")
    for key in ("test", "history", "data"):
        assert a[key] == b[key], key
    assert all((pa[k] == pb[k]).all() for k in pa)
    c, _, _ = run_seed(settings, load_task(settings), 4)
    assert c["history"] != a["history"]


@pytest.mark.parametrize("name", ["label-set", "algorithm-1"])
@pytest.mark.parametrize("part", ["train", "coarse"])
def test_an_input_that_is_not_a_number_is_named(name, part):
    task = features_task()
    spoilt = replace(getattr(task, part), inputs=task.train.inputs.copy(), ids=[f"{part} {i}" for i in range(48)])
    spoilt.inputs[3], spoilt.inputs[40] = np.nan, np.inf
    task = replace(task, **{part: spoilt})
    with pytest.raises(TrainingError, match=rf"step \d: an input is not a finite number in {part} (3|40)"):
        train(
            classifier(task, HEADS[name](task)), task if part == "coarse" else task.fine_only(), task.test, SETTINGS, 0
        )


@pytest.mark.parametrize("name", ["label-set", "algorithm-1"])
def test_a_loss_that_is_not_a_number_names_step_and_batch(name):
    task = features_task()
    model = classifier(task, HEADS[name](task))
    next(model.head.parameters()).data[:] = np.nan  # weights that ran away
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; the batch holds image \d+.* and image \d+"):
        train(model, task, task.train, SETTINGS, 0)


def test_a_prediction_that_is_not_a_number_is_named_and_not_recorded():
    settings = json.loads(json.dumps(profiles.cell_settings("cpu", "pet", "fine", "ffn")))
    settings["training"] |= {"steps": 4, "eval_every": 2}
    task = features_task(80).fine_only()
    test = replace(task.test, inputs=task.test.inputs.copy())
    test.inputs[17] = np.nan
    with pytest.raises(TrainingError, match="the prediction is not a number for image 17$"):
        run_seed(settings, replace(task, test=test), 0)


def test_validation_is_held_out_of_the_training_data_and_the_test_set_is_not_touched():
    task = features_task(200)
    fit, val = hold_out(task.train, 0.2, seed=1)
    assert not set(fit.ids) & set(val.ids) and set(fit.ids) | set(val.ids) == set(task.train.ids)
    assert (fit.inputs[np.arange(3)] == task.train.inputs[[task.train.ids.index(i) for i in fit.ids[:3]]]).all()


def test_the_chosen_model_is_the_latest_within_one_standard_error():
    task = features_task()
    _, history = train(
        classifier(task, HEADS["ffn"](task)), task.fine_only(), task.train, replace(SETTINGS, steps=60), 0
    )
    best = max(row["val_accuracy"] for row in history)
    error = (best * (1 - best) / len(task.train)) ** 0.5
    chosen = [row for row in history if row.get("chosen")]
    assert chosen == [[row for row in history if row["val_accuracy"] >= best - error][-1]]


def test_a_class_gives_its_share_to_the_validation_part():
    y = np.repeat(np.arange(5), [20, 20, 10, 5, 5])
    split = Split(np.zeros((60, 1)), y, [str(i) for i in range(60)])
    for seed in range(20):
        _, val = hold_out(split, 0.2, seed)
        share = np.bincount(val.y, minlength=5)
        assert len(val) == 12 and (abs(share - [4, 4, 2, 1, 1]) <= 1).all()
    rare = replace(split, y=np.r_[np.zeros(59, dtype=int), 1])  # a class of one: drawn from all alike
    assert len(hold_out(rare, 0.2, 0)[1]) == 12
    one, other = (hold_out(split, 0.2, seed)[1].ids for seed in (0, 1))
    assert one != other and one == hold_out(split, 0.2, 0)[1].ids


def test_weights_decay_and_biases_do_not_and_the_encoder_has_its_own_rate():
    task = features_task()
    model = classifier(task, HEADS["question"](task))
    model.encoder.scale = torch.nn.Linear(2, 2)
    groups = make_optimizer(model, replace(SETTINGS, lr_encoder=0.5, weight_decay=0.1)).param_groups
    found = {(g["lr"], g["weight_decay"], p.ndim > 1) for g in groups for p in g["params"]}
    assert found == {(lr, 0.1 * matrix, matrix) for lr in (0.01, 0.5) for matrix in (True, False)}
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_every_setting_says_what_it_is():
    for settings in (TrainingSettings, PathSettings):
        lines = inspect.getsource(settings).splitlines()
        for field in fields(settings):
            line = next(x for x in lines if x.startswith(f"    {field.name}: "))
            assert "  # " in line, line


def test_batches_are_passes_over_all_rows():
    drawn = [next(g) for g in [batches(10, 4, np.random.default_rng(0))] for _ in range(5)]
    assert np.bincount(np.concatenate(drawn)).tolist() == [2] * 10


def test_a_fusion_takes_as_many_fine_steps_and_coarse_batches_come_beside():
    task, seen = features_task(), []
    model = classifier(task, HEADS["marginal"](task))
    forward = model.forward
    model.forward = lambda *parts: seen.append([len(p) for p in parts]) or forward(*parts)
    train(model, task, task.train, replace(SETTINGS, steps=3), 0)
    assert seen == [[16, 16, 8, 8]] * 3


def test_label_set_marks_the_nodes_of_all_paths():
    graph, breed = load_graph("pet"), "British Shorthair"
    breeds = graph.label_nodes("oxford-iiit-pet")
    row = breeds.index(breed)
    target = LabelSetHead(graph, breeds, 37, 8).target[row]
    assert {graph.nodes[i] for i in target.nonzero()[:, 0]} == {breed} | graph.ancestors(breed)
    weights = LabelSetHead(graph, breeds, 37, 8, uncertain="ignore").weight[row]
    assert weights[graph.index["Tabby-Color"]] == 0 and weights[graph.index["Shorthair"]] == 1


class Drawings:
    """A few images in memory with the interface of ImageFiles, counting how often they are read."""

    key = "drawings"

    def __init__(self, n: int, size: int = 32):
        self.images, self.read = np.random.default_rng(0).integers(255, size=(n, size, size, 3), dtype=np.uint8), 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        self.read += len(rows)
        return self.images[rows]


def test_lite0_weights_load_and_features_are_computed_once_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    encoder, images = encoders.build_encoder({"name": "efficientnet-lite0", "tune": "frozen"}), Drawings(5, 64)
    assert not any(p.requires_grad for p in encoder.parameters())
    first = cached_features(encoder, images, "hash", batch=2)
    again = cached_features(encoder, images, "hash", batch=2)
    assert images.read == 5 and isinstance(again, np.memmap) and first.shape == (5, 1280)
    with torch.no_grad():
        alone = encoder(torch.from_numpy(images.images[3:4])).numpy()
    np.testing.assert_allclose(first[3:4], alone, atol=1e-4)
    cached_features(encoder, images, "other content")
    assert images.read == 10


def test_a_truncated_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    encoder, images = SmallCNN(4), Drawings(6)
    whole = np.array(cached_features(encoder, images, "hash"))
    file = next(tmp_path.glob("features-*.npy"))
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(cached_features(encoder, images, "hash"), whole)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "method", ["ffn", "label-aug", "label-aug-expected", "label-aug-marginal", "label-aug-question"]
)
def test_the_cpu_profile_runs_on_cached_features(method):
    settings = json.loads(json.dumps(profiles.cell_settings("cpu", "pet", "fine", method)))
    settings["training"] |= {"steps": 4, "eval_every": 2}
    record, predictions, _ = run_seed(settings, features_task(80).fine_only(), 0)
    assert len(predictions["exact"]) == 80 and 0 <= record["test"]["accuracy"] <= 1
    assert ("greedy" in predictions) == (method != "ffn")


def test_the_paper_profile_takes_two_steps_with_random_weights():
    """EfficientNet-B4, fine-tuned under Accelerate: two steps on tiny drawings (no weights are downloaded)."""
    settings = json.loads(json.dumps(profiles.cell_settings("paper", "pet", "fusion", "label-aug")))
    settings["encoder"] |= {"pretrained": False}
    settings["training"] |= {
        "steps": 2,
        "eval_every": 1,
        "batch": 2,
        "coarse_batch": 2,
        "mixed_precision": "no",
        "cpu": True,
    }
    task = features_task(74)
    images = Split(Drawings(74, 48).images, np.arange(74) % 37, task.train.ids)
    task = replace(
        task, train=images, test=images.take(np.arange(4)), coarse=Split(images.inputs, task.coarse.y, images.ids)
    )
    record, predictions, model = run_seed(settings, task, 0)
    assert model.encoder.dim == 1792 and next(model.encoder.parameters()).requires_grad
    assert [row["step"] for row in record["history"]] == [1, 2] and len(predictions["path"]) == 4


def test_fine_tuning_trains_every_layer_and_keeps_the_statistics_of_a_pretrained_batch_norm():
    images = torch.from_numpy(Drawings(4, 64).images)
    for pretrained in (True, False):
        given = {"name": "efficientnet-lite0", "pretrained": pretrained, "tune": "all"}
        encoder = encoders.build_encoder(given).train()
        assert encoder.training and all(p.requires_grad for p in encoder.parameters())
        before = {k: v.clone() for k, v in encoder.state_dict().items() if "running" in k}
        encoder(images).sum().backward()
        assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in before.items()) == pretrained
        assert all(p.grad is not None for p in encoder.parameters())  # also the weights and biases of batch norm


def test_impossible_settings_are_refused_all_at_once():
    wrong = {"steps": 1.5, "lr": "0.1", "val_fraction": 1.5, "eval_every": 0, "mixed_precision": "fp16", "workers": -1}
    with pytest.raises(ValueError, match="steps .* 1.5; eval_every .* 0; lr .*'0.1'; val_.* 1.5; mixed_.*'fp16'; work"):
        TrainingSettings(**wrong)


def test_training_the_last_stage_starts_from_the_frozen_arm_and_changes_the_features(tmp_path, monkeypatch):
    """Zero steps of it would be the frozen arm: same activations, same trunk, same head."""
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    whole = encoders.build_encoder({"name": "efficientnet-lite0", "tune": "last"})
    front, images = encoders.BeforeLastStage(whole, 64), Drawings(40, 64)
    activations = cached_features(front, images, "hash", dtype=np.float16)
    assert activations.shape == (40, *front.dim) and activations.dtype == np.float16
    features = cached_features(whole, images, "hash")
    last = encoders.LastStage(whole).train()
    with torch.no_grad():
        np.testing.assert_allclose(last(torch.from_numpy(activations[:])).numpy(), features, atol=5e-3)
    assert not last.body.training and all(p.requires_grad for p in last.parameters())

    task = features_task(40)
    split = replace(task.train, inputs=features)
    frozen = replace(task, train=split, test=split).fine_only()
    tuned = replace(frozen, train=replace(split, inputs=activations), test=replace(split, inputs=activations))
    settings = json.loads(json.dumps(profiles.cell_settings("cpu", "pet", "fine", "ffn")))
    settings["encoder"]["tune"] = "last"
    settings["training"] |= {"steps": 6, "eval_every": 3, "batch": 8, "trunk": 16, "dropout": 0.0}
    settings["finetune"] = {"steps": 2, "eval_every": 1, "lr": 0.0, "lr_encoder": 0.0, "weight_decay": 0.0}
    first = fit_method(settings | {"encoder": settings["encoder"] | {"tune": "frozen"}}, frozen, 0).model
    model = fit_method(settings, replace(tuned, head_first=frozen), 0).model
    for a, b in zip(first.head.parameters(), model.head.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    settings["finetune"] |= {"lr_encoder": 0.001}
    moved = fit_method(settings, replace(tuned, head_first=frozen), 0).model
    assert any((a != b).any() for a, b in zip(moved.encoder.parameters(), last.parameters(), strict=True))


def test_ffn_on_a_fusion_uses_the_images_of_the_shared_labels_and_says_where_there_are_none():
    task = features_task(40)
    with pytest.raises(DataError, match="no label of pet is in both"):
        OneLabel().build_head(METHODS["ffn"], task, {}, 0)
    y = np.where(np.arange(40) < 10, 3, task.n_fine)
    _, used = OneLabel().build_head(METHODS["ffn"], replace(task, coarse=replace(task.coarse, y=y)), {}, 0)
    assert len(used.coarse) == 10 and (used.coarse.y == 3).all()


def test_the_temperature_is_found_and_leaves_the_classes_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    sharp = torch.from_numpy(3 * logits).log_softmax(1).numpy()
    assert temperature(sharp, y) == pytest.approx(3, rel=0.1)


def test_a_model_kept_for_a_figure_is_the_trained_one_and_is_made_anew_when_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    settings = profiles.cell_settings("toy", "critters", "fusion", "label-aug", "steps=3,eval_every=3")
    first, used = trained(settings, seed=1)
    kept = next(tmp_path.glob("model-*.safetensors"))
    assert kept.stat().st_mtime_ns and not list(tmp_path.glob("*.partial"))
    whole, before = kept.read_bytes(), kept.stat().st_mtime_ns
    again, task = trained(settings, seed=1)
    assert kept.stat().st_mtime_ns == before and task.train.ids == used.train.ids
    kept.write_bytes(whole[: len(whole) // 2])
    anew, _ = trained(settings, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]) and torch.equal(value, anew.state_dict()[name])
    assert len(kept.read_bytes()) == len(whole)
