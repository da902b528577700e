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
# *What you will learn:* which learning rate and which weight of the coarse batches each method has, and how they were
# chosen. *What it needs:* the tuning records, `make tune PROFILE=cpu` (committed). *How long:* seconds.
#
# Methods can only be compared after the same tuning effort. FFN, Label Set, label-aug (Algorithm 1) and the direct decoder
# were tuned on the same list of values. Every other method takes the value of the method that it resembles; the profile
# says which. Where the last stage of the encoder is trained, its rate was tuned for FFN and the question likelihood
# (photographs) or label-aug (texts). The seeds are not those of the tables. One rule chooses: the lowest mean
# **validation loss**, $-\log p(\text{true label})$. No test image was used for the choice.
#
# Why not the best validation accuracy? Compare its standard error, printed below, with the differences between
# settings. A choice by differences that are smaller than the standard error is chance. The loss uses the probability
# of each image, so it can distinguish settings whose accuracies are equal.
#
# arXiv is the exception. There the validation **micro-F1** chooses. It counts more than a hundred yes-or-no answers
# for each paper. Also, one threshold is chosen for F1, so probabilities that are too close to 0 and 1 matter less for
# F1 than for the loss.

# %% tags=["parameters"]
profile = "cpu"

# %%
import numpy as np
import pandas as pd

from IPython.display import Markdown, display

from companion import methods
from companion.records import profiles, store
from companion.tables.writing import as_markdown, folded

profiles.check_parameters(globals(), ["profile"])
results = profiles.OUT / "results" / profile
rows, accuracies, missing, earlier = [], {}, [], 0
for cell in profiles.cells(profile, part="tuning"):
    settings, name = profiles.cell_settings(profile, **cell), profiles.cell_name(**cell)
    try:
        record = store.read(results / "tuning", name)
        found = [record.runs[seed] for seed in record.seeds]
    except profiles.RecordError as error:
        missing.append(str(error))
        continue
    if not found:
        missing.append(f"{name}: no seed is whole")
        continue
    earlier += bool(store.stale(record, settings))
    several = "val_f1" in found[0]["validation"]  # labels a sample
    loss, accuracy = (np.array([r["validation"][key] for r in found]) for key in ("val_nll", "val_accuracy"))
    f1 = np.array([r["validation"].get("val_f1", np.nan) for r in found])
    accuracies[tuple(cell.values())] = dict(zip(record.seeds, 100 * accuracy, strict=True))
    rows.append(cell | {"lr": record.settings["training"]["lr"], "n_seeds": len(found), "n_val": found[0]["data"]["n_val"],
                        "loss": loss.mean(), "loss_std": loss.std(ddof=1), "accuracy": 100 * accuracy.mean(),
                        "accuracy_std": 100 * accuracy.std(ddof=1), "f1": 100 * f1.mean(), "f1_std": 100 * f1.std(ddof=1),
                        "chosen_by": -f1.mean() if several else loss.mean()})

# %%
columns = "group dataset method option lr n_seeds n_val loss loss_std accuracy accuracy_std f1 f1_std chosen_by".split()
table = pd.DataFrame(rows, columns=columns)
print(f"{len(rows)} cells with records" + (f", {len(missing)} without, the first: {missing[0]}" if missing else ""))
print(f"{earlier} of them were made with an earlier version of the profile: what it fixed beside the option was another value then")
if len(table):
    share = table["accuracy"] / 100
    error = (100 * np.sqrt(share * (1 - share) / (table["n_val"] * table["n_seeds"]))).median()
    print(f"standard error of a validation accuracy, the median: {error:.1f} points")
    table.drop(columns="chosen_by").to_csv(results / "tuning.csv", index=False, float_format="%.4f")

# %% [markdown]
# ## The choice
#
# The best option of every method is in the profile (`notebooks/profiles/*.yaml`). The next cell compares the two. It
# fails if the profile has another value than the one chosen here. The weights of the coarse batches were compared at
# the learning rate that the profile had then, which is not always the one that was chosen. Each entry is the value and,
# in brackets, its validation loss (arXiv: micro-F1); **bold** is the choice.
#
# `share`, of the direct decoder (notebook 42), is shown and not chosen: at 0 it is a flat softmax.

