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
# # 50 · How fast it is
#
# *What you will learn:* what block softmax, the path decoder and decoding on large graphs cost, as ratios to the plain
# alternative. *What it needs:* `results/bench/*.json` (committed; `make bench` measures them anew). *How long:* seconds.
#
# Nothing is timed here. Every number was measured by `tests/bench/`, one thread, in CPU time of its process, so that what
# else the machine did is not counted. Contestants take turns, and a **ratio** is the median over rounds of time / time of
# the first contestant in the same round: it says more than the milliseconds, which belong to one machine. Before anything
# is timed, the contestants' results are compared: a wrong one stops the run.

# %% tags=["parameters"]
folder = "bench"

# %%
import json

import matplotlib.pyplot as plt
import pandas as pd

from companion.records import profiles

profiles.check_parameters(globals(), ["folder"])
pd.set_option("display.max_rows", None)
pd.set_option("display.max_colwidth", None)
files = sorted((profiles.OUT / "results" / folder).glob("*.json"))
measured = {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in files}
soak = measured.pop("soak", None)  # no times: what the fault tests found
tables = {name: pd.DataFrame(found["rows"]) for name, found in measured.items()}
pd.DataFrame({name: found["machine"] for name, found in measured.items()})

# %% [markdown]
# ## The bars
#
# What was promised, and what came out. A bar of milliseconds is for one quiet core; on a busy one the caches are shared,
# and the ratios in the tables below say more.


# %%
def value(table, column, **where):
    """The largest `column` of the rows that are as `where` says; None where nothing was measured."""
    rows = tables.get(table, pd.DataFrame(columns=[column, *where]))
    for key, wanted in where.items():
        rows = rows[rows[key] == wanted]
    return None if rows.empty else float(rows[column].max())


bars = []
for name, at_most in (("50", 0.3), ("1,400", 2), ("10,000", 20), ("100,000", 300)):
    rows = tables["block_softmax"]
    n = int(name.replace(",", ""))
    near = rows[(rows.contestant == "block_log_softmax") & (rows.what == "all log-probabilities") & ((rows.nodes / n - 1).abs() < 0.1)]
    bars.append((f"block softmax, {name} nodes, 64 samples, forward and backward, ms", at_most, near.ms.max()))
for method in ("marginal", "question", "expected-reward", "algorithm-1"):
    bars.append((f"training step, pet graph, {method} / FFN", 4, value("decoder", "ratio", what="training step", graph="pet", contestant=method)))
step = value("decoder", "ms", what="training step", graph="pet", contestant="FFN")
exact = value("decoder", "ms", what="evaluation of a batch", graph="pet", contestant="exact marginals")
bars.append(("exact marginals of a batch, pet graph / FFN's training step", 4, exact / step))
for encoder in ("tf_efficientnet_lite0", "tf_efficientnet_b4"):
    for method in ("question", "algorithm-1"):
        bars.append((f"whole training step with {encoder}, {method} / FFN", 1.05, value("whole_step", "ratio", encoder=encoder, contestant=method)))
bars.append(("encoding: peak memory, 16,000 images / 1,000", 1.1, value("encoding", "peak_mb_ratio", images=16_000)))
bars = pd.DataFrame(bars, columns=["what", "at most", "measured"])
bars["verdict"] = ["not run" if pd.isna(m) else "met" if m <= b else "missed" for m, b in zip(bars["measured"], bars["at most"], strict=True)]
bars.round(3)

# %% [markdown]
# ## Block softmax
#
# Forward and backward. *even*: groups of about ten; *large*: about √N groups of √N; *skewed*: √N groups whose sizes fall
# like 1 / rank. The **loop** calls `torch.log_softmax` once a group; the **dense mask** multiplies by an N × N matrix (not
# safe for large scores, and 40 GB at 100,000 nodes, so it stops early); the PyPI package **hierarchicalsoftmax** computes
# no other blocks than the two on the way to each leaf, so it is compared on the loss of a leaf only. A ratio above 1 is
# slower than `block_log_softmax`.

