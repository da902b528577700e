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
# *What you will learn:* whether this machine, with the code as it is now, gives the recorded numbers. *What it needs:*
# `make verify PROFILE=cpu`, which trains the first seed of every cell once more (a tenth of the time of the batch) and then
# runs this notebook. *How long:* seconds.
#
# A record stands for the settings, data and code that made it. When code changes in a way that must not change a number
# (a clearer error, a tidier function), this is the proof that it did not: losses, validation scores, test scores and
# predictions of a run are compared **bit for bit**. Only where all of them are equal do the tables go on using the older
# records of that cell; elsewhere the cell is run again. On another kind of processor sums come in another order, and a
# difference in the last digit is no mistake: `changed` says how many test predictions are not the same.

# %% tags=["parameters"]
profile = "cpu"

# %%
import numpy as np
import pandas as pd

from companion.records import store as records

records.check_parameters(globals(), ["profile"])
results = records.OUT / "results" / profile
again = results / "verify"


# %%
def compare(path) -> dict:
    """One row: the recorded run and the new one, if that is by today's code."""
    new, old = records.read_record(path), records.read_record(results / path.relative_to(again))
    codes = [records.code_of(r["settings"], r["code_hash"]) for r in (old, new)]
    mine, theirs = (records.read_predictions(p) for p in (path, results / path.relative_to(again)))
    labels = next(k for k in ("exact", "predicted") if k in mine)
    arrays = mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine)
    said = all(old.get(k) == new.get(k) for k in ("history", "validation", "test"))
    same_input = old["data"]["content_hash"] == new["data"]["content_hash"]
    return {
        "cell": path.stem.rpartition("__seed")[0], "seed": new["seed"], "experiment": records.experiment(new["settings"]),
        "recorded": codes[0], "today": codes[1], "n_test": len(mine[labels]),
        "changed": int((mine[labels] != theirs[labels]).reshape(len(mine[labels]), -1).any(1).sum()),
        "same": bool(arrays and said and same_input and records.experiment(old["settings"]) == records.experiment(new["settings"])),
        "device": new["device"],
    }  # fmt: skip


columns = ["cell", "seed", "experiment", "recorded", "today", "n_test", "changed", "same", "device"]
paths = sorted(p for p in again.rglob("runs/*.json") if (results / p.relative_to(again)).is_file())
table = pd.DataFrame([compare(p) for p in paths], columns=columns)
if len(table):
    table.to_csv(results / "verified.csv", index=False)
elif (results / "verified.csv").is_file():  # nothing was trained here: what was found last
    table = pd.read_csv(results / "verified.csv")
print(f"{int(table['same'].sum())} of {len(table)} runs are the same, bit for bit")

# %% [markdown]
# ## By kind of run

# %%
table["of"] = table["cell"].str.split("__").str[0]
by_group = table.groupby("of").agg(runs=("same", "size"), same=("same", "sum"), test_samples=("n_test", "sum"), changed=("changed", "sum"))
by_group

# %% [markdown]
# ## What differs

# %%
pd.set_option("display.max_rows", None)
table.loc[~table["same"].astype(bool), ["cell", "seed", "n_test", "changed"]]
