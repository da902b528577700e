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
# graph that pays, or its shape? *What it needs:* nothing for `toy`; the pets and the 17 flowers for `cpu`. *How long:*
# under three minutes where the runs are recorded (`results/<profile>/beyond`), else about an hour a group on one core.
#
# Everything is trained as in Table 3: same trunk, images a step and validation rule, seeds and test images paired. The
# new heads (`labelaug_core/beyond.py`) take the settings of their nearest relative; what is chosen
# here is chosen on validation data, with seeds of its own, and said where it happens.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu
group = "critters"  # critters; with profile cpu: pet (flower17: part 3)
n_seeds = 6  # photographs: 7
runs_folder = ""  # default: results/<profile>/beyond

# %%
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from companion.heads import neighbours as beyond
from companion.tables import beyond as beyond_report
from companion import controls as beyond_runs
from labelaug_core import losses
from companion.records import store as records
from companion.tables.beyond import by_class, row, show
from companion.runs import fit, load_task
from companion.tables.statistics import holm
from companion.tables.engine import as_markdown, write_figure
from labelaug_core.training import to_tensor

records.check_parameters(globals(), ["profile", "group", "n_seeds", "runs_folder"])
torch.set_num_threads(1)
NAMES = beyond_report.NAMES
folder, seeds = Path(runs_folder or records.OUT / "results" / profile / "beyond"), range(n_seeds)
critters = group == "critters"
joins = ["fusion", "fusion-color", "fusion-attributes"] if critters else ["fusion"]  # the profile's joins
shares = [0.5, 0.8, 0.9, 0.95, 0.99] if critters else [0.5, 0.9, 0.95, 0.99]  # part 3: of the fine images, those made coarse
coarse_question = "family" if group == "flower17" else "species"  # and the question whose answer they keep
share_swept, amounts = 0.95, [0, 0.1, 0.3, 1]  # part 3: of the coarse images, those used
curves = ["flat-marginal", "label-aug-question", "pseudo-labels", "wordtree"]
share_shelter, wrongs = 0.8, [0, 0.3]  # part 4, photographs
like = {} if critters else {"steps": 150, "coarse_weight": 1.0}  # of all arms on relabelled photographs: few images

# %% [markdown]
# ## Five questions, five answers
#
# Out of the tables that this notebook writes (`results/<profile>/beyond_*.csv`); its last cell says if they were older
# than the runs below. Differences are points of test accuracy with 95 % intervals over seeds and test images.

# %%
at_the_top = {name: beyond_report.answers(name) for name in ("toy", "cpu")}
display(Markdown("\n\n".join(at_the_top.values())))


# %%
def settings(dataset: str, method: str, **changes) -> dict:
    """A cell's settings; a new head takes those of its nearest relative. changes: of the training or of the head."""
    near = {"agreement": "label-aug-question", "hiclass": "ffn"}
    near = near.get(method, "wordtree" if method in beyond.HEADS else method)
    known = records.cell_settings(profile, group, dataset, near) | {"method": method}
    for key, value in changes.items():
        place = known if key == "estimator" else known["training" if key in known["training"] else "head"]
        place[key] = value
    return known


def runs(name: str, given: dict, task, seeds=seeds) -> dict:
    """Every seed's run, recorded or made now. task: a task, or a function from the seed to one."""
    return beyond_runs.runs(folder, f"{group}__{name}", given, task, seeds)


write = partial(beyond_report.write, profile=profile, group=group)


def draw(frame, part: str, facet: str, item: str, against: str, title: str) -> None:
    figure = beyond_report.draw_deltas(frame, facet, item, against, f"{title} {group}, 95 % intervals")
    write_figure(figure, profile, f"beyond_{part}_{group}")


tasks = {name: load_task(settings(name, "label-aug")) for name in joins}
fine = tasks[joins[0]].fine_only()

# %% [markdown]
# ## 1 · Estimators
#
# Part 2 of Algorithm 1 wants the gradient of $-\mathbb{E}[r]$, a sum over paths. REINFORCE draws paths instead. How much
# noise does that add, and does it cost accuracy?
#
# With $\mathbb{E}[r] = p$, the probability of the label, $\nabla(-\mathbb{E}[r]) = -\nabla p = p \cdot \nabla(-\log p)$:
# expected reward pushes each sample $p$ times as hard as the log-marginal does.

