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
# *What you will learn:* how much time block softmax, the path decoder and large graphs take, compared with plain
# alternatives, and which targets for speed are met. *What it needs:* `results/bench/*.json`, which `make bench`
# writes. *How long:* seconds.
#
# Nothing is timed here. `make bench` measures on one thread, in CPU time of the process, so the time of other
# programs is not counted. The methods that are compared are called contestants. In each round every contestant runs
# once. A **ratio** is the median over rounds of a contestant's time divided by the time of the first contestant in
# the same round. A ratio depends less on the machine than milliseconds do. Before anything is timed, all contestants
# of a task must give the same result.

# %% tags=["parameters"]
folder = "bench"

# %%
import json

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display

from companion.records import profiles

profiles.check_parameters(globals(), ["folder"])
NAMES = ["bars", "decoder", "growth", "whole_step", "block_softmax", "large", "processes"]
files = {name: profiles.OUT / "results" / folder / f"{name}.json" for name in NAMES}
found = {name: json.loads(f.read_text(encoding="utf-8")) for name, f in files.items() if f.is_file()}
COLORS = {"FFN": "#777777", "block_log_softmax": "#c8242f", "algorithm-1": "#c8242f", "sampled paths": "#c8242f"}


def rows(name):
    """The rows of a file of `make bench`; None, and a line that says so, where it was not run."""
    if name in found:
        return pd.DataFrame(found[name]["rows"])
    print("not run:", name, "(make bench)")


# %% [markdown]
# ## Which targets are met?
#
# A bar is a target for one measurement. Where there are several measurements (three shapes of graphs), the worst
# counts. The time of the whole toy batch is not in this table, because it takes too long for a benchmark.

# %%
bars, color = rows("bars"), {"met": "#b1dca4", "missed": "#f4c1d6", "not run": "#e4e4e4"}
if bars is not None:
    bars["verdict"] = ["not run" if pd.isna(m) else "met" if m else "missed" for m in bars.pop("met")]
    styled = bars.style.hide(axis="index").format({"measured": lambda v: f"{v:,.0f}" if v >= 1000 else f"{v:.4g}"}, na_rep="")
    display(styled.map(lambda v: f"background-color: {color[v]}; color: black", subset=["verdict"]))

# %%
pd.DataFrame({"machine": next((f["machine"] for f in found.values()), {})})

# %% [markdown]
# ## What does a training step cost?
#
# We measure a step on cached features of 64 samples: trunk, head, gradient, AdamW. The time of FFN is 1. The path
# decoder runs a GRU over every state that decides between paths to the label, and an FFN has no such states. The
# exact objectives need the paths of the label; Algorithm 1 also draws a path for each uncertain sample.


