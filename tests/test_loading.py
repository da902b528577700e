"""Inputs on their way to the model: worker processes, broken files, one encoding for all; and runs that were killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from companion.datasets import fetch
from companion.records import profiles
from companion.runs import load_task as load_task  # the killed run finds these two here
from companion.runs import run_seed as run_seed
from helpers import classifier, features_task
from PIL import Image
from test_training import HEADS, SETTINGS, train

from labelaug_core.data import DataError, Rows, Split
from labelaug_core.encoders import Augment, Identity, SmallCNN
from labelaug_core.files.cache import cached_features
from labelaug_core.files.images import ImageFiles
from labelaug_core.files.loading import Loader
from labelaug_core.files.tokens import MINILM, WordPieces
from labelaug_core.label_aug import PathHead
from labelaug_core.text_encoders import BertEncoder
from labelaug_core.training import Classifier, TrainingError, TrainingSettings, predict

TESTS = Path(__file__).parent


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """24 JPEG files, and a cache of their own."""
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(256, size=(24, 6, 8, 3), dtype=np.uint8)
    paths = [tmp_path / f"photo {i}.jpg" for i in range(24)]
    for path, p in zip(paths, pixels, strict=True):
        Image.fromarray(p).resize((80, 60)).save(path)
    return paths


class Deadly(ImageFiles):
    """Image files of which one, named `deadly`, ends whoever reads it, as a lack of memory would."""

    def read(self, path: Path) -> np.ndarray:
        if path.name == "deadly.jpg":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(path)


def photo_task(paths: list[Path], kind: type = ImageFiles):
    """The pet task on these files: 16 fine, 8 coarse."""
    task, images = features_task(), kind(paths, 32)
    fine, coarse = np.arange(16), np.arange(16, 24)
    ids = [p.name for p in paths]
    return replace(
        task,
        train=Split(Rows(images, fine), fine % task.n_fine, ids[:16]),
        coarse=Split(Rows(images, coarse), task.coarse.y[:8], ids[16:]),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_order_and_the_inputs_are_the_same_with_any_number_of_workers(photos, workers):
    images = ImageFiles(photos, 32)
    sources = [Rows(images, np.arange(20)), images]
    rng, torch_state = np.random.default_rng(0), torch.get_rng_state()
    steps = [(rng.permutation(20)[:5], rng.permutation(24)[:3]) for _ in range(7)]
    with Loader(sources, steps, 0) as alone, Loader(sources, steps, workers) as helped:
        for (rows, a), (same, b) in zip(alone, helped, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(rows, same, strict=True))
            assert all(torch.equal(x, y) and x.dtype == torch.uint8 for x, y in zip(a, b, strict=True))
    assert torch.equal(torch_state, torch.get_rng_state())  # workers take nothing from the seed's numbers


def test_training_gives_the_same_bits_with_and_without_workers(photos):
    task, found = photo_task(photos), []
    for workers in (0, 2):
        torch.manual_seed(0)
        settings = replace(
            SETTINGS, steps=4, batch=8, coarse_batch=4, eval_every=2, workers=workers, crop=0.5, colour=0.3
        )
        model = Classifier(SmallCNN(4), HEADS["algorithm-1"](task), settings)
        model, history = train(model, task, task.train, settings, 0)
        found.append((history, model.state_dict()))
    (one, weights), (two, same) = found
    assert one == two and all(torch.equal(weights[k], same[k]) for k in weights)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_one_error_that_names_it(photos, workers):
    photos[21].write_bytes(photos[21].read_bytes()[:300])
    task, settings = photo_task(photos), replace(SETTINGS, workers=workers)
    with pytest.raises(DataError, match=r"photo 21\.jpg: cannot be read as an image .*replace or delete"):
        train(Classifier(SmallCNN(4), HEADS["ffn"](task), settings), task, task.train, settings, 0)
    with pytest.raises(DataError, match=r"photo 21\.jpg: cannot be read"):
        cached_features(SmallCNN(4), ImageFiles(photos, 32), "hash", batch=4)
    assert not list((photos[0].parent / "cache").glob("*"))


def test_a_killed_worker_is_one_error_that_names_the_file_it_read(photos):
    photos[18] = photos[18].rename(photos[18].with_name("deadly.jpg"))
    task, settings = photo_task(photos, Deadly), replace(SETTINGS, workers=2)
    message = r"^a worker process was killed while it read \S*deadly\.jpg; .*set `workers` lower than 2$"
    with pytest.raises(DataError, match=message):
        train(Classifier(SmallCNN(4), HEADS["ffn"](task), settings), task, task.train, settings, 0)
    with pytest.raises(DataError, match="killed while it read .*deadly"):
        cached_features(SmallCNN(4), Deadly(photos, 32), "hash", batch=4)


def test_two_processes_on_an_empty_cache_encode_once(photos):
    code = (
        "import sys, torch, pathlib, time; from labelaug_core.files.cache import cached_features as c\n"
        "from labelaug_core.encoders import SmallCNN; from labelaug_core.files.images import ImageFiles\n"
        "class Slow(SmallCNN):\n"
        "    def forward(self, x):\n"
        "        time.sleep(0.3); open(sys.argv[1] + '/encoded', 'a').write(f'{len(x)} '); return super().forward(x)\n"
        "torch.manual_seed(0); folder = pathlib.Path(sys.argv[1])\n"
        "print(float(c(Slow(4), ImageFiles(sorted(folder.glob('*.jpg')), 32), 'hash', batch=12).sum()))\n"
    )
    command = [sys.executable, "-c", code, str(photos[0].parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    printed = {process.communicate(timeout=120)[0] for process in both}
    assert len(printed) == 1 and printed != {""} and (photos[0].parent / "encoded").read_text() == "12 12 "
    assert [p.suffix for p in (photos[0].parent / "cache").iterdir()] == [".npy"]


def test_a_large_jpeg_is_decoded_at_about_the_size_that_is_needed(tmp_path):
    """To the eye the same: a gradient differs from the one that was decoded whole by less than two of 255."""
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    Image.fromarray(np.stack([np.tile(ramp, (1200, 1))] * 3, 2)).save(file := tmp_path / "large.jpg")
    with Image.open(file) as whole:
        expected = np.asarray(whole.crop((200, 0, 1400, 1200)).resize((100, 100), Image.Resampling.BICUBIC))
    begin = time.process_time()
    found = ImageFiles([file], 100)[np.arange(1)][0]
    seconds = time.process_time() - begin
    begin = time.process_time()
    ImageFiles([file], 1100)[np.arange(1)]
    assert abs(found.astype(int) - expected).max() <= 2 and seconds < time.process_time() - begin


# -- a killed run goes on ------

RUN = """
import json, pathlib, sys, test_loading as t
settings, seed = t.killed_settings(sys.argv[2]), 3
run, predictions, _ = t.run_seed(settings, t.load_task(settings), seed)
keys = ("data", "history", "validation", "test", "parameters")
t.np.savez(sys.argv[1], record=json.dumps({k: run[k] for k in keys}, sort_keys=True), **predictions)
"""


def killed_settings(method: str) -> dict:
    """A small cell whose encoder has batch norm and whose loss draws numbers."""
    settings = json.loads(json.dumps(profiles.cell_settings("toy", "critters", "fusion", method)))
    settings["data"] |= {"n_fine": 6, "n_coarse": 4, "n_test": 4}
    settings["encoder"] |= {"width": 8, "tune": "all"}
    settings["training"] |= {"steps": 30, "eval_every": 3, "trunk": 16, "checkpoint": True, "crop": 0.7, "colour": 0.2}
    return settings


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not_killed(tmp_path):
    """Of Pseudo Labels: two trainings, the teacher's is over when the other one is killed."""
    method, paths = "pseudo-labels", os.pathsep.join([str(TESTS), *sys.path[1:]])

    def start(name: str) -> subprocess.Popen:
        given = os.environ | {"PYTHONPATH": paths, "LABELAUG_CACHE": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", RUN, tmp_path / f"{name}.npz", method], env=given)

    def step() -> int:
        """The last step whose state the killed run has kept."""
        for file in (tmp_path / "killed").glob(f"checkpoint-*/{method}-all.safetensors"):
            with safetensors.safe_open(file, "pt") as kept:
                return json.loads(kept.metadata()["json"])["said"]["step"]
        return 0

    process = start("killed")
    while process.poll() is None and step() < 9:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL and 9 <= step() < 30
    assert not (tmp_path / "killed.npz").exists()
    assert start("killed").wait(300) == 0 and start("whole").wait(300) == 0
    with np.load(tmp_path / "killed.npz") as killed, np.load(tmp_path / "whole.npz") as whole:
        assert killed.files == whole.files and all(np.array_equal(killed[k], whole[k]) for k in whole.files)
    assert not list(tmp_path.glob("*/checkpoint-*"))


def test_a_damaged_checkpoint_is_not_used(tmp_path):
    task = features_task()
    torch.manual_seed(0)
    expected = train(classifier(task, HEADS["ffn"](task)), task.fine_only(), task.train, SETTINGS, 0)[1]
    kept = tmp_path / "state.safetensors"
    for content in (b"", b"no safetensors", b"\x80\x04K\x01."):
        kept.write_bytes(content)
        torch.manual_seed(0)
        model = classifier(task, HEADS["ffn"](task))
        assert train(model, task.fine_only(), task.train, SETTINGS, 0, kept)[1] == expected
    before = kept.stat().st_mtime_ns  # whole now: the run is over, and nothing is trained again
    again = classifier(task, HEADS["ffn"](task))
    assert train(again, task.fine_only(), task.train, SETTINGS, 0, kept)[1] == expected
    assert kept.stat().st_mtime_ns == before
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


# -- fine-tuning ------


@pytest.mark.parametrize("name", ["ffn", "label-set", "expected-reward", "marginal", "question"])
def test_accumulated_parts_give_the_numbers_of_the_whole_batch(name):
    task, found = features_task(), []
    task = task.fine_only() if name == "ffn" else task
    for parts in (1, 4):
        model = classifier(task, HEADS[name](task))
        found.append(train(model, task, task.train, replace(SETTINGS, accumulate=parts, eval_every=1), 0)[1])
    for key in ("loss", "val_nll"):
        a, b = ([row[key] for row in history] for history in found)
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="batch: 16.* samples cannot be shared by 1 processes, in 3 parts each"):
        train(classifier(task, HEADS[name](task)), task, task.train, replace(SETTINGS, accumulate=3), 0)


