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
# # 42 · Do simpler models of the same labels do as well?
#
# *What you will learn:* how other models of fine and coarse labels compare with label-aug on the same joined data, and what
# each of them can express. *What it needs:* nothing; the records of `make beyond` to rewrite the table. *How long:*
# seconds.
#
# A gain over FFN on the joined data does not show that a path decoder is needed: a simpler model can use coarse
# labels, too. The simplest is a softmax over the fine labels. In it the probability of a coarse label is the **sum**
# of the probabilities of the fine labels below it. Instead of a graph it needs only a table: which fine labels are
# below which coarse label. All models have the same encoder, trunk, steps and images a step. Notebook 06 builds them
# by hand on a small graph.

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables import beyond
from companion.tables.writing import folded

check_parameters(globals(), ["profile"])
rows, notes = beyond.question(profile, "neighbours")

# %% [markdown]
# ## The answer

# %%
for name, part in rows.groupby("group", sort=False):
    joined = beyond.compared(part).query("dataset == 'fusion'")
    first = joined.loc[joined["delta"].idxmax(), "name"]
    message = (
        f"{name}, joined data, {len(joined)} models against FFN: {beyond.counted(joined)}\nThe largest gain: {first}"
    )
    beyond.draw(joined, "FFN on the fine images", message, f"beyond_neighbours_{name}", profile)

# %%
for name, part in rows.groupby("group", sort=False):
    joined = beyond.compared(part).query("dataset == 'fusion'")
    flat = beyond.one(joined, method="flat-marginal")
    ours = [beyond.one(joined, method=m) for m in ("label-aug", "label-aug-question", "label-aug-direct")]
    against = "; ".join(
        f"{r.name} {beyond.gain(r, 'flat')} (p {r.flat_p_holm:.2g} after Holm's correction)" for r in ours
    )
    others = joined[joined["flat"].notna()]
    above, below = others["flat_ci_low"].gt(0).sum(), others["flat_ci_high"].lt(0).sum()
    display(Markdown(
        f"**{name}.** On the joined data, against FFN on the fine images: {beyond.says(flat)}; "
        f"{'; '.join(beyond.says(r) for r in ours)}. Against the flat softmax on the same joined data: {against}. Of "
        f"{len(others)} models that were compared with the flat softmax, {above} are above it and {below} below it by their "
        f"95 % intervals."
    ))  # fmt: skip

# %%
for name, part in beyond.compared(rows).groupby("group", sort=False):
    display(Markdown(f"**{name}**, points against FFN\n\n{beyond.grid(part, 'name', 'data')}"))
display(Markdown(" ".join(notes)), Markdown(folded("all rows", beyond.markdown(rows, "FFN"))))

# %% [markdown]
# **How to read it.** All numbers are differences to FFN on the fine images, in points, with 95 % intervals. They are
# paired by seed and test image. FFN was trained with two numbers of images a step, and the one that is better on
# validation data is used. **Bold**: a test at 5 % shows the difference, after Holm's correction over the table.
# *exact* is the most probable label, *greedy* Algorithm 2.
#
# - **Flat softmax, coarse labels summed**: it has the same gradient as soft pseudo labels that are restricted to the
#   fine labels below the coarse one.
# - **HEX** (Deng et al., 2014): one score a node, one softmax over all legal states of the graph, summed exactly.
# - **WordTree** (Redmon and Farhadi, 2017): it predicts first the coarse label, then the fine one. It uses no
#   attribute.
# - **hierarchicalsoftmax** and **hiclass** are packages. We use them as their documentation says.
# - **label-aug, direct and global scores** is a path decoder of ours (`companion/heads/direct.py`). A path has one score,
#   the sum of its nodes' scores, and one softmax is over all paths. There is no GRU, so a score does not depend on the
#   steps before it. The labels are scored straight from the features, as in FFN. The scores of the other nodes begin at
#   zero and learn at a tenth of the rate (chosen on validation data, notebook 12). So it begins as FFN, and no early
#   answer is final.
#
# ## What each model can express
#
# <details><summary>What ten models can express</summary>
#
# | model | several parents | several questions under a node | coarse labels | several labels a sample | explanation |
# | --- | --- | --- | --- | --- | --- |
# | FFN | no | no | no | no | no |
# | Flat softmax, coarse labels summed | no | no | yes, summed | no | no |
# | Pseudo Labels | no | no | guessed | no | no |
# | Label Set | yes | yes | yes | yes | a set |
# | WordTree | no | no | inner nodes | no | a path |
# | hierarchicalsoftmax | no | no | inner nodes | no | a path |
# | hiclass | copies the node | no | empty levels | no | a path |
# | HEX | yes | yes | yes, any node | yes | marginals |
# | **label-aug** | yes | yes | yes, any node | yes | a path |
# | label-aug, direct and global scores | yes | yes | yes, any node | on a tree | a path |
#
# </details>
#
# **Exercise.** Which of these models can learn from images whose only label is a coat pattern? What does each one learn?
#
# <details><summary>Expected answer</summary>
#
# label-aug (both decoders), HEX and Label Set have a score for the coat, so they learn what it looks like. The flat softmax
# learns only that the breed is one of those below the label, and Pseudo Labels use the label as a filter. FFN cannot use
# these images. WordTree and hierarchicalsoftmax have one parent for each node, so a breed that comes in several coats has no
# place in their trees. hiclass would need a copy of the breed below each of its coats.
#
# </details>
