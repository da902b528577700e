"""What a user gives LabelAug (features, photos, texts, class names), checked, and as the encoder reads it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labelaug_core.data import DataError, Rows, Texts, content_hash, listed
from labelaug_core.encoders import Identity, Still, build_encoder
from labelaug_core.files.cache import cached_features, progress
from labelaug_core.files.images import ImageFiles, check_images
from labelaug_core.files.tokens import MINILM, WordPieces, vocabulary, word_numbers

SMALL_IMAGE, IMAGE, WIDTH = 32, 224, 16  # sides in pixels for small-cnn and for all others; width of small-cnn
VOCABULARY = 20_000  # the LSTM numbers at most so many words
MEMORY = 2**30  # bytes of photos that are kept in memory while an encoder is trained


class OwnEncoder(Still):
    """A user's module as an encoder: a copy of it, forward(batch) -> [B, dim]. Frozen: it stays in evaluation mode."""

    def __init__(self, body: nn.Module, dim: int, frozen: bool):
        super().__init__()
        self.body, self.dim, self.still = copy.deepcopy(body).cpu(), dim, frozen
        if frozen:
            self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """A batch of inputs -> [B, d]."""
        return self.body(x).float()


def output_size(body: nn.Module, batch: Tensor) -> int:
    """The d of a module that makes [B, d] of a batch [B, ...], found by trying. Raises ValueError for other shapes."""
    with torch.no_grad():
        found = copy.deepcopy(body).cpu().eval()(batch)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(batch):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"encoder: of a batch {list(batch.shape)} it makes {shape}; it must make [{len(batch)}, d]")
    return found.shape[1]