def test_trainings_of_two_precisions_in_one_process_and_heads_stay_in_float32():
    seen = set()

    class Watched(PathHead):
        """Notes the kind of number in which the head and its block softmax compute."""

        def loss(self, features, y, is_coarse=False):
            scores = torch.nn.functional.linear(features, torch.ones(2, features.shape[1]))
            seen.update({features.dtype, scores.dtype})
            return super().loss(features, y, is_coarse)

    task, losses = features_task(), []
    for precision in ("bf16", "no", "bf16"):
        settings = replace(SETTINGS, mixed_precision=precision, steps=6, eval_every=3)
        torch.manual_seed(0)
        encoder = Identity(task.train.inputs.shape[1])
        model = Classifier(encoder, lambda d: Watched(task.graph, task.labels, task.n_fine, d), settings)
        losses.append([row["loss"] for row in train(model, task, task.train, settings, 0)[1]])
        assert predict(model, task.train)["log_probs"].dtype == np.float32
    assert seen == {torch.float32}
    assert losses[0] == losses[2] != losses[1] and np.allclose(losses[0], losses[1], atol=0.05)


def test_augmented_views_are_each_image_s_own_and_for_training_alone():
    torch.manual_seed(0)
    image = torch.randint(256, (1, 16, 16, 3), dtype=torch.uint8).expand(5, -1, -1, -1)
    views = Augment(0.5, 0.2)(image)
    assert views.shape == image.shape and views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in views}) == 5
    for kept in (Augment(1.0, 0.0)(image), Augment(0.5, 0.2)(features := torch.randn(3, 4))):
        assert kept is image or kept is features
    task = features_task()
    model = Classifier(SmallCNN(4), HEADS["ffn"](task), TrainingSettings(crop=0.5, colour=0.2)).eval()
    assert torch.equal(model.features(image), model.features(image))
    y = torch.zeros(5, dtype=torch.long)
    assert model(image, y) != model(image, y)


