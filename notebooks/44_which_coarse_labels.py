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
# # 44 · Which coarse labels help?
#
# *What you will learn:* whether coarse labels that say more than a superclass help more, which model uses them best, and
# what happens when some of them are wrong. *What it needs:* nothing; the records of `make beyond` to rewrite the table.
# *How long:* seconds.
#
# Coarse labels can add information only where a model that was trained on the fine images cannot predict them. If the
# species of an animal is easy to see, the label *cat* adds little. An attribute (its coat pattern, its ears, its
# tail) distinguishes breeds of one species, so it may add more. People who write down attributes make mistakes. So in
# one setting a share of the answers is wrong, chosen at random.
#
# `label-aug, questions agree` is a decoder of ours: it **multiplies** the probabilities of a label's answers.
# label-aug takes their **mean** over the questions instead. `label-aug, direct and global scores` is described in
# notebook 42.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables import beyond
from companion.tables.writing import folded

check_parameters(globals(), ["profile"])
rows, notes = beyond.question(profile, "which")

# %% [markdown]
# ## The answer

# %%
for name, part in rows.groupby("group", sort=False):
    shown = beyond.compared(part)
    best = beyond.one(shown.loc[[shown["delta"].idxmax()]])
    message = (
        f"{name}, {len(shown)} rows against FFN: {beyond.counted(shown)}\nThe largest gain: {best.name}, {best.data}"
    )
    if len(shown) > 10:  # the rest is in the table
        shown = shown[(shown["method"] != "label-aug") & (shown["dataset"] != "fusion-color")]
    beyond.draw(shown, "FFN on the fine images", message, f"beyond_which_{name}", profile)

# %% [markdown]
# **On photographs.** With right answers the models that sum over fine labels gain most: the flat softmax, the direct
# scores, HEX. Wrong answers take most from these. On pets the order is then the reverse: the flat softmax loses most, and
# the question likelihood alone is above FFN. On CIFAR-100 the question likelihood and the direct scores are then above the
# flat softmax. On flowers the answers say so much that all models stay far above FFN, and the question likelihood stays
# below the flat softmax. A model that learns more from each answer also learns more from a wrong one.

# %%
for name, part in rows.groupby("group", sort=False):
    lines = []
    for data, at in beyond.compared(part).groupby("data", sort=False):
        ours = [r for r in at.itertuples() if r.method in ("label-aug-question", "label-aug-direct", "agreement")]
        lines.append(f"- *{data}*: {beyond.says(beyond.one(at, method='flat-marginal'))}. " + " ".join(
            f"{beyond.says(r)}, and {beyond.gain(r, 'flat')} against the flat softmax." for r in ours))  # fmt: skip
    display(Markdown("\n".join([f"**{name}**, against FFN on the fine images:\n", *lines])))

# %%
for name, part in beyond.compared(rows).groupby("group", sort=False):
    display(Markdown(f"**{name}**, points against FFN\n\n{beyond.grid(part, 'name', 'data')}"))
display(Markdown(" ".join(notes)), Markdown(folded("all rows", beyond.markdown(rows, "FFN"))))

# %% [markdown]
# **How to read it.** All numbers are differences to FFN on the fine images, in points, with 95 % intervals, paired by
# seed and test image. **Bold**: a test at 5 % shows the difference, after Holm's correction over the table. An image
# with several attributes is in the coarse part once for each of them. For the flat softmax an answer means "one of
# the breeds that have it". So a wrong answer lowers the probability of the right breed. In the path decoder an answer
# trains one question. The scores of the other questions change only through shared weights. The paragraph under *The
# answer* says whether the accuracies differ. Here the wrong answers are random. People also make systematic mistakes,
# and this experiment does not test those.
#
# **Exercise.** A question has four answers. A share $q$ of the coarse labels is wrong, drawn uniformly from the other three
# answers. For which $q$ does the label give no information?
#
# <details><summary>Expected answer</summary>
#
# For $q = \frac34$. Then each of the four answers is given with probability $\frac14$, whatever the true answer is. For a
# question with two answers this is so at $q = \frac12$. Below that the label still gives information, but less.
#
# </details>