@dataclass
class Reader:
    """Turns samples into inputs of an encoder. Kept with the model, so that new samples are read as those of training.

    kind: features, images, texts, or module (numbers of any shape, or photos).
    """

    kind: str
    image_size: int = IMAGE  # photos: shorter side to this, then the centre
    tokens: int = 128  # a text is read so far
    bert: str = ""  # whose word pieces a text becomes
    words: list[str] | None = None  # an LSTM's vocabulary
    n_features: int | None = None  # columns of a feature array
    size: list[int] | None = None  # of a sample, where it is an image or of a user's own form

    def samples(self, X, name: str = "X"):
        """The samples as a list of paths or texts, or as an array. Raises one DataError naming all that cannot be used.

        X: paths, uint8 images [N, S, S, 3], texts, or numbers [N, d]; also ImageFiles, Texts and tables of pandas.
        """
        X = unwrapped(X)
        if isinstance(X, (str, Path)) or not hasattr(X, "__len__"):
            raise DataError(f"{name}: expected a list or an array, a sample an entry, got one {type(X).__name__}")
        if hasattr(X, "toarray"):
            raise DataError(f"{name}: a sparse matrix; give {name}.toarray()")
        if not len(X):
            raise DataError(f"{name}: no samples")
        numbers = isinstance(X, np.ndarray) and X.dtype.kind in "fiub"
        if self.kind == "texts":
            return text_list(X, name, (str,), "a text")
        if self.kind in ("images", "module") and not numbers and any(isinstance(x, (str, Path)) for x in X):
            paths = [Path(p).expanduser() for p in text_list(X, name, (str, Path), "the path of an image")]
            check_images(paths)
            return paths
        if self.kind == "features" and not numbers and any(isinstance(x, (str, Path)) for x in X):
            known = "give one (photos: 'efficientnet-lite0'; texts: 'minilm')"
            raise DataError(f"{name}: without an encoder it must be numbers [N, d], got texts or paths; {known}")
        return self.array(X, name)

    def array(self, X, name: str) -> np.ndarray:
        """Images uint8 [N, S, S, 3] or finite numbers [N, ...]. Raises DataError naming the rule and all wrong rows."""
        try:
            array = np.asarray(X)
            if array.dtype.kind in "Of" or self.kind == "features" and array.dtype.kind in "biu":
                with np.errstate(over="ignore"):  # infinite then, and named below
                    array = array.astype(np.float32)
        except (ValueError, TypeError) as error:
            raise DataError(f"{name}: expected numbers, every sample of the same size ({error})") from None
        shape = f"{array.dtype} {list(array.shape)}"
        if self.kind == "images" and (array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3):
            raise DataError(f"{name}: expected paths of images, or images as uint8 [N, height, width, 3], got {shape}")
        if self.kind == "features" and array.ndim != 2:
            raise DataError(f"{name}: without an encoder it must be numbers [N, d], got {shape}")
        if array.dtype.kind not in "fiu":
            raise DataError(f"{name}: expected numbers, got {shape}")
        wrong = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
        if len(wrong):
            raise DataError(f"{name}: NaN or infinite values in row {listed(map(str, wrong))}; fill or remove them")
        if self.kind == "features" and self.n_features not in (None, array.shape[1]):
            raise DataError(f"X has {array.shape[1]} features, but LabelAug is expecting {self.n_features} features")
        size = list(array.shape[1:])
        if self.size not in (None, size):
            raise DataError(f"{name}: samples of size {size}, but the model was trained on {self.size}")
        return array

    def learn(self, samples: list) -> None:
        """Keep what new samples must agree with: the number of features, the size, or the vocabulary of an LSTM.

        samples: those of the fine set and, if there is one, of the coarse set. Raises DataError if their sizes differ.
        """
        photo = (self.image_size, self.image_size, 3)
        sizes = [list(photo if isinstance(some, list) else some.shape[1:]) for some in samples]
        if self.kind != "texts" and sizes[0] != sizes[-1]:
            raise DataError(f"X, coarse X: samples must be of one size in both sets, got {sizes[0]} and {sizes[-1]}")
        if self.kind == "features":
            self.n_features = samples[0].shape[1]
        elif self.kind != "texts":
            self.size = sizes[0]
        if self.kind == "texts" and not self.bert:
            self.words = vocabulary([text for part in samples for text in part], VOCABULARY, self.tokens)

    def inputs(self, samples):
        """Samples -> what a Split holds: an index array gives a batch for the encoder."""
        if self.bert:
            return WordPieces(samples, self.bert, self.tokens)
        if self.words is not None:
            return word_numbers(samples, self.words, self.tokens)
        if isinstance(samples, list):
            return ImageFiles(samples, self.image_size)
        return Rows(samples, np.arange(len(samples)))


def unwrapped(X):
    """Tables of pandas as arrays; what joining.folder reads as its paths or texts."""
    if isinstance(X, Rows):
        return np.asarray(unwrapped(X.inputs))[X.rows]
    X = X.paths if isinstance(X, ImageFiles) else X.texts if isinstance(X, Texts) else X
    return X.to_numpy() if hasattr(X, "to_numpy") else X


def text_list(X, name: str, types: tuple[type, ...], what: str) -> list:
    """X as a list. Raises DataError naming all entries that are of another type."""
    entries = list(X)
    if wrong := [f"{i} ({x!r:.40})" for i, x in enumerate(entries) if not isinstance(x, types)]:
        raise DataError(f"{name}: every entry must be {what}; these are not: {listed(wrong)}")
    return entries


def class_texts(y, n: int, name: str = "y") -> list[str]:
    """Class names [n] as texts; whole numbers are names, too. Raises DataError naming all that are neither."""
    if isinstance(y, str) or not hasattr(y, "__len__"):
        raise DataError(f"{name}: expected a list of class names, one a sample, got {y!r:.40}")
    entries = [c.item() if isinstance(c, np.generic) else c for c in y]
    wrong = [f"{i} ({c!r:.40})" for i, c in enumerate(entries) if isinstance(c, bool) or not isinstance(c, (str, int))]
    if wrong:
        raise DataError(
            f"{name}: a class is its name in the graph, a text; these entries are not names: {listed(wrong)}"
        )
    if len(entries) != n:
        raise DataError(f"{n} samples, but {name} has {len(entries)} classes; give each sample one")
    return [str(c) for c in entries]


