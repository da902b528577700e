"""How long the tables of a profile take: steps x seconds a step x seeds of each cell, seconds from a trial's records.

python -m companion.records.hours PROFILE TRIAL
"""

from __future__ import annotations

import sys

import pandas as pd

from companion.records import profiles, store

TABLES = {"cells": "Tables 2 and 3", "ablations": "Table 4"}
COLUMNS = "table group cells ran data step hours device".split()


def hours(profile: str, trial: str) -> list[dict]:
    """A row a group and table: its cells, how many of them the trial ran, seconds a step, and hours of all its seeds.

    Seconds are means over the cells that ran, without evaluation: `data`, waiting for inputs, and `step`, all of it.
    """
    rows, folder = [], profiles.OUT / "results" / trial
    for group in profiles.load_profile(profile)["groups"]:
        for part, table in TABLES.items():
            cells, found, wanted = profiles.cells(profile, group, part), [], 0
            for cell in cells:
                steps = profiles.cell_settings(profile, **cell)["training"]["steps"]
                wanted += steps * profiles.seed_count(profile, cell)
                try:
                    runs = store.read(folder, profiles.cell_name(**cell)).runs
                except profiles.RecordError:  # this trial left it out
                    continue
                found += [(run["seconds_a_step"], run["device"]) for run in runs.values()]
            if cells and found:
                data, step = (sum(s[k] for s, _ in found) / len(found) for k in ("data", "all"))
                row = {"table": table, "group": group, "cells": len(cells), "ran": len(found), "data": data}
                rows.append(row | {"step": step, "hours": wanted * step / 3600, "device": found[0][1]})
    return rows


def lines(profile: str, trial: str) -> list[str]:
    """The rows as a table of text, and what they were measured on."""
    frame = pd.DataFrame(hours(profile, trial), columns=COLUMNS)
    shown = frame.drop(columns="device").rename(columns={"data": "data s", "step": "step s"})
    forms = {"data s": "{:.3f}".format, "step s": "{:.3f}".format, "hours": "{:.1f}".format}
    settings = profiles.load_profile(trial)["training"]
    return [
        *shown.to_string(index=False, formatters=forms).splitlines(),
        f"hours = steps x seconds a step x seeds of {profile}, one cell after the other, seconds as in {trial} "
        f"(batch {settings['batch']} + {settings['coarse_batch']}) on {', '.join(sorted(set(frame['device'])))}",
    ]


if __name__ == "__main__":
    print("\n".join(lines(*sys.argv[1:])))