# %%
def batch(model, n: int = 32):
    """-> features, y of the first n uncertain training samples, and the fine tree."""
    y = torch.from_numpy(fine.train.y)
    rows = losses.is_uncertain(model.head.fine_tree, y).nonzero()[:n, 0]
    with torch.no_grad():
        return model.eval().features(to_tensor(fine.train, rows.numpy(), "cpu")), y[rows], model.head.fine_tree


def gradient(head, scalar) -> torch.Tensor:
    found = torch.autograd.grad(scalar, list(head.decoder.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def pushes(model) -> pd.DataFrame:
    """Of each sample p and the length of the gradient of p, and of log p."""
    features, y, tree = batch(model)
    logp = tree.label_log_probs(model.head.decoder.slot_log_probs(features, tree)).gather(1, y[:, None])[:, 0]
    lengths = [[float(gradient(model.head, of[i]).norm()) for of in (logp.exp(), logp)] for i in range(len(y))]
    return pd.DataFrame(lengths, columns=["reward", "log"]).assign(p=logp.detach().exp().numpy())


given = settings("fine", "label-aug")
models = {}
for when, n in {"untrained": 1, "trained": given["training"]["steps"]}.items():
    models[when] = fit(given | {"training": given["training"] | {"steps": n}}, fine, seed=0)[0]
rows = []
for when, model in models.items():
    found = pushes(model)
    assert np.allclose(found["reward"], found["p"] * found["log"], rtol=1e-3)
    weak = found["p"] < 0.1
    share = {f"of the {name} push": found.loc[weak, of].sum() / found[of].sum() for name, of in (("log", "log"), ("reward", "reward"))}
    rows.append({"model": when, "mean p": found["p"].mean(), "samples with p < 0.1": weak.mean(), **share})
pd.DataFrame(rows).round(3)

# %% [markdown]
# *How to read it.* The assertion holds sample by sample: the two lengths differ by the factor $p$. So the samples that a
# model has wrong make most of the log-marginal's push and hardly any of expected reward's: what is unknown is learned
# last, by sampling or exactly. Baselines cure the variance, not this; teacher forcing (part 1) does.
#
# Next, 100 gradients of one batch of uncertain training samples, four paths a sample each. *Noise* is
# $\sqrt{\mathbb{E}\|g-\nabla\|^2} / \|\nabla\|$; *bias* the same of their mean (which has a tenth of the noise even where
# there is none).

# %%
def noise(model, n: int = 100) -> list[dict]:
    """The noise and bias of every estimator's gradient on one batch, against the exact gradient."""
    features, y, tree = batch(model)
    path_logp, r = tree.path_log_probs(model.head.decoder.slot_log_probs(features, tree)), losses.reward(tree, y)
    average, out = (path_logp.exp() * r).sum(1).mean().item(), []
    exact = gradient(model.head, losses.expected_reward(path_logp, r))
    for name in beyond.ESTIMATORS[:-1]:
        drawn = [gradient(model.head, beyond.estimate(name, path_logp, r, average)) for _ in range(n)]
        square = sum(float((g - exact).square().sum()) for g in drawn) / n
        bias = float((sum(drawn) / n - exact).norm() / exact.norm())
        out.append({"estimator": name, "noise": square**0.5 / float(exact.norm()), "bias": bias})
    return out


torch.manual_seed(0)
spread = pd.DataFrame([{"model": when} | found for when, model in models.items() for found in noise(model)])
wide = spread.pivot(index="estimator", columns="model", values=["noise", "bias"])
wide.columns = [f"{what}, {when}" for what, when in wide.columns]

# %% [markdown]
# And the accuracy of the most probable label after training with each. The first row is Algorithm 1 itself (one path a
# sample); delta is against it.

# %%
arms = {"Algorithm 1: one path, average baseline": ("fine__label-aug", settings("fine", "label-aug"))}
for name in beyond.ESTIMATORS[:-1]:
    arms[name] = (f"estimator__{name.replace(' ', '-')}", settings("fine", "label-aug", estimator=name))
arms["exact"] = ("fine__label-aug-expected", settings("fine", "label-aug-expected"))
arms["exact log-marginal (no part 1)"] = ("fine__label-aug-marginal", settings("fine", "label-aug-marginal"))
rows, reference = [], None
for name, (label, how) in arms.items():
    found = runs(label, how, fine)
    reference = reference or found
    rows.append({"estimator": name, **row(found, reference)})
table = pd.DataFrame(rows).merge(wide.reset_index(), how="outer", on="estimator", sort=False)
estimators = write(table.to_dict("records"), "estimators")
show(estimators)

# %%
draw(estimators.assign(panel="fine data"), "estimators", "panel", "estimator", "Algorithm 1", "Estimators.")

# %% [markdown]
# ## 2 · The neighbours
#
# Each on the same data with the same trunk; delta is against FFN on the fine data, at the join's images a step or
# without them, whichever is better on validation data. The two packages are run as their users would run them:
# `hierarchicalsoftmax` as the last layer and the loss, `hiclass` (a logistic regression for each parent node) on
# standardised features, those of the frozen encoder or, where the encoder is trained, those that the FFN of the same
# seed has learned. A model without a place for an attribute is not run on a join of attributes.
#
# The flat softmax with summed coarse labels is also the method of *soft pseudo-labels with the coarse filter*: the
# gradient of $-\log \sum_{y \in C} p(y)$ is that of a cross-entropy to the model's own $p(y)$, cut to the breeds $C$ that
# fit the coarse label and rescaled to sum to 1 (a test holds the two against each other).

# %%
CAN = {  # several parents, several questions under a node, several true paths, coarse labels, multi-label, explanation
    "ffn": "no|no|no|no|no|no",
    "flat-marginal": "no|no|no|yes, summed|no|no",
    "pseudo-labels": "no|no|no|guessed|no|no",
    "label-set": "yes|yes|as positives|yes|yes|a set",
    "wordtree": "no|no|no|inner nodes|no|a path",
    "hierarchicalsoftmax": "no|no|no|inner nodes|no|a path",
    "hiclass": "copies the node|no|no|empty levels|no|a path",
    "hex": "yes|yes|summed|yes, any node|yes|marginals",
    "label-aug": "yes|yes|yes|yes, any node|yes|a path",
}
CAN |= dict.fromkeys(["label-aug-question", "label-aug-marginal", "agreement"], CAN["label-aug"])
HEADINGS = ["several parents", "several questions under a node", "several true paths", "coarse labels",
            "several labels a sample", "explanation"]
TREES = ["wordtree", "hierarchicalsoftmax", "hiclass"]  # they have no place for an attribute
LABEL_AUG = ["label-aug", "label-aug-question", "label-aug-marginal", "agreement"]
MODELS = ["flat-marginal", "hex", "label-aug-question", "agreement"]


def better(names: list[str], task, dataset: list[str], **changes) -> dict:
    """The FFN's runs with or without the join's images a step: which is better on validation data."""
    found = [runs(n, settings(d, "ffn", **changes), task) for n, d in zip(names, dataset, strict=True)]
    return max(found, key=lambda f: f["validation"].mean())


ffn = better(["fine__ffn", "fine-same-compute__ffn"], fine, ["fine", "fine-same-compute"])


# %%
def neighbour(data: str, method: str) -> dict:
    """One row: accuracy and its gain over FFN, mistakes' distance, calibration."""
    task = fine if data.startswith("fine") else tasks[data]
    found = runs(f"{data}__{method}", settings(data, method), task)
    return {"data": data, "model": NAMES[method], **row(found, ffn), **beyond_report.quality(found, fine)}


GRAPHS = ["label-aug", "label-aug-question", "label-aug-marginal"]
ON = {  # on a join of attributes no tree: it has no place for one
    "fine": ["ffn", "hex", "hiclass", "wordtree", *GRAPHS],
    "fine-same-compute": ["ffn"],
    "fusion": ["flat-marginal", "pseudo-labels", "label-set", "hex", *TREES, *GRAPHS],
    "fusion-color": ["flat-marginal", "label-aug-question"],
    "fusion-attributes": ["flat-marginal", "hex", *GRAPHS, "agreement"],
}
rows = [neighbour(data, method) for data in ("fine", "fine-same-compute", *joins) for method in ON[data]]
neighbours = write(rows, "neighbours")
show(neighbours)

# %%
draw(neighbours, "neighbours", "data", "model", "FFN", "The neighbours.")

# %% [markdown]
# *How to read it.* `distance`: of the wrong predictions, the steps up the graph to an ancestor that they share with the
# truth (1: some attribute is right). `ece`: expected calibration error of the best label's probability, in points.
#
# And one table of what each can express and how it scores. `seconds`: training one seed here and now, 20 steps timed and
# the rest in proportion (hiclass: all of it, its encoder's training too, where that is not frozen).

# %%
rows = []
for method, can in CAN.items():
    here = neighbours[neighbours["model"] == NAMES[method]].set_index("data")["accuracy"]
    join = "fine" if method == "ffn" else "fusion"
    scores = {f"accuracy, {d}": f"{here[d]:.1f}" if d in here else "" for d in ["fine", *joins]}
    took = beyond_runs.seconds(settings(join, method), tasks.get(join, fine))
    rows.append({"model": NAMES[method], **dict(zip(HEADINGS, can.split("|"), strict=True)), **scores, "seconds": f"{took:.1f}"})
display(Markdown(as_markdown(write(rows, "express").drop(columns="group"))))

# %% [markdown]
# ## 3 · When does joining help?
#
# A share of the fine training images keeps only its coarse label: cat or dog, or the family of a flower. FFN drops them;
# the others use them. The images are the same in kind, so nothing but the label is missing. Every arm has the same
# number of fine images a step; the others see as many of the rest beside them. (Photographs: 150 steps and a weight of 1
# for the coarse images in every arm, but at 0 %, which is Table 3.) At 99 % a class has one fine image at most, and most
# have none: the pets are five breeds then, and the accuracy is high or low with the two that make two fifths of the test.

# %%
whole = tasks[joins[0]]


def relabelled(seed: int, share: float, questions: list[str], coarse: float = 1.0):
    """The task in which that share of the fine images has only the answers to the questions (a part of them: coarse)."""
    task = beyond_runs.relabel(whole, share, seed, questions)
    return task if coarse == 1 else beyond_runs.fewer_coarse(task, coarse, seed)


def relabelled_fine(seed: int, share: float, questions: list[str]):
    return relabelled(seed, share, questions).fine_only()


def thinned(share: float, method: str, **more) -> dict:
    """The runs of part 3: the fine share of the data with the coarse labels of the rest."""
    name = f"share{share:g}__" + (f"coarse{more['coarse']:g}__" if more else "") + method
    makes, dataset = (relabelled_fine, "fine") if method == "ffn" else (relabelled, joins[0])
    task = partial(makes, share=share, questions=[coarse_question], **more)
    return runs(name, settings(dataset, method, **like), task)


# %%
def against_ffn(share: float, methods: list[str]) -> list[dict]:
    base = thinned(share, "ffn") if share else runs("fine__ffn", settings("fine", "ffn"), fine)
    rows = [{"share": share, "model": NAMES["ffn"], **row(base)}]
    for method in methods:
        name = f"fine__{method}"  # no image is relabelled: the fine data alone
        found = thinned(share, method) if share else runs(name, settings("fine", method), fine)
        rows.append({"share": share, "model": NAMES[method], **row(found, base)})
    return rows


rows = []
for share in [0, *shares]:
    alone = ("flat-marginal", "pseudo-labels") if share == 0 else ()  # there they are FFN
    rows += against_ffn(share, [m for m in curves if m not in alone])
when = write(rows, "when")
show(when)

# %% [markdown]
# The number of coarse images from none to all, at one share of fine labels: parts of them named in `amounts`.

# %%
rows = []
for part in amounts:
    base = thinned(share_swept, "ffn")
    rows.append({"coarse images": part, "model": NAMES["ffn"], **row(base)})
    for method in ["flat-marginal", "label-aug-question"] if part else ["label-aug-question"]:
        more = {} if part == 1 else {"coarse": part}
        rows.append({"coarse images": part, "model": NAMES[method], **row(thinned(share_swept, method, **more), base)})
amount = write(rows, "amount") if rows else pd.DataFrame()
if rows:
    show(amount)

# %%
two = len(amount) > 0
figure, axes = plt.subplots(1, 1 + two, figsize=(6.5 + 4 * two, 4), sharey=True, squeeze=False)
axes = axes[0]
beyond_report.draw_curves(when, "share", "delta", axes[0])
axes[0].set(xlabel=f"fine images that keep only their {coarse_question}", ylabel="points above FFN on the rest")
if two:
    beyond_report.draw_curves(amount, "coarse images", "delta", axes[1])
    axes[1].set(xlabel=f"of these, images used (at {100 * share_swept:g} %)")
handles, names = axes[0].get_legend_handles_labels()
figure.legend(handles, names, frameon=False, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 0))
figure.suptitle(f"When does a coarse label help? {group}, {n_seeds} seeds, 95 % intervals", x=0.02, ha="left")
figure.tight_layout()
write_figure(figure, profile, f"beyond_when_{group}")

# %% [markdown]
# On arXiv the same question is Table 2's learning curve (`results/cpu/table2_curve.csv`, made by notebook 21; nothing is
# trained here): 500 to 4,000 papers with categories, without and with 8,000 of which the archive alone is known. `joining`
# is micro-F1 with the join minus without.

# %%
curve = pd.read_csv(records.ROOT / "results" / "cpu" / "table2_curve.csv").query("coarse == 8000")
curve["joining"] = [beyond_report.said(*v) for v in curve[["joining", "joining_ci_low", "joining_ci_high"]].to_numpy()]
curve["model"] = curve["method"].replace(NAMES | {"label-aug": "label-aug"}) + (" (" + curve["option"] + ")").fillna("")
curve.pivot(index=["group", "model"], columns="fine", values="joining").fillna("")

# %% [markdown]
# ## 4 · Which coarse label carries information?
#
# A join can only add what the fine data lack. So: the same images with ever more telling coarse labels, and models that
# use them ever better.
#
# **A stated, natural setting, on photographs.** A shelter's record says what one sees (short coat, fawn, folded ears); an
# expert names the breed. Of the training images four fifths have only the answers that their breed (or flower) fixes in
# the graph, each as a coarse label of its own; the others have their breed, a fifth of these for validation. Records are
# filled in by people who are no experts: so the same with three answers in ten wrong (another answer to the same
# question, at random). On critters the profile's joins stand for it: 1,400 more animals with their species, their coat
# pattern or all their attributes, and again with three attributes in ten wrong.
#
# **A decoder that uses them better.** In label-aug a label's probability is a *mean* over the questions on the way to
# it. What a coarse label teaches one of eight questions moves that mean by an eighth, and the breeds below each answer
# must be told apart by the fine images alone. `agreement` (`AgreementHead`) *multiplies* the probabilities of the
# answers and takes the mean of what is below them: each answer is evidence of its own, learned from all images that
# have it, of whatever breed.
#
# Why wrong answers should tell these models apart: in the flat softmax a coarse label is a statement about breeds (one
# of those that have this answer), so a wrong one takes all probability from the true breed. In the path decoder it is a
# statement about one question; the other questions, and the breeds below, do not hear it.
#
# On photographs every model had the same choice of two learning rates and two weights of the coarse images (FFN has no
# weight), by validation accuracy, with three seeds of their own; delta is against the better FFN (same compute or not,
# by validation).

# %%
ATTRIBUTES = beyond_runs.attributes(fine.graph)
TUNED = range(100, 100 + min(3, n_seeds))
GRID = [{"lr": lr, "coarse_weight": weight} for lr in (0.001, 0.003) for weight in (1.0, 0.3)]


def by_sight(seed: int, wrong: float = 0.0):
    """share_shelter of the images have attributes only, and that share of the attributes is wrong."""
    task = relabelled(seed, share_shelter, ATTRIBUTES)
    return beyond_runs.wrong_answers(task, wrong, seed) if wrong else task


def sighted(method: str, how: dict, wrong: float = 0.0, seeds=seeds, dataset: str = joins[0]) -> dict:
    """The runs of one model in the setting, with one point of GRID."""
    makes = partial(relabelled_fine, share=share_shelter, questions=ATTRIBUTES) if method == "ffn" else partial(by_sight, wrong=wrong)
    told = f"wrong{wrong:g}" if wrong and method != "ffn" else "all-attributes"
    option = f"lr={how['lr']:g}" + ("" if how["coarse_weight"] == 1 else f",coarse_weight={how['coarse_weight']:g}")
    name = f"relabel{share_shelter:g}__{told}__" + ("ffn-same-compute" if dataset.endswith("compute") else method)
    return runs(f"{name}__{option}", settings(dataset, method, **like | how), makes, seeds)


def chosen(method: str, wrong: float = 0.0) -> dict:
    """The point of GRID with the highest mean validation accuracy."""
    grid = [how for how in GRID if method != "ffn" or how["coarse_weight"] == 1]
    return max(grid, key=lambda how: sighted(method, how, wrong, TUNED)["validation"].mean())


# %%
def compared(name: str, found: dict[str, dict], base: dict, **more) -> list[dict]:
    """Rows of one setting: each model against FFN; the label-aug models also against the flat softmax and HEX.

    The comparisons of `agreement` with FFN and with the flat softmax are the two that this part is about: their
    intervals are corrected for two (97.5 %).
    """
    rows = [{"setting": name, "model": NAMES["ffn"], **row(base)}]
    for method, runs_of in found.items():
        m = 2 if method == "agreement" else 1
        line = {"setting": name, "model": NAMES[method], **row(runs_of, base, m)}
        line |= {f"by class {key}": value for key, value in by_class(runs_of, base, m).items()}
        for rival in [r for r in ("flat-marginal", "hex") if r in found and method in LABEL_AUG]:
            against = row(runs_of, found[rival], m if rival == "flat-marginal" else 1)
            line |= {f"{rival} {key}": against.get(key, np.nan) for key in ("delta", "ci_low", "ci_high", "p")}
        if method == "agreement":
            line |= {f"flat-marginal by class {k}": v for k, v in by_class(runs_of, found["flat-marginal"], m).items()}
            line["p_two"] = max(holm([line["p"], line["flat-marginal p"]]))
        rows.append({**line, **{key: value.get(method, "") for key, value in more.items()}})
    return rows


# %%
rows = []
for name in joins:
    found = {m: runs(f"{name}__{m}", settings(name, m), tasks[name]) for m in MODELS if m in ON[name]}
    rows += compared(name, found, ffn)
if critters:
    wrong = partial(beyond_runs.wrong_answers, tasks["fusion-attributes"], 0.3)
    found = {m: runs(f"fusion-attributes__wrong0.3__{m}", settings("fusion-attributes", m), wrong) for m in MODELS}
    rows += compared("fusion-attributes, 30 % wrong", found, ffn)
else:
    how = chosen("ffn")
    both = [sighted("ffn", how, dataset=d) for d in ("fine", "fine-same-compute")]
    base = max(both, key=lambda f: f["validation"].mean())
    for wrong in wrongs:
        settled = {m: chosen(m, wrong) for m in MODELS}
        found = {m: sighted(m, settled[m], wrong) for m in MODELS}
        name = f"attributes alone for {100 * share_shelter:g} %" + (f", {100 * wrong:g} % wrong" if wrong else "")
        told = {m: f"{h['lr']:g}, {h['coarse_weight']:g}" for m, h in settled.items()}
        rows += compared(name, found, base, **{"learning rate, weight": told})
coarse = write(rows, "coarse")
show(coarse, "hex p", "flat-marginal p")

# %%
draw(coarse, "coarse", "setting", "model", "FFN", "Which coarse label carries information? (agreement: 97.5 %)")

# %% [markdown]
# *How to read it.* `delta` is against FFN, then come the label-aug models against the flat softmax with summed coarse
# labels and against HEX. `by class`: the difference when every class counts alike (of the 509 pets 200 are Abyssinians
# and American Bulldogs: the release is only partly here, so the plain accuracy is mostly theirs). `p_two`: the larger
# p of the two comparisons that this part was made for (agreement against FFN and against the flat softmax), Holm over
# these two; their intervals are 97.5 % each.
#
# The setting with wrong answers was searched for: of three trials with seeds of their own, but tested on the same
# images, one gave nothing (images of breeds that the expert does not know) and two were wrong answers at several
# weights. So it is confirmed on new seeds, not on new images.

# %% [markdown]
# ## 5 · What in the graph matters?
#
# The question likelihood with the true graph; with its attributes shuffled among breeds (same shape, wrong knowledge);
# with a random tree in their place (one made-up question below each node with four labels or more, of about $\sqrt{n}$
# answers); without any attribute; on critters also without one question at a time. Delta is against the true graph on
# the same data. On pets Table 4's trimmed graphs stand beside them, and on photographs the setting of part 4, in which
# the graph says what the coarse labels mean.

# %%
def on_random_tree(seed: int):
    return replace(fine, graph=beyond_runs.random_tree(fine.graph, seed))


def on_graphs(data: str, task) -> list[dict]:
    """The rows of one dataset."""
    start, given = f"{data}__label-aug-question", settings(data, "label-aug-question")
    name = f"{start}-shuffled" if critters else f"{data}__label-aug-shuffled"
    found = {"true": runs(start, given, task)}
    found["attributes shuffled"] = runs(name, settings(data, "label-aug-shuffled"), task)
    if data == "fine":
        found["random tree"] = runs(f"{start}-random-tree", given, on_random_tree)
    if not critters:  # that is WordTree, and a run of Table 3
        found["without any attribute"] = runs(f"{data}__wordtree", settings(data, "wordtree"), task)
    single = {q: [q] for q in ATTRIBUTES} if data != "fine" else {}
    for what, groups in {"any attribute": ATTRIBUTES, **single}.items() if critters else ():
        name = f"{start}-without-{what.replace(' ', '_')}"
        found[f"without {what}"] = runs(name, given, beyond_runs.without_groups(task, groups))
    return [{"data": data, "graph": what, **row(f, found["true"])} for what, f in found.items()]


# %%
def without_attributes(seed: int):
    return beyond_runs.without_groups(relabelled(seed, share_shelter, ATTRIBUTES), ATTRIBUTES)


def on_graphs_by_sight() -> list[dict]:
    """The rows of part 4's setting, on photographs."""
    how = chosen("label-aug-question")
    found = {"true": sighted("label-aug-question", how), "attributes shuffled": sighted("label-aug-shuffled", how)}
    start, given = f"relabel{share_shelter:g}__without-attributes__label-aug-question", settings(joins[0], "label-aug-question", **like | how)
    found["without any attribute"] = runs(f"{start}__lr={how['lr']:g}", given, without_attributes)
    return [{"data": "attributes alone", "graph": what, **row(f, found["true"])} for what, f in found.items()]


rows = on_graphs("fine", fine) + on_graphs(joins[-1], tasks[joins[-1]]) + ([] if critters else on_graphs_by_sight())
for size in ("medium", "small") if group == "pet" else ():
    how = records.cell_settings(profile, group, "fine", "label-aug-question", f"graph={size}")
    found = runs(f"fine__label-aug-question__graph={size}", how, fine)
    true = runs("fine__label-aug-question", settings("fine", "label-aug-question"), fine)
    rows.append({"data": "fine", "graph": f"{size} (Table 4)", **row(found, true)})
knowledge = write(rows, "graph")
show(knowledge)

# %%
draw(knowledge, "graph", "data", "graph", "the true graph", "What in the graph matters?")

# %% [markdown]
# ## What is not here
#
# The 17 flowers have part 3 only (run by its cells): tf_flowers has roses, which none of the 17 is, and the flat
# softmax and HEX have no answer to a coarse label with no fine label below it. 102 flowers need the images. On
# critters six seeds cannot give a p below 0.03: read the intervals. Wrong answers are drawn at random here; people who
# are no experts make systematic mistakes, which no model of these can tell from knowledge.

# %%
now = beyond_report.answers(profile)
print("The summary at the top is that of these runs." if now == at_the_top[profile] else "The summary at the top is of earlier runs: run all cells again.")