# %%
softmax = tables["block_softmax"].assign(nodes=lambda t: t.nodes.map(lambda n: min((50, 1_400, 10_000, 100_000), key=lambda m: abs(m - n))))
softmax.pivot_table(index=["what", "groups", "nodes"], columns="contestant", values="ratio", sort=False).round(2)

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
for ax, shape in zip(axes, ("even", "large", "skewed"), strict=True):
    rows = softmax[(softmax.groups == shape) & (softmax.what == "all log-probabilities")]
    for name, of_one in rows.groupby("contestant", sort=False):
        ax.loglog(of_one.nodes, of_one.ms, marker="o", label=name)
    ax.set(title=f"{shape} groups", xlabel="nodes")
axes[0].set_ylabel("ms, forward and backward")
axes[0].legend(fontsize=8)
fig.tight_layout()

# %% [markdown]
# **How to read it.** One vectorised call pays off where groups are many and small, as in a label graph: a loop there pays
# for every group. Where a few large groups hold most nodes, a loop over them is as fast or faster: `torch.log_softmax`
# runs through memory in order, a scatter does not. The package, which leaves out most blocks, gains on a large graph what
# its many small calls cost on a small one.
#
# ## The path decoder
#
# A training step on cached features (trunk, head, AdamW; 64 samples), and the evaluation of a batch. FFN is the first.
# Algorithm 1 costs more than the exact objectives: it draws a path, answer by answer, before it scores it.

# %%
decoder = tables["decoder"]
decoder[~decoder.what.str.contains("growing")].pivot_table(index=["what", "contestant"], columns="graph", values="ratio", sort=False).round(2)

# %% [markdown]
# How a step grows: with the batch (pet graph), with the labels (four questions each), with the questions (37 labels).

# %%
growing = decoder[decoder.what.str.contains("growing") & (decoder.contestant == "question")]
growing[["what", "nodes", "paths", "batch", "ms", "ratio"]].round(2)

# %% [markdown]
# With an encoder in front, trained along, little of this is seen: EfficientNet with random weights, a small batch (a larger
# one only makes the encoder's share larger).

# %%
whole = tables.get("whole_step", pd.DataFrame(columns=["encoder", "pixels", "batch", "contestant", "ms", "ratio"]))
whole[["encoder", "pixels", "batch", "contestant", "ms", "ratio"]].round(3)

# %% [markdown]
# ## Large graphs
#
# A taxonomy in which each node has two parents, 2 paths per label at 100 labels and 16 at 100,000. Where the prefix tree of
# all paths is too large, `labelaug_core.large` follows only the paths kept, on the list of edges (`adjacency_mb`; an N × N
# matrix would take 40 GB at 100,000 nodes). FFN is one linear layer over all labels, which grows with them; greedy and
# beam decoding hardly do. Training uses four sampled paths a label.

# %%
large = tables.get("decoding", pd.DataFrame(columns=["what", "labels", "paths", "adjacency_mb", "contestant", "ms", "ratio", "labels_per_second"]))
large[["what", "labels", "paths", "adjacency_mb", "contestant", "ms", "ratio", "labels_per_second"]].round(2)

# %% [markdown]
# ## Encoding
#
# `cached_features`, EfficientNet-Lite0 on small random images, each number of images in a process of its own. Memory should
# not grow with the images: features are written to a memory-mapped file batch by batch. Its pages count as memory of the
# process while the system has room for them, and are given back when it has not.

# %%
tables.get("encoding", pd.DataFrame())

# %% [markdown]
# ## The soak
#
# What a quarter of an hour of faults found last (`pytest -m soak`; [what is guaranteed](guarantees.md)): random graph files,
# images and texts, of which some are valid and the others must be one clear error each, and a batch that is killed 20
# times (`while`: what ran, and how many records there were).

# %%
if soak:
    print(soak["date"], soak["machine"])
pd.DataFrame(soak["tests"] if soak else []).astype(object).fillna("")
