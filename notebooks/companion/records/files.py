"""The project's own tables: profiles and the paper's numbers, one clear error where they are damaged."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]


class RecordError(ValueError):
    """A record, profile or option cannot be read; the message names it and says what to do."""


load_yaml = functools.cache(yaml.safe_load)  # by its text: a table reads the same few files for every row


def read_yaml(path: Path):
    """What a YAML file says. Raises RecordError naming the file, and where it can the line, of a damaged one."""
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except Exception as error:  # yaml raises its own kinds, and for odd values KeyError, IndexError, ...
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecordError(f"{path.name}{line}: not valid YAML ({type(error).__name__}); restore the file") from None


def expected(table: int):
    """The paper's numbers of one table (results/expected.csv) as a frame. Raises RecordError for a damaged file."""
    import pandas as pd

    try:
        found = pd.read_csv(ROOT / "results" / "expected.csv", dtype={"table": int, "paper": float})
        return found[["table", "group", "row", "column", "metric", "paper"]].query("table == @table")
    except Exception as error:  # pandas raises many kinds
        raise RecordError(f"expected.csv: damaged ({type(error).__name__}: {error}); restore the file") from None


def of_a_profile(function):
    """What a damaged profile makes of function(profile, ...), a KeyError or so, is one RecordError that names it."""

    @functools.wraps(function)
    def called(profile: str, *args, **options):
        try:
            return function(profile, *args, **options)
        except RecordError as error:
            if profile in str(error):
                raise
            raise RecordError(f"profile {profile}: {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{profile}.yaml: damaged ({type(error).__name__}: {error}); restore the file") from None

    return called
