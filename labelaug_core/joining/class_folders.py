"""Images in class folders: which files of a reader's folder are images of which class, and what is wrong with it."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

from labelaug_core.data import DataError, listed, printable
from labelaug_core.files.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from labelaug_core.graph import normalise

# What a system puts beside photos: thumbnails of a network drive, what macOS adds to a zip, waste bins.
SYSTEM_FILES = "@eadir __macosx #recycle $recycle.bin lost+found thumbs.db desktop.ini".split()
PARTS = set("train training test testing val valid validation dev eval".split())


def class_folders(folder: str | Path, what: str) -> tuple[list[Path], list[str]]:
    """Images in class subfolders, sorted by name: files, and each one's class (its subfolder's name, composed: NFC).

    Sub-folders of a class are read too; links to folders are followed, once. Hidden and system files, images outside
    the class folders and files that are no images are left out: one warning counts them and says why. Raises one
    DataError that names all that cannot be used (links to nothing, no permission, folders named like an image, names
    that are not UTF-8), or all classes without an image, or that says that the folder is one too high.
    """
    folder = Path(folder)
    found, left_out, faults = {}, Counter(), []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{what}: {printable(folder)} cannot be read as a folder ({error.strerror})") from None
    for entry in entries:
        if entry.is_dir() and not is_aside(entry.name):
            name = unicodedata.normalize("NFC", entry.name)
            if printable(name) != name:
                guess = os.fsencode(name).decode("latin-1")
                faults.append(f"the folder name {printable(name)} is not UTF-8 (as Latin-1 it is {guess!r}): rename it")
            found.setdefault(name, []).extend(images_below(entry, folder, left_out, faults))
        elif entry.is_dir():
            count_images(entry, left_out)
        elif entry.suffix.lower() in IMAGE_SUFFIXES and not is_aside(entry.name):
            left_out["outside the class folders"] += 1
    left = listed((f"{n} {why}" for why, n in sorted(left_out.items())), "; ")
    if faults:
        raise DataError(
            f"{what}: {len(faults)} fault{'s' * (len(faults) > 1)} below {printable(folder)}: {listed(faults, '; ')}"
        )
    require_class_folders(found, folder, what, left and f" (left out: {left})")
    if left:
        warnings.warn(f"{what}: files that were left out: {left}", stacklevel=2)
    return [f for fs in found.values() for f in fs], [name for name, fs in found.items() for _ in fs]


def is_aside(name: str) -> bool:
    """Is a file or folder of this name hidden, or made by a system?"""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def count_images(aside: Path, left_out: Counter) -> None:
    """Count the images in a hidden or system folder."""
    if n := sum(f.suffix.lower() in IMAGE_SUFFIXES for f in aside.rglob("*")):
        left_out[f"in {aside.name}"] += n


def images_below(top: Path, folder: Path, left_out: Counter, faults: list[str]) -> list[Path]:
    """All images below a class folder, sorted. What is left out is counted by its reason; faults get a line each."""

    def fault(path: Path, what: str) -> None:
        faults.append(f"{printable(path.relative_to(folder))} {what}")

    def closed(error: OSError) -> None:
        fault(Path(error.filename), f"cannot be opened ({error.strerror})")

    images, seen = [], {os.path.realpath(folder)}
    for place, inner, files in os.walk(top, followlinks=True, onerror=closed):
        if os.path.realpath(place) in seen:  # linked a second time, or a link that leads back
            inner.clear()
            continue
        seen.add(os.path.realpath(place))
        inner.sort()
        for path in [Path(place, name) for name in list(inner)]:
            if is_aside(path.name):
                count_images(path, left_out)
                inner.remove(path.name)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                fault(path, "is a folder with the name of an image: rename or remove it")
                inner.remove(path.name)
        for path in [Path(place, name) for name in files]:
            suffix = path.suffix.lower()
            if is_aside(path.name):
                left_out.update(["hidden"] * (suffix in IMAGE_SUFFIXES))
            elif not path.exists():
                fault(path, "is a link to nothing: remove it, or bring back what it leads to")
            elif suffix in UNREAD_SUFFIXES:
                left_out[f"{suffix} ({UNREAD_SUFFIXES[suffix]})"] += 1
            elif suffix not in IMAGE_SUFFIXES:
                left_out[f"{suffix or 'without a suffix'} (no images)"] += 1
            elif not path.is_file():
                fault(path, "is not a regular file: remove it")
            else:
                try:
                    path.open("rb").close()
                    images.append(path)
                except OSError as error:
                    closed(error)
    return sorted(images)


def require_class_folders(found: dict[str, list[Path]], folder: Path, what: str, left: str) -> None:
    """Raises DataError for a folder without class folders or one too high, or naming all classes without an image."""
    where = printable(folder)
    if not found:
        raise DataError(f"{what}: no class folder in {where}; give every class a folder with its images{left}")
    if empty := [repr(name) for name, files in found.items() if not files]:
        raise DataError(f"{what}: class folder {listed(empty)} in {where} holds no image; fill or remove it{left}")
    parts = [name for name in found if normalise(name) in PARTS]
    if len(parts) > 1 or len(parts) == len(found):
        train = next((name for name in parts if normalise(name).startswith("train")), parts[0])
        raise DataError(
            f"{what}: {where} has the folders {listed(map(repr, found))}, which are parts of a dataset and no classes: "
            f"it is one folder too high; give {where}/{train}, and the test part as the test set"
        )
    if len(found) == 1 and not any(file.parent.parent == folder for files in found.values() for file in files):
        name = next(iter(found))
        raise DataError(
            f"{what}: {where} has one class folder, {name!r}, and its images lie in sub-folders: "
            f"it is one folder too high; give {where}/{name}"
        )
