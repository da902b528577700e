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
# # 41 · Is REINFORCE the right estimator?
#
# *What you will learn:* how much noise Algorithm 1 adds by drawing paths, when its average baseline lowers the noise and
# when it raises it, and whether another estimator gives a better classifier. *What it needs:* nothing for `toy`; the
# records of `make beyond` to rewrite the table. *How long:* a minute, for the measurement of the noise.
#
# Part 2 of Algorithm 1 needs the gradient of $-\mathbb{E}[r]$, a sum over all paths. REINFORCE samples paths instead.
# On a small graph the sum is cheap. So the exact gradient is known, and each estimator can be compared with it.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu
group = ""  # of the noise measurement; empty: critters, or with profile cpu pet
draws = 100  # gradients a row of the noise table

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from companion.heads.estimators import surrogate
from companion.records import profiles
from companion.runs import build, fit_cell, load_task
from companion.tables import beyond
from companion.tables.writing import as_markdown
from labelaug_core import losses
from labelaug_core.files.cache import write_files
from labelaug_core.training import to_tensor

profiles.check_parameters(globals(), ["profile", "group", "draws"])
torch.set_num_threads(1)
group = group or ("critters" if profile == "toy" else "pet")
rows, notes = beyond.question(profile, "estimators")

# %% [markdown]
# ## The answer
#
# Each row below is trained as Algorithm 1 is, with the same part 1 (teacher forcing) and the same seeds. Only the
# estimator of part 2 changes. The first row is Algorithm 1 itself: one sampled path for each image, and the average
# baseline. The other estimators sample four paths.

# %%
for name, part in rows.groupby("group", sort=False):
    others = beyond.compared(part)
    message = f"{name}, {len(others)} other ways to train part 2: {beyond.counted(others)}"
    beyond.draw(others, "Algorithm 1", message, f"beyond_estimators_{name}", profile)

# %%
for name, part in rows.groupby("group", sort=False):
    others, reference = beyond.compared(part), beyond.one(part, role="reference")
    far = beyond.one(others, name=others.loc[others["delta"].abs().idxmax(), "name"])
    exact, marginal = (beyond.one(part, method=f"label-aug-{m}") for m in ("expected", "marginal"))
    display(Markdown(
        f"**{name}.** With Algorithm 1 the most probable label is right in {reference.mean:.1f} % of the test images. "
        f"Of {len(others)} other ways to train, compared with it: {beyond.counted(others)}. The largest difference is "
        f"that of {beyond.says(far)}. The exact gradient of part 2 draws no path: {beyond.says(exact)}. The log-marginal "
        f"likelihood draws none and has no part 1: {beyond.says(marginal)}."
    ))  # fmt: skip

# %%
display(Markdown(f"{beyond.markdown(rows, 'Algorithm 1', 'estimator')}\n{' '.join(notes)}"))

# %% [markdown]
# **How to read it.** *Accuracy* is the mean and the standard deviation over seeds, in percent. It counts the most
# probable label (*exact*) in every row. Table 3 shows Algorithm 1 with its own *greedy* decoding, so the two numbers
# differ. The *difference* is paired by seed and test image, with a 95 % interval (notebook 22). The *verdict* is that
# of a test at 5 % after Holm's correction over this table. *No difference shown* does not mean *equal*: the interval
# shows how large a difference could have been missed. Methods that sample four paths also compute more than Algorithm
# 1 with one.
#
# ## How noisy is each estimator?
#
# We take one batch of uncertain training samples, compute its exact gradient $\nabla$, and compute many estimates $g$
# of it. *Noise* is $\sqrt{\mathbb{E}\,\|g-\nabla\|^2} / \|\nabla\|$. *Bias* is the same for the mean of the
# estimates. It is never exactly 0: for an unbiased estimator we expect the noise divided by the square root of the
# number of estimates.
#
# A baseline $b$ changes the estimate to $g_b = g_0 - b\,s$, where $s$ is the sum of $\nabla \log p(P)$ over the drawn paths.
# The mean of $s$ is zero, so every $b$ is right on average. The noise is smallest at
#
# $$b^* = \frac{\mathbb{E}\,[(g_0 - \nabla) \cdot s]}{\mathbb{E}\,\|s\|^2}
#       = \frac{\sum_P p(P)\,r(P)\,\|\nabla \log p(P)\|^2}{\sum_P p(P)\,\|\nabla \log p(P)\|^2},$$
#
# where the sums also run over the samples. This is the share of the squared gradient length that lies on rewarded
# paths. A baseline lowers the noise only if it is between 0 and $2\,b^*$.