def reader_of(encoder, image_size: int | None, tokens: int) -> Reader:
    """How samples are read for an encoder, a name or a module. Raises ValueError for a name that is not known."""
    if encoder is None:
        return Reader("features")
    if isinstance(encoder, nn.Module):
        return Reader("module", image_size or IMAGE)
    if not isinstance(encoder, str):
        raise ValueError(f"encoder: expected None, a name or an nn.Module, got {type(encoder).__name__}")
    if encoder in ("small-cnn", "efficientnet-lite0"):
        return Reader("images", image_size or (SMALL_IMAGE if encoder == "small-cnn" else IMAGE))
    if encoder in ("lstm", "minilm"):
        return Reader("texts", tokens=tokens, bert=MINILM if encoder == "minilm" else "")
    import timm

    if timm.is_model(encoder):
        return Reader("images", image_size or timm.get_pretrained_cfg(encoder).input_size[-1])
    if "bert" in encoder.lower() or "minilm" in encoder.lower():
        return Reader("texts", tokens=tokens, bert=encoder)
    known = "small-cnn, efficientnet-lite0, a model of timm, lstm, minilm, or a BERT of Hugging Face"
    raise ValueError(f"encoder: {encoder!r} is not known; known are {known}")


def is_frozen(encoder, tune: str | None) -> bool:
    """Is the encoder frozen? tune: frozen, all, or None.

    None: what comes pretrained is frozen, what starts from random weights is trained, and a module is trained if one of
    its parameters asks for a gradient. Raises ValueError for another word, and for frozen random weights.
    """
    if tune not in (None, "frozen", "all"):
        raise ValueError(f"tune must be None, frozen or all, got {tune!r}")
    if encoder in (None, "small-cnn", "lstm"):
        if tune == "frozen" and encoder:
            raise ValueError(f"tune: {encoder} starts from random weights; it is trained, not frozen")
        return False
    if tune is None and isinstance(encoder, nn.Module):
        return not any(p.requires_grad for p in encoder.parameters())
    return tune != "all"


def encoder_of(encoder, reader: Reader, frozen: bool, samples=None, pretrained: bool = True) -> nn.Module:
    """The encoder itself, with `dim`.

    samples: what a user's module is tried on; pretrained=False: the weights are loaded from a file afterwards.
    """
    if encoder is None:
        return Identity(reader.n_features)
    if isinstance(encoder, nn.Module):
        batch = torch.from_numpy(reader.inputs(samples[:2])[np.arange(2)])
        return OwnEncoder(encoder, output_size(encoder, batch), frozen)
    if encoder == "small-cnn":
        return build_encoder({"name": encoder, "width": WIDTH})
    if encoder == "lstm":
        return build_encoder({"name": encoder, "vocabulary": len(reader.words) + 2})
    tune = "frozen" if frozen else "all"
    if reader.bert:  # its shape comes with its weights
        return build_encoder({"name": "bert", "weights": reader.bert, "tune": tune})
    return build_encoder({"name": encoder, "pretrained": pretrained, "tune": tune})


def features_of(encoder: nn.Module, reader: Reader, samples) -> np.ndarray:
    """What a frozen encoder makes of all samples, [N, d]. Kept on disk, but for a user's module: it has no name."""
    inputs = reader.inputs(samples)
    if not isinstance(encoder, OwnEncoder):
        return cached_features(encoder, inputs, content_hash(*(samples if isinstance(samples, list) else [samples])))
    encoder.eval()
    with torch.no_grad():
        rows = np.array_split(np.arange(len(inputs)), -(-len(inputs) // 64))
        return np.concatenate([encoder(torch.from_numpy(inputs[r])).numpy() for r in progress(rows, "encoding")])


def in_memory(inputs):
    """Photos that fit are read once, not in every step."""
    small = isinstance(inputs, ImageFiles) and len(inputs) * 3 * inputs.size**2 <= MEMORY
    return inputs[np.arange(len(inputs))] if small else inputs
