"""LabelAug: label-aug with scikit-learn's conventions, from samples and class names to an explained prediction."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from labelaug_core.data import DataError, Split, Task, class_indices, joint_labels, listed, printable
from labelaug_core.encoders import Identity
from labelaug_core.explain import Explanation, explain
from labelaug_core.files import saved
from labelaug_core.files.checks import check_values, optional, whole
from labelaug_core.files.inputs import class_texts, encoder_of, features_of, in_memory, is_frozen, reader_of
from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.label_aug import PathHead, PathSettings
from labelaug_core.training import Classifier, TrainingSettings, hold_out, predict, to_tensor, train


class LabelAug(ClassifierMixin, BaseEstimator):
    """A classifier of fine labels that walks down a label graph; samples with coarse labels can be joined.

    Parameters
    ----------
    graph : LabelGraph
        Its first label set is the fine one, whose classes are predicted; the second, if any, is the coarse one.
    encoder : None, str or nn.Module
        None: X is an array of features, numbers [N, d]. Photos: `efficientnet-lite0`, a name of timm, or `small-cnn`
        (from random weights, for drawings). Texts: `minilm`, another BERT of Hugging Face, or `lstm` (from random
        weights). A module: forward(batch) -> [B, d]; it is given arrays as they are, photos as uint8 [B, S, S, 3].
    seed : int
        Decides the first weights, the validation part, the batches and dropout.
    objective : str
        `algorithm-1` (the paper's), `expected-reward`, `marginal` or `question`. None: `question`, or that of `head` if
        one is given (PathSettings has `algorithm-1`).
    steps, batch, lr, coarse_weight
        As in TrainingSettings. None: those of `training`.
    tune : None, "frozen" or "all"
        Is the encoder trained? None: not if it comes pretrained by its name; a module if a parameter of it asks for a
        gradient. A frozen one reads each sample once.
    image_size : int
        Side in pixels to which photos are scaled that are given as paths. None: what the encoder was made for; 32 for
        `small-cnn`.
    tokens : int
        So many words or word pieces of a text are read, at least 2.
    training : TrainingSettings
        All other settings of training. None: its defaults.
    head : PathSettings
        All other settings of label-aug. None: its defaults, with the objective `question`.

    Learned by `fit`: `classes_` (sorted; the columns of predict_proba), `history_` (a DataFrame, a row an evaluation on
    the validation part), `model_` (the Classifier), `n_features_in_` (of feature arrays).

    Samples are paths of images, uint8 images [N, S, S, 3], texts, or numbers [N, d]. A class is given by its name in
    the graph, in any spelling that differs in case, `_` and `-` alone; ints are names if the graph has such. Wrong data
    are one DataError (a ValueError) that names all offenders; classes that the graph does not have, one GraphError.
    """

    def __init__(
        self,
        graph: LabelGraph,
        encoder: str | nn.Module | None = None,
        seed: int = 0,
        objective: str | None = None,
        steps: int | None = None,
        batch: int | None = None,
        lr: float | None = None,
        coarse_weight: float | None = None,
        tune: str | None = None,
        image_size: int | None = None,
        tokens: int = 128,
        training: TrainingSettings | None = None,
        head: PathSettings | None = None,
    ):
        self.graph = graph
        self.encoder = encoder
        self.seed = seed
        self.objective = objective
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.coarse_weight = coarse_weight
        self.tune = tune
        self.image_size = image_size
        self.tokens = tokens
        self.training = training
        self.head = head

    def training_settings(self) -> TrainingSettings:
        """`training` with the parameters that are given beside it. Raises ValueError naming all wrong ones."""
        given = {k: getattr(self, k) for k in ("steps", "batch", "lr", "coarse_weight")}
        return replace(self.training or TrainingSettings(), **{k: v for k, v in given.items() if v is not None})

    def make_head(self, labels: list[str], n_fine: int, d: int) -> nn.Module:
        """What is trained behind the encoder; a subclass may give another Head (notebook 99 has two).

        labels: the n_fine fine nodes, then those of the coarse set alone; d: the size of the features.
        """
        settings = self.head or PathSettings(objective="question")
        settings = replace(settings, objective=self.objective or settings.objective)
        return PathHead(self.graph, labels, n_fine, d, settings)

    def fit(self, X, y, coarse: tuple | None = None) -> LabelAug:
        """Train on samples X and their class names y; coarse: (samples, class names) of the graph's second label set.

        A part of X (TrainingSettings.val_fraction) is held out and chooses the model. A class of the graph without a
        sample is a warning: it keeps its column of predict_proba, but nothing teaches it.
        """
        parts = self._parts(X, y, coarse)
        settings, frozen = self.training_settings(), is_frozen(self.encoder, self.tune)
        reader = reader_of(self.encoder, self.image_size, self.tokens)
        datasets = list(self.graph.labels)[: len(parts)]
        labels, n_fine = joint_labels(self.graph, datasets[0], datasets[1] if len(parts) > 1 else None)
        samples = [reader.samples(some, f"{part}X") for part, (some, _) in parts.items()]
        names = [class_texts(c, len(s), f"{part}y") for (part, (_, c)), s in zip(parts.items(), samples, strict=True)]
        numbers = [class_indices(self.graph, d, labels, some) for d, some in zip(datasets, names, strict=True)]
        if len(samples[0]) < 2:
            raise DataError("X: one sample; two are needed, because a part of them is held out to choose the model")
        warn_of_empty(self.graph, datasets, labels, numbers)
        reader.learn(samples)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            encoder = encoder_of(self.encoder, reader, frozen, samples[0])
            inputs = [features_of(encoder, reader, s) if frozen else in_memory(reader.inputs(s)) for s in samples]
            ids = [sample_ids(some, part) for some, part in zip(samples, parts, strict=True)]
            train_split, *coarse_split = (Split(*columns) for columns in zip(inputs, numbers, ids, strict=True))
            used, val = hold_out(train_split, settings.val_fraction, self.seed)
            task = Task(self.graph, labels, n_fine, used, val, *coarse_split)
            model = self.classifier(Identity(encoder.dim) if frozen else encoder, labels, n_fine)
            model, history = train(model, task, val, settings, self.seed, accuracy, "val_accuracy")
        model.encoder = encoder.to(next(model.parameters()).device)
        self.model_, self.reader_, self.labels_, self.n_fine_ = model, reader, labels, n_fine
        self.history_ = pd.DataFrame([row | {"chosen": "chosen" in row} for row in history])
        self.classes_ = class_array(list(self.graph.labels[datasets[0]]), y)
        if reader.n_features:
            self.n_features_in_ = reader.n_features
        return self

    def predict_proba(self, X) -> np.ndarray:
        """The exact probability of each class, over all paths to it: float64 [N, classes], columns as in classes_."""
        p = np.exp(self._found(X)["log_probs"].astype(np.float64))
        fine = list(next(iter(self.graph.labels.values())))
        p = p[:, [fine.index(str(c)) for c in self.classes_]]
        return p / p.sum(1, keepdims=True)

    def predict(self, X) -> np.ndarray:
        """The most probable class of each sample, [N]."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]

    def score(self, X, y) -> float:
        """Share of samples whose most probable class is theirs; y in any spelling that the graph takes."""
        found = self._found(X)["log_probs"].argmax(1)
        fine = next(iter(self.graph.labels))
        return float(np.mean(found == class_indices(self.graph, fine, self.labels_, class_texts(y, len(found)))))

    def explain(self, X) -> list[Explanation]:
        """The decoded path (Algorithm 2) of each sample; `print` shows it step by step."""
        split, device = self._split(X), next(self.model_.parameters()).device
        rows = np.array_split(np.arange(len(split)), -(-len(split) // 64))
        return [e for r in rows for e in explain(self.model_, to_tensor(split, r, device))]

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder (see labelaug_core.files.saved); files of these names there are replaced."""
        check_is_fitted(self, "model_")
        saved.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, encoder: nn.Module | None = None) -> LabelAug:
        """The model that was saved in a folder, on the CPU; nothing in the folder is run.

        encoder: a module like the one that it was trained with, if that was no name; its weights are in the folder.

        Raises DataError naming every file that is missing or damaged, ValueError where the module is missing.
        """
        return saved.load(cls, Path(folder), encoder)

    def classifier(self, encoder: nn.Module, labels: list[str], n_fine: int) -> Classifier:
        """Encoder, trunk and head with fresh weights."""
        return Classifier(encoder, lambda d: self.make_head(labels, n_fine, d), self.training_settings())

    def _split(self, X) -> Split:
        check_is_fitted(self, "model_")
        samples = self.reader_.samples(X)
        return Split(self.reader_.inputs(samples), np.zeros(len(samples), dtype=np.int64), sample_ids(samples, ""))

    def _found(self, X) -> dict[str, np.ndarray]:
        split = self._split(X)
        return predict(self.model_, split)

    def _parts(self, X, y, coarse) -> dict[str, tuple]:
        """What was given, by a word for messages. Raises ValueError naming all wrong parameters; GraphError."""
        check_values(self, {
            "graph": ("a LabelGraph (see load_graph)", lambda v: isinstance(v, LabelGraph)),
            "seed": whole(0),
            "image_size": optional(whole(1)),
            "tokens": whole(2),
            "training": optional(("TrainingSettings", lambda v: isinstance(v, TrainingSettings))),
            "head": optional(("PathSettings", lambda v: isinstance(v, PathSettings))),
        })  # fmt: skip
        if coarse is None:
            return {"": (X, y)}
        if not isinstance(coarse, (tuple, list)) or len(coarse) != 2:
            raise DataError(f"coarse: expected (samples, class names), got {type(coarse).__name__}")
        if len(self.graph.labels) < 2:
            raise GraphError(f"{self.graph.name}: it has no coarse label set: name it second under `labels`")
        return {"": (X, y), "coarse ": coarse}


def accuracy(found: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    """The score by which training chooses: the share of samples whose most probable label is theirs."""
    return {"val_accuracy": float(np.mean(found["log_probs"].argmax(1) == y))}


def warn_of_empty(graph: LabelGraph, datasets: list[str], labels: list[str], numbers: list[np.ndarray]) -> None:
    """One warning that names all classes without a sample."""
    for dataset, y in zip(datasets, numbers, strict=True):
        present = {labels[k] for k in np.unique(y)}
        if empty := [repr(c) for c, v in graph.labels[dataset].items() if v not in present]:
            warnings.warn(f"{dataset}: nothing teaches {listed(empty)}: no sample of it was given", stacklevel=3)


def sample_ids(samples, part: str) -> list[str]:
    """A name for each sample, for messages: its path, or its number."""
    if isinstance(samples, list) and isinstance(samples[0], Path):
        return [printable(path) for path in samples]
    return [f"{part}sample {i}" for i in range(len(samples))]


def class_array(names: list[str], y) -> np.ndarray:
    """The classes, sorted as scikit-learn's scores expect; ints where y is of ints and every name is one."""
    ints = all(not isinstance(c, str) for c in y) and all(
        c.isascii() and c.isdecimal() and str(int(c)) == c for c in names
    )
    return np.array(sorted(map(int, names) if ints else names))