# %%
settings = profiles.cell_settings(profile, group, "fine", "label-aug")
task = load_task(settings)
models = {"at the start": build(settings, task, seed=0)[0], "after training": fit_cell(settings, task, seed=0).model}


def batch(model, n: int = 32):
    """-> path_logp [n, P] and reward [n, P] of the first n uncertain training samples."""
    y, tree = torch.from_numpy(task.train.y).long(), model.head.fine_tree
    chosen = losses.is_uncertain(tree, y).nonzero()[:n, 0]
    with torch.no_grad():
        features = model.eval().features(to_tensor(task.train, chosen.numpy(), "cpu"))
    return tree.path_log_probs(model.head.decoder.slot_log_probs(features, tree)), losses.reward(tree, y[chosen])


def gradient(model, scalar) -> torch.Tensor:
    """The gradient of a scalar in all weights of the decoder, one vector."""
    found = torch.autograd.grad(scalar, list(model.head.decoder.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat([g.flatten() for g in found if g is not None])


# %%
def noise(model) -> dict[str, tuple]:
    """Of every estimator the baseline, the noise and the bias on one batch."""
    path_logp, r = batch(model)
    exact, p = gradient(model, losses.expected_reward(path_logp, r)), path_logp.detach().exp()
    average, found = float((p * r).sum(1).mean()), {}

    def measured(name: str, baseline, drawn: torch.Tensor) -> None:
        off = drawn - exact
        found[name] = (
            baseline,
            float(off.norm(dim=1).square().mean().sqrt() / exact.norm()),
            float(off.mean(0).norm() / exact.norm()),
        )

    paths = [torch.multinomial(p, 4, replacement=True) for _ in range(draws)]
    g = torch.stack([gradient(model, surrogate("no baseline", path_logp, r, 0.0, k)) for k in paths])
    s = torch.stack([gradient(model, -path_logp.gather(1, k).mean()) for k in paths])
    best = float(((g - exact) * s).sum() / s.square().sum())
    for name, b in {
        "no baseline": 0.0,
        "average baseline (the mean reward)": average,
        "best baseline b*": best,
    }.items():
        measured(name, b, g - b * s)
    for name in ("leave-one-out", "straight-through Gumbel"):
        drawn = [gradient(model, surrogate(name, path_logp, r, average, k)) for k in paths]
        measured(name, float("nan"), torch.stack(drawn))
    return found


torch.manual_seed(0)
measured = {when: noise(model) for when, model in models.items()}

# %%
columns = {f"{what}, {when}": [v[i] for v in found.values()]
           for i, what in enumerate(("baseline", "noise", "bias")) for when, found in measured.items()}  # fmt: skip
spread = pd.DataFrame({"estimator": list(measured["at the start"]), **columns})
path = beyond.table_path(profile, f"noise_{group}")
write_files({path: spread.to_csv(index=False, float_format="%.4f").encode()})
shown = spread.map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else f"{v:.2f}")
display(Markdown(as_markdown(shown)))

# %%
for when, found in measured.items():
    (_, none, _), (average, noisy, _), (best, least, _) = list(found.values())[:3]
    display(Markdown(
        f"**{when.capitalize()}.** The mean reward is {average:.2f}, and {best:.2f} of the squared gradient length lies on "
        f"rewarded paths. So a baseline lowers the noise below {2 * best:.2f}. The average baseline is "
        f"{'above' if average > 2 * best else 'below'} that: its noise is {noisy:.2f}, without a baseline it is {none:.2f}, "
        f"with the best one {least:.2f}."
    ))  # fmt: skip
    assert (noisy > none) == (average > 2 * best)

# %% [markdown]
# **How to read it.** Why can the average baseline be noisier than none? A trained model gives the rewarded paths a
# high probability, so the gradient of their $\log p$ is short. The gradient of the rare wrong paths is long. Without
# a baseline a wrong path contributes nothing ($r = 0$). With a baseline $b$ it contributes $-b$ times its long
# gradient. So a baseline that is larger than $2\,b^*$ adds more noise than it removes.
#
# **Exercise.** Set `draws` to 400. What happens to the *noise* of each estimator, and what to its *bias*? Answer first.
#
# <details><summary>Expected answer</summary>
#
# The noise stays about the same, because it is a property of one estimate. The bias of an unbiased estimator is halved,
# because the mean of four times as many estimates has half the standard error. The bias of the straight-through Gumbel
# estimator falls less: its mean is not the exact gradient.
#
# </details>
