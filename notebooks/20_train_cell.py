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
# *What you will learn:* how one entry of a table is made. The batch runs this notebook with papermill, once for every
# **cell**: one method on one dataset of one group. A cell is trained once for each seed. All its seeds are in one
# **record**, `results/<profile>/runs/<cell>.json` and `.npz`. The record is written again after each seed.
#
# *What it needs:* nothing for `toy`; the data in `$LABELAUG_DATA` for `cpu` and `paper`. *How long:* seconds a seed
# on `toy`, minutes on `cpu`, hours on `paper` without a GPU.
#
# ```
# papermill notebooks/20_train_cell.ipynb out.ipynb -p group pet -p dataset fusion -p method label-aug -p profile cpu
# ```

# %% tags=["parameters"]
group = "critters"  # a group of the profile
dataset = "fine"  # fine, fine-same-compute, fusion, ...
method = "ffn"  # a row of notebooks/companion/methods.py
option = ""  # an ablation: "minibatch=sum", "graph=small", "r_tf=0.5,coin=step", ...
profile = "toy"  # toy, cpu, paper
seeds = [0]  # also 0, or "0 1"; a seed that is recorded already is not run again
results_folder = ""  # default: results/<profile>
processes = 0  # that share each batch; 0: one a GPU, as many as the profile's `gpu` says

# %% [markdown]
# papermill only warns of a parameter that a notebook does not have. It then runs with the default. Here a misspelt
# name is an error. An unknown group, dataset, method, option or setting is an error, too.

# %%
from companion.records import profiles, store

profiles.check_parameters(globals(), "group dataset method option profile seeds results_folder processes".split())
wanted = profiles.seed_list(seeds)
name = profiles.cell_name(group, dataset, method, option)
settings = profiles.cell_settings(profile, group, dataset, method, option)
for key, value in settings.items():
    print(f"{key:9s}", value)

# %% [markdown]
# ## The data
#
# If the encoder is frozen, its features are computed once and kept. Then a run only trains the trunk and the head.

# %%
import gc
from pathlib import Path

import torch

from companion.runs import gpus, load_task, record_cell

gc.freeze()  # what was imported stays: looking for garbage among it took 5 % of a run
torch.set_num_threads(1)  # two cells run side by side; and sums in one order give the same numbers again
task = load_task(settings)
print("sizes:", task.sizes, "| evaluated labels:", task.n_fine, "| all labels:", len(task.labels))

# %% [markdown]
# ## The runs
#
# The validation part is held out of the training data, by seed. The model is chosen on it. The test set is used once,
# at the end (`labelaug_core/training.py`, `notebooks/companion/runs.py`).
#
# A cell can have several GPUs. Then each GPU has a process of its own, started by Accelerate's `notebook_launcher`. The
# processes share each batch, so a step uses the same images as on one GPU. The first process writes the record.

# %%
results = Path(results_folder) if results_folder else profiles.OUT / "results" / profile
todo = store.missing_seeds(results, name, settings, wanted, task.content_hash)
if recorded := sorted(set(wanted) - set(todo)):
    print("already recorded: seeds", *recorded)
record_cell(results, name, settings, task, todo, processes or gpus(profile, settings))

# %% [markdown]
# ## What was learned
#
# Choices may use `validation`. The tables show `test`. For a path decoder two predictions are kept: `greedy` is that
# of Algorithm 2, `exact` is the most probable label, summed over all its paths.

# %%
import pandas as pd

record = store.read(results, name)
table = pd.DataFrame({seed: {"validation": r["validation"]["val_accuracy"], **r["test"]} for seed, r in record.runs.items()}).T
table.rename_axis("seed").round(4)

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3))
for seed, run in record.runs.items():
    steps = [h["step"] for h in run["history"]]
    axes.plot(steps, [h["val_accuracy"] for h in run["history"]], lw=1.5, label=f"seed {seed}")
axes.set(xlabel="step", ylabel="validation accuracy", title=f"{method} on {group}, {dataset}")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()
