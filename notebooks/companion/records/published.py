"""How many of the published numbers, those of the committed tables, came out again?

python -m companion.records.published PROFILE
"""

from __future__ import annotations

import io
import subprocess
import sys

import pandas as pd

from companion.records.profiles import OUT, ROOT

KEYS = ("group", "dataset", "method", "option", "decode", "metric")
NUMBERS = ("mean", "delta", "joining")  # of a table without these: every number


def committed(profile: str, name: str) -> str | None:
    """The text of results/<profile>/<name> as last committed; None without git or a commit that has the file."""
    command = ["git", "-C", str(ROOT), "show", f"HEAD:results/{profile}/{name}"]
    try:
        found = subprocess.run(command, capture_output=True)
    except OSError:  # there is no git here
        return None
    return found.stdout.decode() if found.returncode == 0 else None


def numbers(text: str) -> dict[tuple, float]:
    """The numbers of a table (CSV), as shown, with two digits: {(row, column): value}; rows are named by their keys."""
    frame = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(KEYS, str))
    keys = [k for k in KEYS if k in frame]
    columns = [c for c in NUMBERS if c in frame] or list(frame.select_dtypes("number"))
    names = frame[keys].fillna("").agg(lambda row: " ".join(v for v in row if v), axis=1)
    times = names.groupby(names).cumcount()
    names = names.where(times == 0, names + " (" + (times + 1).astype(str) + ")")
    return {
        (name, column): round(float(value), 2)
        for column in columns
        for name, value in zip(names, frame[column], strict=True)
        if pd.notna(value)
    }


def came_out_again(before: str, now: str) -> tuple[int, list[str]]:
    """Two versions of a table. -> how many numbers the first one has, and a line for each that is not the same now."""
    then, found = numbers(before), numbers(now)
    other = {key: value for key, value in then.items() if found.get(key) != value}
    now = {key: f"{found[key]:.2f}" if key in found else "missing" for key in other}
    return len(then), [
        f"{row}, {column}: published {value:.2f}, now {now[row, column]}" for (row, column), value in other.items()
    ]


def lines(profile: str) -> list[str]:
    """What `make reproduce` says at its end: how many of the published numbers came out again, and which did not."""
    folder, total, others, compared = OUT / "results" / profile, 0, [], False
    for path in sorted(folder.glob("table*.csv")):
        if (before := committed(profile, path.name)) is None:
            continue
        n, other = came_out_again(before, path.read_text(encoding="utf-8"))
        total, compared = total + n, True
        others += [f"  {path.stem}: {line}" for line in other]
    if not compared:
        return [f"{profile}: no published tables to compare with (they are those of the last git commit)"]
    said = f"{profile}: {total - len(others)} of {total} published numbers came out again"
    return [said + (", these did not:" if others else ""), *others]


if __name__ == "__main__":
    print("\n".join(lines(sys.argv[1])))
