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
# # 40 · Beyond the paper
#
# *What you will learn:* what a skeptical reader asks next. Is REINFORCE the right estimator? Do simpler models of the
# same labels do as well? When does a join help? Which coarse label carries information? And is it the knowledge in the
# graph that pays, or its shape? *What it needs:* nothing for `toy`, the pets for `cpu`. *How long:* seconds where the
# runs are recorded (`results/<profile>/beyond`), else about 20 minutes a profile on one core.
#
# Everything is trained as in Table 3: same trunk, steps, images a step and validation rule; the new heads
# (`labelaug_core/beyond.py`) take the settings of their nearest relative, so they had no tuning of their own.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu
group = "critters"  # critters, pet
joins = ["fusion", "fusion-attributes"]  # datasets of the profile
shares = [0.8, 0.95]  # of the fine training images, those that keep only their coarse label
n_seeds = 4

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from labelaug_core import beyond, losses, records
from labelaug_core.cell import fit, load_task
from labelaug_core.reporting import as_markdown, write_figure
from labelaug_core.training import to_tensor

records.check_parameters(globals(), ["profile", "group", "joins", "shares", "n_seeds"])
torch.set_num_threads(1)
folder, seeds = records.OUT / "results" / profile / "beyond", range(n_seeds)
NAMES = {
    "ffn": "FFN", "pseudo-labels": "Pseudo Labels", "flat-marginal": "flat softmax, summed", "hex": "HEX",
    "wordtree": "WordTree", "label-aug": "label-aug, Algorithm 1", "label-aug-question": "label-aug, question",
    "label-aug-marginal": "label-aug, marginal",
}


# %%
def settings(dataset: str, method: str, **changes) -> dict:
    """A cell's settings; a new head takes those of WordTree, its nearest relative."""
    known = records.cell_settings(profile, group, dataset, "wordtree" if method in beyond.HEADS else method)
    return known | {"method": method, **changes}


def right(name: str, given: dict, task) -> np.ndarray:
    """Every seed's run: which test samples are right [seeds, N]. task: a task, or a function from the seed to one."""
    return np.stack([beyond.run(folder, name, given, task(s) if callable(task) else task, s) for s in seeds])