def test_channels_last_survives_a_checkpoint_and_changes_no_number_much(photos, tmp_path):
    task, losses = photo_task(photos), []
    for channels_last in (False, True):
        settings = replace(SETTINGS, steps=4, batch=8, coarse_batch=4, eval_every=2, channels_last=channels_last)
        torch.manual_seed(0)
        model = Classifier(SmallCNN(8), HEADS["question"](task), settings)
        kept = tmp_path / f"{channels_last}.safetensors"
        losses.append([row["loss"] for row in train(model, task, task.train, settings, 0, kept)[1]])
        again = Classifier(SmallCNN(8), HEADS["question"](task), settings)
        longer = replace(settings, steps=6)
        assert len(train(again, task, task.train, longer, 0, kept)[1]) == 3
    assert again.encoder.body[3].weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(*losses, atol=1e-2)


def test_a_full_memory_says_which_setting_to_change():
    task = features_task()

    class Greedy(torch.nn.Linear):
        def loss(self, features, y, is_coarse=False):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"memory is full with 16 \+ 8 a step: raise accumulate \(it is 1;"):
        train(classifier(task, lambda d: Greedy(d, 1)), task, task.train, SETTINGS, 0)


# -- texts, and what must be fetched ------


def test_word_pieces_are_made_once_and_read_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    texts = [f"A study of {'very ' * i}small things" for i in range(30)]
    lazy, kept, again = (WordPieces(texts, MINILM, 16, keep=keep) for keep in (False, True, True))
    rows = np.array([3, 29, 0])
    np.testing.assert_array_equal(kept[rows], lazy[rows])
    assert kept[rows].dtype == np.int64 and isinstance(kept.kept, np.memmap) and kept.key == lazy.key
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    np.testing.assert_array_equal(again[np.arange(30)], lazy[np.arange(30)])
    assert file.stat().st_mtime_ns == before