# %%
table["what"] = [option.partition("=")[0] for option in table["option"]]
table["score"] = table["f1"].where(table["f1"].notna(), table["loss"])
lines, best_of = [], {}
for (group, dataset, method, what), part in table.groupby(["group", "dataset", "method", "what"], sort=False):
    best = best_of[group] = part.loc[part["chosen_by"].idxmin()]
    settings = profiles.cell_settings(profile, group, dataset, method)
    current = settings["data"] | settings["head"] | settings["training"]
    for key, value in profiles.parse_option(best["option"]).items():
        if key != "share" and current[key] != value:
            raise ValueError(f"{group}, {method}: the profile has {key}={current[key]}, best was {value}")
    values = [(r.option.partition("=")[2], f"{r.score:.3f}" if pd.isna(r.f1) else f"{r.f1:.1f}") for r in part.itertuples()]
    shown = [f"**{v}** ({x})" if f"{what}={v}" == best["option"] and what != "share" else f"{v} ({x})" for v, x in values]
    lines.append({"data": f"{group}: {dataset}", "method": methods.METHODS[method].title, "setting": what, "values tried": ", ".join(shown)})
for group in table["group"].unique():
    display(Markdown(as_markdown(pd.DataFrame([r for r in lines if r["data"].startswith(f"{group}:")]))))

# %% [markdown]
# ## Does fine-tuning work?
#
# The profile `paper` trains all layers of its encoder, on a GPU. Here the same recipe is tried on a CPU, with few images.
# There are two arms. In `pet-all` all layers of EfficientNet-Lite0 are trained, with random crops, flips and colours. In
# `pet-all-frozen` the encoder stays as it is, and its features are computed once. Both arms have the same photographs at
# 128 pixels: 10 of each breed to train and 10 to validate, drawn with the seed. Both have the same steps and images a step.
#
# Each arm has the learning rate that the validation loss chose above. The scores are those of the same **validation**
# images, so both are a little too high. No test image was used.
#
# The fine-tuned arm had more trials than its records show; these trials left no record. First its batch norm took its
# statistics from the batch. Encoder rates of 0.0003 and 0.001 (seed 100) and 0.00003 (seed 99) then gave much lower accuracies than the frozen arm. So the batch
# norm of a pretrained encoder now keeps its statistics. With them kept, 0.00003, 0.0001 and 0.0003 were tried with seed 99.
# At 0.0001 the accuracy was still lower than that of the frozen arm. After that the two rates above were recorded. All seeds
# draw from the same 20 photographs of each breed. The gain is that of the whole recipe. How much of it comes from the crops,
# flips and colours alone was not measured.

# %%
arms = {"pet-all": "all layers trained", "pet-all-frozen": "frozen"}
best = {group: best_of[group] for group in arms if group in best_of}
if len(best) == len(arms):
    shown = [{"encoder": arms[g], "chosen": r["option"], "seeds": r["n_seeds"], "validation images": r["n_val"],
              "loss": f"{r['loss']:.3f} ± {r['loss_std']:.3f}", "accuracy": f"{r['accuracy']:.1f} ± {r['accuracy_std']:.1f}"}
             for g, r in best.items()]
    display(Markdown(as_markdown(pd.DataFrame(shown))))
    tuned, frozen = (accuracies[tuple(r[["group", "dataset", "method", "option"]])] for r in best.values())
    gains = ", ".join(f"{tuned[seed] - frozen[seed]:+.1f} (seed {seed})" for seed in tuned if seed in frozen)
    print(f"trained minus frozen, points of accuracy: {gains}")

# %% [markdown]
# ## Every cell

# %%
every = table.assign(data=table["group"] + ": " + table["dataset"], accuracy=table["accuracy"].round(1), loss=table["loss"].round(3))
display(Markdown(folded(f"{len(every)} cells", as_markdown(every[["data", "method", "option", "n_seeds", "loss", "accuracy"]]))))