def write(rows: list[dict], name: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame.insert(0, "group", group)
    frame.to_csv(records.OUT / "results" / profile / f"beyond_{name}.csv", index=False, float_format="%.4f")
    return frame


def show(frame: pd.DataFrame) -> None:
    """As a table: accuracy ± its standard deviation over seeds, a difference with its interval."""
    out = frame.drop(columns=["seeds", "group", "p"], errors="ignore").copy()
    out["accuracy"] = [f"{a:.2f} ± {s:.2f}" for a, s in zip(out["accuracy"], out.pop("accuracy_std"), strict=True)]
    if "delta" in out:
        low, high = out.pop("ci_low"), out.pop("ci_high")
        out["delta"] = ["" if np.isnan(d) else f"{d:+.2f} [{a:+.2f}, {b:+.2f}]" for d, a, b in zip(out["delta"], low, high, strict=True)]
    display(Markdown(as_markdown(out)))


tasks = {name: load_task(settings(name, "label-aug")) for name in joins}
fine = tasks[joins[0]].fine_only()

# %% [markdown]
# ## 1 · Estimators
#
# Part 2 of Algorithm 1 wants the gradient of $-\mathbb{E}[r]$, a sum over paths. REINFORCE draws paths instead. How much
# noise does that add, and does it cost accuracy?
#
# With $E[r] = p$, the probability of the label, $\nabla(-E[r]) = -\nabla p = p \cdot \nabla(-\log p)$: expected reward
# pushes each sample $p$ times as hard as the log-marginal does. A sample that the model has wrong ($p$ near 0) hardly
# moves it, by sampling or exactly. Baselines cure the variance, not this.
#
# Below: 200 gradients of one batch of uncertain training samples, with respect to all parameters of the decoder, four
# paths a sample each. *Noise* is $\sqrt{\mathbb{E}\|g-\nabla\|^2} / \|\nabla\|$; *bias* the same of the mean of the 200
# (which has $1/\sqrt{200}$ of the noise even where there is none).

# %%
def gradient(head, scalar) -> torch.Tensor:
    found = torch.autograd.grad(scalar, list(head.decoder.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def noise(model, task) -> list[dict]:
    """The noise and bias of every estimator's gradient on one batch, against the exact gradient."""
    head, tree = model.head, model.head.fine_tree
    y = torch.from_numpy(task.train.y)
    rows = losses.is_uncertain(tree, y).nonzero()[:32, 0]
    y = y[rows]
    with torch.no_grad():
        features = model.eval().features(to_tensor(task.train, rows.numpy(), "cpu"))
    path_logp, r = tree.path_log_probs(head.decoder.slot_log_probs(features, tree)), losses.reward(tree, y)
    average, exact = (path_logp.exp() * r).sum(1).mean().item(), gradient(head, losses.expected_reward(path_logp, r))
    out = []
    for name in beyond.ESTIMATORS[:-1]:
        total, square = torch.zeros_like(exact), 0.0
        for _ in range(200):
            g = gradient(head, beyond.estimate(name, path_logp, r, average))
            total, square = total + g, square + float((g - exact).square().sum())
        out.append({"estimator": name, "p of the label": average, "noise": (square / 200) ** 0.5 / float(exact.norm()),
                    "bias": float((total / 200 - exact).norm() / exact.norm())})
    return out


# %%
given, rows, reference = settings("fine", "label-aug"), [], None
for when in ("untrained", "trained"):
    steps = 1 if when == "untrained" else given["training"]["steps"]
    model, *_ = fit(given | {"training": given["training"] | {"steps": steps}}, fine, seed=0)
    torch.manual_seed(0)
    rows += [{"model": when} | row for row in noise(model, fine)]
spread = pd.DataFrame(rows)

rows = []
for name in beyond.ESTIMATORS:
    found = right(f"{group}__estimator__{name.replace(' ', '-')}", settings("fine", "label-aug", estimator=name), fine)
    reference = found if reference is None else reference
    rows.append({"estimator": name, **beyond.summary(found, None if found is reference else reference)})
marginal = right(f"{group}__estimator__marginal", settings("fine", "label-aug-marginal"), fine)
rows.append({"estimator": "exact log-marginal (no part 1)", **beyond.summary(marginal, reference)})
accuracy = pd.DataFrame(rows)
columns = [f"{what}, {when}" for when in ("untrained", "trained") for what in ("noise", "bias")]
wide = spread.pivot(index="estimator", columns="model", values=["noise", "bias"])
wide.columns = [f"{what}, {when}" for what, when in wide.columns]
estimators = write(accuracy.merge(wide[columns].reset_index(), how="left", on="estimator").to_dict("records"), "estimators")
show(estimators.round(2))

# %% [markdown]
# Accuracy is that of the most probable label; delta is against REINFORCE without baseline.

# %% [markdown]
# ## 2 · The neighbours
#
# | model | several parents | several questions under a node | several true paths | coarse labels | several labels a sample | an explanation |
# | --- | --- | --- | --- | --- | --- | --- |
# | flat softmax, coarse labels by summed probability | no | no | no | yes | no | no |
# | WordTree (YOLO9000): conditional softmax over a tree | no | no | no | yes | no | a path |
# | HEX (Deng et al., 2014): exclusion and hierarchy | yes | yes | yes, summed | yes | yes | marginals |
# | Label Set | yes | yes | as positives | yes | yes | a set |
# | label-aug | yes | yes | yes | yes | yes | a path, with probabilities |
#
# Each on the same data with the same trunk; delta is against FFN on the fine data, at the join's images a step or
# without them, whichever is better on validation data.

# %%
def validation(name: str) -> float:
    return np.mean([records.read_record(records.record_path(folder, name, s))["validation"]["val_accuracy"] for s in seeds])


both = {d: right(f"{group}__{d}__ffn", settings(d, "ffn"), fine) for d in ("fine", "fine-same-compute")}
ffn = both[max(both, key=lambda d: validation(f"{group}__{d}__ffn"))]
rows = [{"data": d, "model": NAMES["ffn"], **beyond.summary(found, None if found is ffn else ffn)} for d, found in both.items()]
models = ["flat-marginal", "hex", "wordtree", "label-aug", "label-aug-question", "label-aug-marginal"]
for method in models[1:]:  # on the fine data alone the flat softmax is FFN
    found = right(f"{group}__fine__{method}", settings("fine", method), fine)
    rows.append({"data": "fine", "model": NAMES[method], **beyond.summary(found, ffn)})
for name, task in tasks.items():
    for method in models:
        if method == "wordtree" and name != "fusion":  # it has no place for an attribute
            continue
        found = right(f"{group}__{name}__{method}", settings(name, method), task)
        rows.append({"data": name, "model": NAMES[method], **beyond.summary(found, ffn)})
neighbours = write(rows, "neighbours")
show(neighbours)

# %% [markdown]
# ## 3 · When does joining help?
#
# A share of the fine training images keeps only its species. FFN drops them; the others use them. The images are the
# same in kind, so nothing but the label is missing. Every arm has the same number of fine images a step; the others see
# as many of the rest beside them.

# %%
rows = []
for share in shares:
    def thinned(seed: int, share: float = share):
        return beyond.relabel(tasks[joins[0]], share, seed)

    def thinned_fine(seed: int, share: float = share):
        return beyond.relabel(tasks[joins[0]], share, seed).fine_only()

    base = right(f"{group}__share{share}__ffn", settings("fine", "ffn"), thinned_fine)
    rows.append({"share": share, "model": NAMES["ffn"], **beyond.summary(base)})
    for method in ("pseudo-labels", "flat-marginal", "hex", "wordtree", "label-aug", "label-aug-question"):
        found = right(f"{group}__share{share}__{method}", settings(joins[0], method), thinned)
        rows.append({"share": share, "model": NAMES[method], **beyond.summary(found, base)})
when = write(rows, "when")
show(when)

# %%
figure, axes = plt.subplots(figsize=(8, 4))
models = [m for m in when["model"].unique() if m != NAMES["ffn"]]
for i, model in enumerate(models):
    part = when[when["model"] == model]
    x = np.arange(len(part)) + 0.1 * (i - len(models) / 2)
    axes.errorbar(x, part["delta"], yerr=[part["delta"] - part["ci_low"], part["ci_high"] - part["delta"]], fmt="o", ms=5, capsize=2, label=model)
axes.axhline(0, color="0.6", lw=1)
axes.set_xticks(range(len(shares)), [f"{100 * s:.0f} %" for s in shares])
axes.set(xlabel="fine training images that keep only their species", ylabel="points above FFN on the rest")
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
axes.spines[["top", "right"]].set_visible(False)
axes.set_title(f"When does a species help? {group}, {n_seeds} seeds, 95 % intervals", loc="left")
write_figure(figure, profile, f"beyond_when_{group}")

# %% [markdown]
# ## 4 · Which coarse label carries information?
#
# A join can only add what the fine data lack. The same coarse images, labelled ever more finely, by the method that
# used them best among the flat and the graph models: the gain over FFN, and the graph's over the best flat joint model.

# %%
flat = [NAMES[m] for m in ("flat-marginal", "hex", "wordtree")]
rows = []
for name in tasks:
    here = neighbours[neighbours["data"] == name]
    best = here[here["model"].isin(flat)].nlargest(1, "accuracy").iloc[0]["model"]
    method = next(m for m, title in NAMES.items() if title == best)
    rival = right(f"{group}__{name}__{method}", settings(name, method), tasks[name])
    ours = right(f"{group}__{name}__label-aug-question", settings(name, "label-aug-question"), tasks[name])
    against = beyond.summary(ours, rival)
    rows.append({"coarse labels": name, **beyond.summary(ours, ffn), "best flat": best, "over it": against["delta"],
                 "over it, low": against["ci_low"], "over it, high": against["ci_high"]})
coarse = write(rows, "coarse")
show(coarse)

# %% [markdown]
# ## 5 · What in the graph matters?
#
# The question likelihood on the last join and on the fine data alone, with the true graph, with its attributes shuffled
# among breeds (same shape, wrong knowledge), without augmented nodes, and without one group of attributes at a time.
# Delta is against the true graph on the same data.

# %%
graph = fine.graph
attributes = sorted({graph.group[v] for v in graph.augmented if graph.group.get(v) in graph.exclusive} - {"species"})


def without(task, names: list[str]):
    """The task without the nodes of some groups; coarse samples whose label is among them go, too."""
    dropped = {v for v in graph.augmented if graph.group.get(v) in names}
    labels = [v for v in task.labels if v not in dropped]
    index = {v: i for i, v in enumerate(labels)}
    coarse = task.coarse
    if coarse is not None:
        rows = np.array([i for i, y in enumerate(coarse.y) if task.labels[y] in index], dtype=int)
        coarse = replace(coarse.take(rows), y=np.array([index[task.labels[y]] for y in coarse.y[rows]]))
        coarse = coarse if len(rows) else None
    return replace(task, graph=graph.without(*dropped), labels=labels, coarse=coarse)


# %%
rows = []
for data, task in {"fine": fine, joins[-1]: tasks[joins[-1]]}.items():
    given = settings(data, "label-aug-question")
    start = f"{group}__{data}__label-aug-question"
    true = right(start, given, task)
    rows.append({"data": data, "graph": "true", **beyond.summary(true)})
    shuffled = right(f"{start}-shuffled", given | {"method": "label-aug-shuffled"}, task)
    rows.append({"data": data, "graph": "attributes shuffled", **beyond.summary(shuffled, true)})
    for what, names in {"any attribute": attributes, **{a: [a] for a in attributes}}.items():
        found = right(f"{start}-without-{what.replace(' ', '_')}", given, without(task, names))
        rows.append({"data": data, "graph": f"without {what}", **beyond.summary(found, true)})
knowledge = write(rows, "graph")
show(knowledge)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 0.4 * knowledge["graph"].nunique() + 1), sharey=True)
for ax, (data, part) in zip(axes, knowledge.dropna(subset="delta").groupby("data", sort=False), strict=True):
    y = np.arange(len(part))[::-1]
    ax.errorbar(part["delta"], y, xerr=[part["delta"] - part["ci_low"], part["ci_high"] - part["delta"]], fmt="o", capsize=2, color="#2b6cb0")
    ax.axvline(0, color="0.6", lw=1)
    ax.set_yticks(y, part["graph"])
    ax.set(title=data, xlabel="points against the true graph")
    ax.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
write_figure(figure, profile, f"beyond_graph_{group}")

# %% [markdown]
# ## Five questions, five answers

# %%
def say(row, what: str = "delta") -> str:
    return f"{row[what]:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]"


def best(frame: pd.DataFrame) -> pd.Series:
    return frame.loc[frame["delta"].idxmax()]


loud, quiet = (estimators.set_index("estimator").loc[n] for n in ("no baseline", "leave-one-out"))
last = when[when["share"] == max(shares)]
top, ours = best(last), last.set_index("model").loc[NAMES["label-aug-question"]]
few = knowledge[(knowledge["data"] == joins[-1])].set_index("graph")
lines = [
    f"**Estimators.** On the trained model REINFORCE's gradient has {loud['noise, trained']:.1f} times its length as noise, with "
    f"leave-one-out {quiet['noise, trained']:.1f}. In accuracy the exact gradient differs from REINFORCE without baseline by "
    f"{say(estimators.set_index('estimator').loc['exact'])} points.",
    f"**Neighbours.** On `{joins[-1]}` the best model is {best(neighbours[neighbours['data'] == joins[-1]])['model']}: "
    f"{say(best(neighbours[neighbours['data'] == joins[-1]]))} points over FFN.",
    f"**When.** With {100 * max(shares):.0f} % of the fine images known by species alone, {top['model']} gains {say(top)} points over "
    f"FFN, label-aug (question) {say(ours)}.",
    "**Which labels.** Over the best flat joint model label-aug (question) is "
    + ", ".join(f"{r['over it']:+.1f} [{r['over it, low']:+.1f}, {r['over it, high']:+.1f}] on `{r['coarse labels']}`" for _, r in coarse.iterrows()) + ".",
    f"**Knowledge.** On `{joins[-1]}`, shuffled attributes change the true graph's accuracy by {say(few.loc['attributes shuffled'])} points, "
    f"no attributes at all by {say(few.loc['without any attribute'])}.",
]
display(Markdown("\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))))
