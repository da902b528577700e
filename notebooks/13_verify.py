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
# # 13 · Do the numbers come out again?
#
# *What you will learn:* whether this machine, with the code as it is now, gives the recorded numbers. *What it
# needs:* the records of a batch. *How long:* half a minute; `make verify PROFILE=cpu` does the same for every cell,
# `make verify CELLS=6` for six of them.
#
# A record is stale when its settings, its graph or its data change. A record does not become stale when the *code*
# changes. Instead, the code is run: the first seed of a cell is trained again, and the new run is compared with the
# recorded one. There are three answers.
#
# - **the same bits**: losses, scores and every prediction are equal, bit for bit;
# - **the same within noise**: some bits differ. On another kind of processor, or with another version of a library,
#   sums are computed in another order, and the small differences grow during training. `better` and `worse` count the
#   test samples with fewer and with more mistakes than before. If both are equally likely, the numbers differ by
#   chance. The exact binomial test of this (McNemar's test) has p at or above 0.05, after Holm's correction over all
#   cells that were compared;
# - **different**: that p is below 0.05.

# %% tags=["parameters"]
profile = "toy"
n_cells = 2  # so many recorded cells, drawn at random, are trained here
again = ""  # or a folder in which cells were trained again: they are compared, and nothing is trained here

# %%
import tempfile
from pathlib import Path

import pandas as pd
import torch

from companion.records import profiles, store
from companion.records.verify import summary, verify
from companion.runs import load_task, run_seed

profiles.check_parameters(globals(), ["profile", "n_cells", "again"])
torch.set_num_threads(1)  # as in the batch
recorded = profiles.OUT / "results" / profile
folder = Path(again or tempfile.mkdtemp())
cells = store.recorded_cells(profile, n=0 if again else n_cells)
if again:
    cells = {name: cell for name, cell in cells.items() if (folder / "runs" / f"{name}.json").is_file()}
for name, cell in {} if again else cells.items():
    settings = profiles.cell_settings(profile, **cell)
    run, predictions, _ = run_seed(settings, load_task(settings), 0)
    store.add(folder, name, settings, 0, run, predictions)

# %%
table = verify(recorded, folder, cells, profile)
print(summary(table) if len(table) else f"{profile}: no records; run `make reproduce PROFILE={profile}` first")

# %% [markdown]
# ## Cell by cell

# %%
shown = table.drop(columns="why") if len(table) else pd.DataFrame({"cell": ["none"]})
shown.style.hide(axis="index").format(precision=3, na_rep="")
