# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · How the settings were chosen
#
# *What you will learn:* which learning rate and which weight of the coarse batches every method runs with, and on what
# evidence. *What it needs:* the tuning records, `make tune PROFILE=cpu` (committed). *How long:* seconds.
#
# Arms can only be compared after the same tuning effort. Every method had the same grid, its own seeds (none of the
# tables'), and one rule: the best mean **validation** accuracy. No test image was looked at for this page.

# %% tags=["parameters"]
profile = "cpu"

# %%
import numpy as np
import pandas as pd

from labelaug_core import records

records.check_parameters(globals(), ["profile"])
results = records.OUT / "results" / profile
rows = []
for cell in records.cells(profile, part="tuning"):
    name = records.cell_name(**cell)
    found = [records.read_record(p) for p in sorted((results / "tuning" / "runs").glob(f"{name}__seed*.json"))]
    if outdated := [r["seed"] for r in found if r["code_hash"] != records.code_hash(cell["group"])]:
        print(f"{name}: made by other code than today's, seeds {outdated}")
    values = [100 * r["validation"]["val_accuracy"] for r in found]
    row = cell | {"n_seeds": len(values), "validation": np.mean(values) if values else np.nan}
    rows.append(row | {"std": np.std(values, ddof=1) if len(values) > 1 else np.nan, "n_val": found[0]["data"]["n_val"] if found else 0})
table = pd.DataFrame(rows, columns=["group", "dataset", "method", "option", "n_seeds", "validation", "std", "n_val"])
table.to_csv(results / "tuning.csv", index=False, float_format="%.2f") if len(table) else None
table.round(2)

# %% [markdown]
# ## The choice
#
# The best option of every method stands in the profile (`notebooks/profiles/*.yaml`). The next cell compares them: a
# profile that no longer holds what was chosen here fails.

# %%
chosen = table.dropna(subset=["validation"]).sort_values("validation", ascending=False, kind="stable")
chosen = chosen.drop_duplicates(["group", "dataset", "method"]).sort_index()
for cell in chosen.itertuples():
    settings = records.cell_settings(profile, cell.group, cell.dataset, cell.method)
    for key, value in records.parse_option(cell.option).items():
        assert settings["training"][key] == value, f"{cell.method}: the profile has {key}={settings['training'][key]}, best was {value}"
chosen[["group", "dataset", "method", "option", "validation"]].round(2)
