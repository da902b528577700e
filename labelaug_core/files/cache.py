"""What is kept on disk: files written whole or not at all, and the features of frozen encoders, computed once."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from torch import nn


def progress(iterable, what: str):
    """A progress bar in a terminal or a notebook; none in a batch (TQDM_DISABLE) or where nobody looks."""
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(iterable, desc=what, leave=False, disable="TQDM_DISABLE" in os.environ or not watched)


def write_files(contents: dict[Path, bytes]) -> None:
    """Write files whole or not at all: all to temporary names beside them, then all are renamed, in this order.

    Raises OSError naming the file (a full disk, a folder without write permission); what was there before is still
    there then. A killed run may leave a hidden `.partial`, which nothing reads.
    """
    partials = {target: target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial") for target in contents}
    try:
        for target, content in contents.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            partials[target].write_bytes(content)
        for target, partial in partials.items():
            os.replace(partial, target)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(target)) from None
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where features are kept: $LABELAUG_CACHE, else $XDG_CACHE_HOME/labelaug, else ~/.cache/labelaug.

    Without a home that can be written (containers, clusters) a folder of this user's in the temporary directory, and a
    warning says so. Raises OSError naming a folder that was set by LABELAUG_CACHE and cannot be written.
    """
    if chosen := os.environ.get("LABELAUG_CACHE"):
        return writable(Path(chosen))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # without a home it stays as it is
    if os.path.isabs(base):
        with suppress(OSError):
            return writable(Path(base) / "labelaug")
    folder = Path(tempfile.gettempdir()) / f"labelaug-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    warnings.warn(f"{base} cannot be written: {folder} keeps the cache; set LABELAUG_CACHE to choose", stacklevel=2)
    return writable(folder)


def writable(folder: Path) -> Path:
    """The folder, made if need be. Raises OSError naming it where nothing can be written into it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, "the cache cannot be written; set LABELAUG_CACHE to another folder", str(folder)
        )
    return folder


def cached_features(
    encoder: nn.Module, images, content_hash: str, batch: int = 32, dtype: type = np.float32
) -> np.ndarray:
    """Features of all images, computed once, in order, and memory-mapped: dtype [N, d], or [N, *d] for activations.

    images: indexable by an index array -> uint8 [n, S, S, 3], with len(); what is no array has a `key`, which names its
    preprocessing. Worker processes read image files; a GPU encodes where there is one. Kept as `computed_once` does.
    Raises OSError naming the file where it cannot be written, DataError naming an image that cannot be read.
    """
    import torch  # here: whoever only writes files waits for no torch

    from labelaug_core.files.loading import Loader, cores

    key = hashlib.sha256(f"{encoder.key}|{getattr(images, 'key', 'array')}|{content_hash}".encode()).hexdigest()[:24]
    n, device, threads = len(images), "cuda" if torch.cuda.is_available() else "cpu", torch.get_num_threads()

    def encode(x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return encoder(x.to(device)).cpu().numpy().astype(dtype)

    def blocks() -> Iterator[np.ndarray]:
        steps = [(np.arange(first, min(first + batch, n)),) for first in range(0, n, batch)]
        at_once = 1 if device == "cuda" else cores()
        try:
            torch.set_num_threads(1)  # a core a batch: on a busy machine cores that share a batch wait for each other
            encoder.eval().to(device)
            with Loader([images], steps, None if len(steps) > 1 else 0) as loader, ThreadPoolExecutor(at_once) as pool:
                waiting = deque()
                for _, (_, (x,)) in zip(progress(steps, f"encoding with {encoder.key}"), loader, strict=True):
                    waiting.append(pool.submit(encode, x))
                    if len(waiting) > at_once:
                        yield waiting.popleft().result()
                yield from (future.result() for future in waiting)
        finally:
            torch.set_num_threads(threads)
            encoder.cpu()

    return computed_once(f"features-{key}", (n, *np.atleast_1d(encoder.dim).tolist()), dtype, blocks)


def computed_once(
    name: str, shape: tuple[int, ...], dtype: type, blocks: Callable[[], Iterator[np.ndarray]]
) -> np.ndarray:
    """The array whose rows `blocks` yields, memory-mapped from cache_folder(), where it is kept.

    The file is named by `name` and the hash of its bytes; one that is not what its name says is made anew. Of several
    processes one computes and the others wait for it. Raises OSError naming the file where it cannot be written.
    """
    from filelock import FileLock  # here: it loads asyncio

    if (found := kept_array(name)) is not None:
        return found
    lock = cache_folder() / f"{name}.lock"
    partial = cache_folder() / f"{name}.{os.getpid()}.partial"
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with FileLock(lock):
        try:
            if (found := kept_array(name)) is not None:  # another process has made it meanwhile
                return found
            with open(partial, "wb") as file:  # not as a memory map: a full disk would end the process there
                np.lib.format.write_array_header_1_0(file, header)
                for block in blocks():
                    file.write(block.tobytes())
            path = cache_folder() / f"{name}-{file_hash(partial)}.npy"
            os.replace(partial, path)
        except OSError as error:  # that of a full disk names no file
            raise OSError(error.errno, error.strerror, error.filename or str(partial)) from None
        finally:
            partial.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)  # whoever waits for it looks for the array first
    return np.load(path, mmap_mode="r", allow_pickle=False)


def kept_array(name: str) -> np.ndarray | None:
    """A whole array of this name in cache_folder(), memory-mapped; damaged ones are deleted."""
    for path in sorted(cache_folder().glob(f"{name}-*.npy")):
        try:
            if path.stem.endswith(file_hash(path)):
                return np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception:  # gone (another run makes it anew), or no array: numpy raises many kinds
            pass
        path.unlink(missing_ok=True)
    return None


def file_hash(path: Path) -> str:
    """The first 16 hexadecimal digits of the sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