# %%
def bar_chart(table, group, title):
    """The ratio to FFN of each contestant, one group of bars a value of `group`."""
    wide = table.pivot_table(index="contestant", columns=group, values="ratio", sort=False)
    ax = wide.plot.barh(figsize=(7, 0.6 + 0.55 * len(wide)), width=0.8, color=["#4878a8", "#e0a458", "#6a9a6a"])
    for drawn in ax.containers:
        ax.bar_label(drawn, fmt="%.2f", padding=2, fontsize=8)
    ax.invert_yaxis()
    ax.axvline(1, color="black", lw=0.8)
    ax.margins(x=0.1)
    ax.set(title=title, xlabel="time / time of FFN", ylabel="")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(title=group, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    plt.show()


decoder = rows("decoder")
if decoder is not None:
    bar_chart(decoder[decoder.what == "training step"], "graph", "a training step")

# %% [markdown]
# ## What does an evaluation cost?
#
# The time of FFN is 1. Exact label probabilities need every path of the graph, so the GRU runs over all states that
# have a decision. The tables of this companion need *with greedy and all paths*.

# %%
if decoder is not None:
    bar_chart(decoder[decoder.what == "evaluation"], "graph", "the evaluation of 64 samples")

# %% [markdown]
# ## Where is the time of what misses its target?
#
# The decoder's time on the pet graph, by torch's profiler: in **matrix products**, and in all **other** operations
# (the gates of the GRU, block softmax, sums over paths, copies). `products / FFN` is the time of the matrix products
# alone, divided by FFN's whole time: a faster program with the same GRU could not have a smaller ratio.

# %%
if decoder is not None:
    spent = decoder[(decoder.what == "operations") & (decoder.graph == "pet")][["contestant", "matrix_ms", "other_ms"]]
    whole = (spent.matrix_ms + spent.other_ms).where(spent.contestant.str.endswith("FFN")).ffill()
    spent = spent.assign(**{"products / FFN": spent.matrix_ms / whole, "all / FFN": (spent.matrix_ms + spent.other_ms) / whole})
    display(spent.style.hide(axis="index").format(precision=2))

# %% [markdown]
# ## What does the shared tree save?
#
# The prefix tree computes a state once for all paths that begin with it. Without the tree each path is computed
# separately. The results are the same.

# %%
if decoder is not None:
    shared = decoder[decoder.what == "shared tree"]
    columns = ["graph", "paths", "contestant", "ms", "ratio"]
    display(shared[columns].style.hide(axis="index").format(precision=2))

# %% [markdown]
# ## How does a step grow?
#
# We vary the batch (pet graph), the nodes (10 to 1,000 labels, four questions each), and the paths (37 labels, 2 to
# 32 questions).

# %%
growth = rows("growth")
if growth is not None:
    fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
    for ax, (what, part) in zip(axes, growth.groupby("growing", sort=False), strict=True):
        for name, of_one in part.groupby("contestant", sort=False):
            ax.loglog(of_one[what], of_one.ms, marker="o", label=name, color=COLORS.get(name))
        ax.set(xlabel=what)
    axes[0].set_ylabel("ms a step")
    axes[0].legend(fontsize=8)
    fig.tight_layout()

# %% [markdown]
# ## What does a step cost with an encoder?
#
# EfficientNet with random weights is trained together with the head. Where the bars are near 1, the encoder takes
# most of the time, and the head matters little.

# %%
whole = rows("whole_step")
if whole is not None:
    whole["encoder"] = [f"{r.encoder}, {r.pixels} px, batch {r.batch}" for r in whole.itertuples()]
    bar_chart(whole, "encoder", "a whole training step")

# %% [markdown]
# ## How fast is block softmax?
#
# We compute all log-probabilities of 64 samples, forward and backward. *even*: groups of about ten; *large*: about √N
# groups of √N; *skewed*: √N groups whose sizes fall like 1 / rank. The **loop** calls `torch.log_softmax` once a
# block. The **dense mask** multiplies by an N × N matrix; it overflows for large scores and needs 40 GB at 100,000
# nodes, so it stops early.

# %%
softmax = rows("block_softmax")
if softmax is not None:
    fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
    for ax, shape in zip(axes, ("even", "large", "skewed"), strict=True):
        part = softmax[(softmax.groups == shape) & (softmax.what == "all log-probabilities")]
        for name, of_one in part.groupby("contestant", sort=False):
            ax.loglog(of_one.nodes, of_one.ms, marker="o", label=name, color=COLORS.get(name))
        ax.set(title=f"{shape} groups", xlabel="nodes")
    axes[0].set_ylabel("ms")
    axes[0].legend(fontsize=8)
    fig.tight_layout()

# %% [markdown]
# **How to read it.** Compare the lines at each shape. One call for all blocks avoids a loop, which matters where the
# groups are many and small, as in most label graphs. A loop over a few large groups can be faster, in the largest graphs
# more than twice as fast, because `torch.log_softmax` reads the memory in order. At 50 nodes all are fast, and the dense
# mask is the fastest.
#
# ## And against the package hierarchicalsoftmax?
#
# Two tasks: the probability of every node (forward), and the loss of a leaf (forward and backward). For the loss, the
# package computes only the two blocks on the way to each leaf, sample by sample. `block_log_softmax` computes all blocks of
# all samples at once. So the package's time grows with the number of samples, and ours with the number of nodes too.

# %%
if softmax is not None:
    package = softmax[softmax.contestant == "hierarchicalsoftmax"]
    fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for ax, (what, part) in zip(axes, package.groupby("what", sort=False), strict=True):
        for shape, of_one in part.groupby("groups", sort=False):
            ax.loglog(of_one.nodes, of_one.ratio, marker="o", label=f"{shape} groups")
        ax.axhline(1, color="black", lw=0.8)
        ax.set(title=what, xlabel="nodes")
    axes[0].set_ylabel("package / block_log_softmax")
    axes[0].legend(fontsize=8)
    fig.tight_layout()

# %% [markdown]
# ## How far do label graphs scale?
#
# A taxonomy in which each node has two parents; the largest has more than 100,000 nodes and 16 paths to each label.
# Where the prefix tree of all paths is too large, `companion.heads.large` follows only the paths that are kept. FFN
# is a linear layer over all labels, so its time grows with their number. Greedy decoding and the beam follow a few
# paths only. Training uses four sampled paths for each label.

# %%
large = rows("large")
if large is not None:
    fig, axes = plt.subplots(1, 2, figsize=(8, 3))
    for ax, (what, part) in zip(axes, large.groupby("what", sort=False), strict=True):
        for name, of_one in part.groupby("contestant", sort=False):
            ax.loglog(of_one.nodes, of_one.ms, marker="o", label=name, color=COLORS.get(name))
        ax.set(title=what, xlabel="nodes", ylabel="ms, 64 samples")
        ax.legend(fontsize=8)
    fig.tight_layout()

# %% [markdown]
# ## How long does one wait?
#
# Each row ran in its own process. `first_step` is one seed with a single training step. It includes the imports that
# torch makes only when training begins. *CPU seconds* of a toy cell are those of one seed, with training and test.

# %%
processes = rows("processes")
if processes is not None:
    short = processes[processes.cpu_seconds.notna()]
    columns = ["what", "method", "dataset", "first_step", "cpu_seconds"]
    display(short[columns].style.hide(axis="index").format(precision=3, na_rep=""))

# %% [markdown]
# ## How much memory does encoding take?
#
# Features are written to a file batch by batch, so memory should not grow with the number of images.

# %%
if processes is not None:
    encode = processes[processes.what == "encode"]
    columns = ["encoder", "pixels", "images", "images_mb", "peak_mb", "images_per_second"]
    encode = encode[columns].astype({"pixels": int, "images": int})
    display(encode.style.hide(axis="index").format(precision=1, thousands=","))
