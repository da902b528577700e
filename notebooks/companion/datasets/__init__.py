"""The paper's datasets and our own toys, each read in its official layout; and where they lie."""

import os
from pathlib import Path

from labelaug_core.data import DataError


def data_folder(name: str, what: str, how: str) -> Path:
    """$LABELAUG_DATA/name (default: the user's cache directory). Raises DataError saying what to put there."""
    base = os.environ.get("LABELAUG_DATA") or os.path.expanduser("~/.cache/labelaug/data")
    folder = Path(base) / name
    if not folder.is_dir():
        raise DataError(
            f"{what} is missing: no folder {folder}; {how}, or point LABELAUG_DATA at the folder that holds {name}/"
        )
    return folder
