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
# # 20 · Train one cell
#
# The workhorse of the batch: papermill runs this notebook once for every cell of a table. A **cell** is one method on
# one dataset of one group; it is trained once a seed, and every seed leaves a **record** in `results/<profile>/runs`.
#
# *What it needs:* nothing for `toy`; the data in `$LABELAUG_DATA` for `cpu` and `paper`. *How long:* about 10 s a seed
# on `toy`, up to 30 s on `cpu`, hours on `paper` without a GPU.
#
# ```
# papermill notebooks/20_train_cell.ipynb out.ipynb -p group pet -p dataset fusion -p method label-aug -p profile cpu
# ```

# %% tags=["parameters"]
group = "critters"  # a group of the profile
dataset = "fine"  # fine, fine-same-compute, fusion, ...
method = "ffn"  # a row of labelaug_core/methods.py
option = ""  # an ablation: "minibatch=sum", "graph=small", "r_tf=0.5,coin=step", ...
profile = "toy"  # toy, cpu, paper
seeds = [0]  # list of int; one seed that is recorded already is not run again
results_folder = ""  # default: results/<profile>

# %% [markdown]
# papermill only warns of a parameter that a notebook does not have, and then trains something else than was asked for.
# Here a misspelt name is an error. So is an unknown group, dataset, method or option.

# %%
from companion.records import store as records

records.check_parameters(globals(), "group dataset method option profile seeds results_folder".split())
settings = records.cell_settings(profile, group, dataset, method, option)
settings

# %% [markdown]
# ## The data
#
# Where the encoder is frozen its features are computed once and kept; then a run only trains the trunk and the head.

# %%
import gc
from pathlib import Path

import torch

from companion import runs as cell

gc.freeze()  # what was imported stays: looking for garbage among it took 5 % of a run
torch.set_num_threads(1)  # two cells run side by side; and sums in one order give the same numbers again
task = cell.load_task(settings)
print("sizes:", task.sizes, "| evaluated labels:", task.n_fine, "| all labels:", len(task.labels))

# %% [markdown]
# ## The runs
#
# The validation part is held out of the training data, by seed; the model is chosen on it, and the test set is looked
# at once, at the end (`labelaug_core/training.py`).

# %%
results = Path(results_folder) if results_folder else records.OUT / "results" / profile
todo = records.missing_seeds(results, settings, seeds, task.content_hash)
if recorded := sorted(set(seeds) - set(todo)):
    print("already recorded: seeds", *recorded)
for seed in todo:
    record, predictions, model = cell.run_seed(settings, task, seed)
    records.write_record(records.record_path(results, records.cell_name(group, dataset, method, option), seed), record, predictions)
    print(f"seed {seed}: validation {record['validation']['val_accuracy']:.3f} at step {record['validation']['step']}")

# %% [markdown]
# ## What was learned
#
# `validation` is what choices may be made on, `test` is what the tables show. Of a path decoder both decodings are
# kept: `greedy` is Algorithm 2, `exact` the most probable label summed over all its paths.

# %%
import pandas as pd

name = records.cell_name(group, dataset, method, option)
rows = [records.read_record(records.record_path(results, name, s)) for s in seeds]
table = pd.DataFrame([{"seed": r["seed"], "validation": r["validation"]["val_accuracy"], **r["test"]} for r in rows]).set_index("seed")
table.round(4)

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3))
for r in rows:
    steps = [h["step"] for h in r["history"]]
    axes.plot(steps, [h["val_accuracy"] for h in r["history"]], lw=1.5, label=f"seed {r['seed']}")
axes.set(xlabel="step", ylabel="validation accuracy", title=f"{method} on {group}, {dataset}")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
