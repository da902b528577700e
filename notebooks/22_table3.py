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
# # 22 · Table 3: image classification
#
# *What you will learn:* whether the label graph, and joining datasets through it, is better than a plain classifier at
# the same budget, and how sure that is. *What it needs:* the records that `make reproduce` leaves. *How long:* seconds.
# Nothing is trained here: the table is a function of the records.
#
# The paper's Table 3 reports single runs. Here every arm has several seeds. All arms have the same encoder, the same
# trunk, the same number of steps and the same images a step. A fusion has more images a step than the fine data alone.
# So the plain classifier (FFN) also runs with the fusion's images a step (`fine-same-compute`). The reference of all
# gains is the better of the two **on validation data**.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu, paper

# %%
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables.engine import results_table
from companion.tables.figures import draw_deltas
from companion.tables.writing import folded, key_rows, markdown, read_table, short, sizes, write_figure, write_table

check_parameters(globals(), ["profile"])
frame = results_table(profile, table=3)
write_table(frame, profile, table=3)

# %% [markdown]
# ## Real photographs
#
# The profile `cpu`, as committed in `results/cpu/table3.csv`: the official test sets of Oxford-IIIT Pet and 102 Flowers
# (all 3,669 and 6,149 images, at 128 px) and half of CIFAR-100's (5,000 images). The encoder of all arms is
# EfficientNet-Lite0: frozen, or in `pet-last` and `flower-last` with its last stage trained. How to read the columns is
# said below.

# %%
if profile != "cpu":
    real = read_table("cpu", 3)
    display(Markdown(f"{markdown(short(real))}\n{sizes(real)}" if len(real) else "not run"))

# %%
if profile != "cpu" and len(real):
    for _, part in real.groupby("group", sort=False):
        if part["delta"].notna().any():
            draw_deltas(key_rows(part), "the reference FFN")

# %% [markdown]
# ## The table in short
#
# Shown are the reference (*italic*), the primary rows (**bold**; see *Holm* below), the rows that the paper has, joins by
# other methods, and the controls; at most ten compared rows a group.

# %%
display(Markdown(f"{markdown(short(frame))}\n{sizes(frame)}"))

# %% [markdown]
# **How to read it.**
#
# - **accuracy**: mean ± standard deviation over seeds, in points, on the test set. *greedy* is Algorithm 2's path,
#   *exact* the most probable label over all its paths.
# - **gain over FFN**: the mean difference to the reference, paired by seed and test image, with a 95 % interval. A group
#   whose encoder is trained in part (`pet-last`) has its own FFN, trained the same way.
# - **joining alone**: the fusion against *the same method* on the fine data, at the better compute. The gain over FFN has
#   two causes, the label graph and the second dataset. This column is the second cause alone.
# - **paper**: the paper's accuracy and, in brackets, its gain over its own FFN. Its encoder is EfficientNet-B4,
#   fine-tuned, so accuracies differ. The sign and the size of a gain can be compared.
# - **verdict**: *better* or *worse* than the reference at 5 % after Holm's correction (p is the corrected value), else
#   *no difference shown*. Where the paper has a number: *reproduced* (on the paper's side at 5 %, and the interval
#   reaches the paper's gain), *direction only* (on the paper's side, but smaller or perhaps chance), *not reproduced*
#   (on the other side, perhaps chance), *reversed* (on the other side at 5 %).
# - **control**: FFN with the fusion's images a step, and FFN with more steps. If one of them were much better than FFN, a
#   gain by joining could be a gain by longer training. Its p is not corrected.
#
# > **Deviation from the paper.** The paper says that FFN "cannot be directly employed" on PetFusion, yet it scores FFN
# > on FlowerFusion. A softmax over breeds has no place for the label *cat*. So FFN has no row on PetFusion here. The
# > paper's own gain by joining on Pet, 94.66 to 94.95, is 11 of 3,669 test images.

# %% [markdown]
# ## The gains
#
# A point right of zero is above the reference. An interval that includes zero may be chance. The diamond is the paper's
# gain over its own FFN.

# %%
for group, part in frame.groupby("group", sort=False):
    figure = draw_deltas(part, "the reference FFN")
    if figure is not None:
        write_figure(figure, profile, f"table3_{group}")

# %% [markdown]
# ## Where interval and p come from
#
# All seeds are tested on the same images. The difference $d_{si}$ of two arms, for seed $s$ of $S$ and image $i$ of $n$,
# is a mean plus an effect of the seed, an effect of the image and a rest. All three are random: another seed and other
# test images would give another mean. With the mean squares of this two-way table,
#
# $$\widehat{\mathrm{Var}}(\bar d) = \frac{MS_s + MS_i - MS_e}{S\,n},$$
#
# and never less than $MS_e / (S n)$. Interval and p-value are those of a t distribution whose degrees of freedom come
# from Satterthwaite's formula. Both come from one model, so p is below 0.05 where the interval leaves out zero. A test
# simulates tables like these and finds the true difference in 93 to 97 % of the intervals.
#
# A long table has some small p by chance. **Holm** corrects for that. The profile names few comparisons in advance, in its
# lines `primary`: the fusion against FFN, for Algorithm 1 (the paper's claim) and, in `cpu`, for the question likelihood
# (our default). They are fixed by the claim and not by results, and they are one family. Every other row is corrected for
# all comparisons of the table. A table without primary rows is one family.

# %% [markdown]
# ## The whole table
#
# `results/<profile>/table3.csv` has more columns: p before the correction, the accuracy of both decodings, the mean over
# classes, the images won and lost, and the accuracy of every seed.

# %%
display(Markdown(folded(f"all {len(frame)} rows of Table 3, profile {profile}", markdown(frame))))
