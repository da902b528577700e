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
# # 45 · Is it the knowledge?
#
# *What you will learn:* whether the knowledge in the label graph helps, or whether any graph would help as much.
# *What it needs:* nothing; the records of `make beyond` to rewrite the table. *How long:* seconds.
#
# One model (the question likelihood) is trained on the true graph and on controls:
#
# - **attributes shuffled**: the breeds exchange their attributes at random (a few keep theirs). The graph has the same
#   shape, but its knowledge is wrong.
# - **attributes unknown**: each breed may have any answer to each question. The graph says nothing about attributes.
# - **random tree**: the attributes are replaced by made-up answers, to which the labels are assigned at random.
# - **no attributes**: the path has only the coarse label, then the fine one (WordTree).

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables import beyond
from companion.tables.writing import folded

check_parameters(globals(), ["profile"])
rows, notes = beyond.question(profile, "knowledge")
GRAPHS = {
    "shuffled": "attributes shuffled",
    "untold": "attributes unknown",
    "random-tree": "random tree",
    "wordtree": "no attributes",
}
said = (rows["method"] + " " + rows["option"]).map(
    lambda v: next((n for k, n in GRAPHS.items() if k in v), "the true graph")
)
rows = rows.assign(name=said)

# %% [markdown]
# ## The answer

# %%
for name, part in rows.groupby("group", sort=False):
    shown = beyond.compared(part)
    message = f"{name}, {len(shown)} controls against the true graph: {beyond.counted(shown)}"
    beyond.draw(shown, "the true graph on the same data", message, f"beyond_knowledge_{name}", profile)

# %%
for name, part in rows.groupby("group", sort=False):
    lines = []
    for data, at in part.groupby("data", sort=False):
        reference, controls = beyond.one(at, role="reference"), beyond.compared(at).itertuples()
        told = "; ".join(beyond.says(r) for r in controls)
        lines.append(f"For *{data}* the model on the true graph has {reference.mean:.1f} %. Against it: {told}.")
    display(Markdown(f"**{name}.** {' '.join(lines)}"))

# %%
for name, part in beyond.compared(rows).groupby("group", sort=False):
    display(Markdown(f"**{name}**, points against the true graph\n\n{beyond.grid(part, 'name', 'data')}"))
display(Markdown(" ".join(notes)), Markdown(folded("all rows", beyond.markdown(rows, "the true graph", "graph"))))

# %% [markdown]
# **How to read it.** With *100 % of the fine images* there are no coarse labels. There the question is whether the graph
# itself changes the accuracy. In the other rows the coarse labels are true attributes, and only the graph that connects
# them with the labels changes.
#
# - *Attributes shuffled*, *random tree*: does wrong knowledge harm? If such a control is worse, this does not show that
#   true knowledge helps.
# - *Attributes unknown*, *no attributes*: does true knowledge help? If such a control is worse than the true graph, it
#   does. If no difference is shown, a gain by joining can come from the coarse images without the knowledge.
# - If a control is *better*, the model does better without this part of the graph.
#
# *No difference shown* does not mean *equal*: the interval shows how large a difference could have been missed.
#
# **Exercise.** Suppose that *attributes shuffled* is worse than the true graph, and *attributes unknown* is as good as the true
# graph. What helped, and what did not?
#
# <details><summary>Expected answer</summary>
#
# Wrong knowledge harms. That the true knowledge helps is not shown: a graph that says nothing about the attributes of a breed
# does as well. The coarse images themselves can help: their labels train the features and the answers to the questions.
#
# </details>