def test_a_batch_of_texts_in_parts_of_about_one_length_has_the_same_features_and_gradients():
    torch.manual_seed(0)
    whole = BertEncoder(pretrained=False, frozen=False, budget=10_000).eval()
    parts = BertEncoder(pretrained=False, frozen=False, budget=20).eval()
    parts.load_state_dict(whole.state_dict())
    x = torch.randint(5, 500, (5, 12))
    for row, length in enumerate((12, 3, 7, 3, 10)):
        x[row, length:] = 0
    found = []
    for encoder in (whole, parts):
        features = encoder(x)
        features.square().sum().backward()
        found.append((features, [p.grad for p in encoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-2)


def test_weights_that_are_not_here_are_one_line_that_says_what_to_do(tmp_path):
    code = (
        "from labelaug_core.data import DataError; from labelaug_core.encoders import build_encoder as b\n"
        "for given in ({'name': 'resnet18.a1_in1k'}, {'name': 'bert', 'weights': 'bert-base-uncased'}):\n"
        "    try: b(given | {'tune': 'all'})\n"
        "    except DataError as error: print(error)\n"
    )
    given = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    lines = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["resnet18.a1_in1k", "bert-base-uncased"]
    assert all(
        "its weights are missing or cannot be read (" in line and "run once with a network" in line for line in lines
    )


def test_a_download_that_fails_says_what_to_do_and_what_is_there_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_DATA", str(tmp_path / "data"))

    def fails(root: Path) -> None:
        raise OSError("no route to host")

    with pytest.raises(DataError, match=r"^Pets could not be downloaded \(no route to host\); .* copy it to .*/pets$"):
        fetch("Pets", "pets/last.txt", fails)
    (tmp_path / "data" / "pets").mkdir()
    (tmp_path / "data" / "pets" / "last.txt").touch()
    fetch("Pets", "pets/last.txt", fails)
