"""Which samples are trained on, and their inputs on the way to the model: worker processes read image files ahead."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from labelaug_core.data import DataError, Rows, Split
from labelaug_core.files.images import ImageFiles

AHEAD = 2  # steps that each worker reads ahead


class TrainingError(RuntimeError):
    """Training cannot go on (a value is NaN or infinite); the message names the step and the samples."""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def are_files(inputs) -> bool:
    """Are these image files, which take long to read?"""
    return isinstance(inputs.inputs if isinstance(inputs, Rows) else inputs, ImageFiles)


def file_name(inputs, row: int) -> str:
    """The path of one image of ImageFiles, or of some rows of it."""
    return str(inputs.inputs.paths[inputs.rows[row]] if isinstance(inputs, Rows) else inputs.paths[row])


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Training part and validation part of the training data, drawn with the seed.

    With one label a sample each class gives its share, where every class has at least two samples and the part has
    room for all classes; else the rows are drawn from all samples alike.
    """
    rng, n = np.random.default_rng([seed, 3]), len(train)
    order, size = rng.permutation(n), min(max(1, round(fraction * n)), n - 1)
    counts = np.bincount(train.y) if train.y.ndim == 1 else np.zeros(1, dtype=int)
    present = counts[counts > 0]
    if len(present) and present.min() >= 2 and size >= len(present):
        y = train.y[order]
        turn = np.empty(n)  # how far into its class each sample stands, in 0..1
        for k in np.flatnonzero(counts):
            turn[y == k] = (np.arange(counts[k]) + rng.random()) / counts[k]
        order = order[np.argsort(turn, kind="stable")]
    return train.take(np.sort(order[size:])), train.take(np.sort(order[:size]))


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of row numbers [size]: one shuffled pass after another, short ends carried over."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:size]
        queue = queue[size:]


class Reading(Dataset):
    """What a worker does: read some rows of each source. It notes what it reads, so that its end can be explained."""

    def __init__(self, sources: list, workers: int):
        self.sources = sources
        self.notes = torch.full((workers, 3), -1).share_memory_()  # a worker: its process, the source and row it reads

    def __getitem__(self, step: tuple[np.ndarray, ...]) -> tuple[tuple[np.ndarray, ...], list[Tensor] | Exception]:
        """Rows of each source -> the same rows and what was read, or the error of a file that cannot be read."""
        note = self.notes[get_worker_info().id]
        try:
            return step, [self.read(k, rows, note) for k, rows in enumerate(step)]
        except Exception as error:  # raised where it is received: one line instead of the worker's whole story
            return step, error
        finally:
            note[2] = -1

    def read(self, k: int, rows: np.ndarray, note: Tensor) -> Tensor:
        """Some rows of source k, image by image: [B, ...]."""
        images = []
        for row in rows:
            note[:] = torch.tensor([os.getpid(), k, row])
            images.append(self.sources[k][np.array([row])])
        return torch.from_numpy(np.concatenate(images))


def unchanged(item):
    """What a worker read goes on as it is."""
    return item


class Loader:
    """Iterate over (rows of each source, inputs of each source): with workers if all sources are image files.

    sources: indexable by an index array; steps: rows of each source, step by step. The order is that of `steps` with
    any number of workers (None: one a core, at most 8; on Linux alone, where a process starts at once). pin: into
    memory from which a GPU reads while it computes. Use it as a context: it turns the end of a worker into one
    DataError that names the file which that worker read.
    """

    def __init__(self, sources: list, steps: Iterable[tuple[np.ndarray, ...]], workers: int | None, pin: bool = False):
        usual = min(8, cores()) if sys.platform == "linux" else 0
        workers = (usual if workers is None else workers) if all(map(are_files, sources)) else 0
        self.sources, self.steps, self.workers, self.pin = sources, steps, workers, pin
        self.reading = Reading(sources, workers)

    def __iter__(self) -> Iterator[tuple[tuple[np.ndarray, ...], list[Tensor]]]:
        if not self.workers:
            for step in self.steps:
                yield step, [read(source, rows) for source, rows in zip(self.sources, step, strict=True)]
            return
        loader = DataLoader(
            self.reading,
            batch_size=None,
            sampler=self.steps,
            num_workers=self.workers,
            collate_fn=unchanged,
            pin_memory=self.pin,
            prefetch_factor=AHEAD,
            generator=torch.Generator(),  # else it would take a number from the seed's
        )
        for step, found in loader:
            if isinstance(found, Exception):
                raise found
            yield step, found

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if not isinstance(error, RuntimeError):  # torch's own, wherever training is when a worker ends
            return
        alive = {process.pid for process in multiprocessing.active_children()}
        ended = [note for note in self.reading.notes.tolist() if note[0] >= 0 and note[0] not in alive]
        if ended:
            names = ", ".join({file_name(self.sources[k], row): 0 for _, k, row in ended if row >= 0}) or "no file"
            raise DataError(
                f"a worker process was killed while it read {names}; look at that file, and if memory ran out (also "
                f"/dev/shm of a container) set `workers` lower than {self.workers}"
            ) from None


def read(inputs, rows: np.ndarray) -> Tensor:
    """The inputs of these rows, [B, ...]."""
    return torch.from_numpy(np.ascontiguousarray(inputs[rows]))


def to_tensor(split: Split, rows: np.ndarray, device: torch.device | str) -> Tensor:
    """The inputs of these rows on the device, [B, ...]."""
    return read(split.inputs, rows).to(device)


def sample_names(split: Split, rows: np.ndarray) -> str:
    """The first three names of these samples, for a message."""
    return ", ".join(str(split.ids[i]) for i in rows[:3]) + (", ..." if len(rows) > 3 else "")


def on_device(
    inputs: list[Tensor], rows: tuple[np.ndarray, ...], splits: list[Split], device: torch.device, step: int
) -> list[Tensor]:
    """Inputs and labels of these rows of each split, on the device: x, y, x, y, ...

    Raises TrainingError naming samples whose inputs are not finite.
    """
    found = []
    for x, r, split in zip(inputs, rows, splits, strict=True):
        x = x.to(device, non_blocking=True)
        if x.is_floating_point() and not x.isfinite().all():
            wrong = r[(~x.isfinite()).flatten(1).any(1).cpu().numpy()]
            raise TrainingError(f"step {step}: an input is not a finite number in {sample_names(split, wrong)}")
        found += [x, torch.from_numpy(split.y[r]).to(device)]
    return found
