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
# *What you will learn:* whether the label graph helps because of what it says, or because any structure helps. *What it
# needs:* nothing; the records of `make beyond` to rewrite the table. *How long:* seconds.
#
# One model (the question likelihood) is trained on the true graph and on controls:
#
# - **attributes shuffled**: each breed has the attributes of another breed. The shape is the same, the knowledge is wrong.
# - **attributes unknown**: each breed may have any answer to each question. The graph says nothing about attributes.
# - **random tree**: made-up answers that hold the labels at random, in place of the attributes.
# - **no attributes**: only the coarse label, then the fine one (WordTree).

# %% tags=["parameters"]
profile = "toy"  # toy, cpu

# %%
from IPython.display import Markdown, display

from companion.records.profiles import check_parameters
from companion.tables import beyond
from companion.tables.writing import folded, write_figure

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
    write_figure(beyond.draw(shown, "the true graph on the same data", message), profile, f"beyond_knowledge_{name}")

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
# **How to read it.** A control that is *worse* than the true graph shows that the knowledge counts: structure alone does
# not give the accuracy. *No difference shown* means that these seeds and test images cannot tell the two apart; the
# interval says how large a difference they could have missed. A control that is *better* says that this part of the
# graph costs more than its knowledge gives. The joined attributes have the true labels in every row; only the graph that
# connects them with the breeds changes.
