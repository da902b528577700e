"""How long the tables of a profile take: steps x seconds a step x seeds of each cell, seconds from a trial's records.

python -m companion.records.hours PROFILE TRIAL
"""

from __future__ import annotations

import sys

from companion.records import profiles, store

TABLES = {"cells": "Tables 2 and 3", "ablations": "Table 4"}


def hours(profile: str, trial: str) -> list[dict]:
    """A row a group and table: its cells, how many of them the trial ran, seconds a step, and hours of all its seeds.

    Seconds are means over the cells that ran, without evaluation: `data`, waiting for inputs, and `step`, all of it.
    """
    rows, folder = [], profiles.OUT / "results" / trial
    for group in profiles.load_profile(profile)["groups"]:
        for part, table in TABLES.items():
            cells, found, wanted = profiles.cells(profile, group, part), [], 0
            for cell in cells:
                wanted += profiles.cell_settings(profile, **cell)["training"]["steps"] * profiles.seed_count(
                    profile, group
                )
                try:
                    runs = store.read(folder, profiles.cell_name(**cell)).runs
                except profiles.RecordError:  # this trial left it out
                    continue
                found += [(run["seconds_a_step"], run["device"]) for run in runs.values()]
            if cells and found:
                data, step = (sum(s[k] for s, _ in found) / len(found) for k in ("data", "all"))
                row = {
                    "table": table,
                    "group": group,
                    "cells": len(cells),
                    "ran": len(found),
                    "data": data,
                    "step": step,
                }
                rows.append(row | {"hours": wanted * step / 3600, "device": found[0][1]})
    return rows


def lines(profile: str, trial: str) -> list[str]:
    """The rows as a table of text, and what they were measured on."""
    rows = hours(profile, trial)
    shown = [("table", "group", "cells", "ran", "data s", "step s", "hours")]
    shown += [
        (
            r["table"],
            r["group"],
            str(r["cells"]),
            str(r["ran"]),
            f"{r['data']:.3f}",
            f"{r['step']:.3f}",
            f"{r['hours']:.1f}",
        )
        for r in rows
    ]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    text = ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in shown]
    settings = profiles.load_profile(trial)["training"]
    return [
        *text,
        f"hours = steps x seconds a step x seeds of {profile}, one cell after the other, seconds as in {trial} "
        f"(batch {settings['batch']} + {settings['coarse_batch']}) on {', '.join(sorted({r['device'] for r in rows}))}",
    ]


if __name__ == "__main__":
    print("\n".join(lines(*sys.argv[1:])))
