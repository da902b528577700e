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
# # 43 · When does joining help?
#
# *What you will learn:* how the gain by joining depends on the number of fine labels and of coarse images. *What it needs:*
# nothing; the records of `make beyond` to rewrite the table. *How long:* seconds.
#
# We take fine labels away. A share of the fine training images keeps only a coarse label (for example *cat* or *dog*). FFN
# cannot use these images. The other models use them as coarse ones. The images are of the same kind, so nothing but the
# label is missing. Every arm has the same number of fine images a step.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables import beyond
from companion.tables.figures import draw_curves
from companion.tables.writing import folded, write_figure

check_parameters(globals(), ["profile"])
rows, notes = beyond.question(profile, "when")
rows["fewer"] = rows["dataset"].str.startswith(("fine", "fusion-share"))  # fewer fine labels, no other images

# %% [markdown]
# ## The answer
#
# At the right end every image has its fine label and there is no coarse image: there the gain comes from the label graph
# alone. Without coarse images the flat softmax is FFN.

# %%
for name, part in rows.query("fewer").groupby("group", sort=False):
    shown = beyond.compared(part)
    top, low = (beyond.one(shown.loc[[at]]) for at in (shown["delta"].idxmax(), shown["delta"].idxmin()))
    ticks = [f"{n:,}" for n in sorted(shown["n_train"].unique())]
    figure, axes = plt.subplots(figsize=(7.5, 4))
    draw_curves(axes, shown, "n_train", names=ticks)
    axes.set(xlabel="training images with a fine label (of all others the coarse label is known)")
    axes.set_ylabel("points above FFN on the fine ones")
    axes.legend(frameon=False, fontsize=9)
    message = (f"{name}: the gain over FFN is largest with {top.n_train:,} fine labels ({top.delta:+.1f} points, {top.name})\n"
               f"and smallest with {low.n_train:,} ({low.delta:+.1f} points, {low.name})")  # fmt: skip
    figure.suptitle(message, x=0.02, ha="left", fontsize=10.5)
    figure.tight_layout()
    write_figure(figure, profile, f"beyond_when_{name}")

# %%
for name, part in rows.groupby("group", sort=False):
    lines = []
    for n, at in beyond.compared(part.query("fewer")).groupby("n_train"):
        best = beyond.one(at.loc[[at["delta"].idxmax()]])
        lines.append(f"With {n:,} fine labels FFN has {best.mean - best.delta:.1f} %; of {len(at)} other models "
                     f"{beyond.counted(at)}; the best of them is {beyond.says(best)}.")  # fmt: skip
    for data, at in beyond.compared(part.query("not fewer")).groupby("data", sort=False):
        best = beyond.one(at.loc[[at["delta"].idxmax()]])
        lines.append(f"With all fine labels and other images beside them ({data}) the best is {beyond.says(best)}.")
    display(Markdown(f"**{name}.** {' '.join(lines)}"))

# %%
for name, part in beyond.compared(rows).groupby("group", sort=False):
    display(Markdown(f"**{name}**, points against FFN\n\n{beyond.grid(part, 'data', 'name')}"))
display(Markdown(" ".join(notes)), Markdown(folded("all rows", beyond.markdown(rows, "FFN"))))

# %% [markdown]
# **How to read it.** Every row is compared with FFN on the same fine labels, at the images a step that are better on
# validation data, paired by seed and test image, with a 95 % interval. **Bold**: the difference is shown at 5 % after
# Holm's correction over the table. Which images keep their fine label is drawn anew for each seed,
# as many of each class as possible. A fifth of them is the validation part, so with few fine labels the model is chosen on
# few images, in every arm. *joined: images of known ...* keeps all fine labels and adds other images.
