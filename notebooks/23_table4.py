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
# # 23 · Table 4: which part matters
#
# *What you will learn:* what label-aug loses or gains when one of its parts is changed, those of the paper's ablation
# (Sec. 4.5) and those that it leaves out. *What it needs:* the records that `make reproduce` leaves. *How long:*
# seconds; nothing is trained here.

# %% tags=["parameters"]
profile = "toy"

# %%
from IPython.display import Markdown, display

from companion.records import store as records
from companion.tables.sentences import draw_gains
from companion.tables.engine import markdown, results_table, write_figure, write_table

records.check_parameters(globals(), ["profile"])
frame = results_table(profile, table=4)
write_table(frame, profile, table=4)

# %% [markdown]
# ## How to read it
#
# Each row changes **one** thing of the row *the reference* above it: same method, data, seeds, steps. The change is
# paired by seed and test sample as in Table 3, and Holm runs over this whole table. The paper prints differences "from
# the best results in Table 3", single runs, without intervals; they stand under *its difference*.
#
# | option | what it changes | where |
# | --- | --- | --- |
# | `graph=medium`, `graph=small` | 36 % or 63 % of the augmented nodes are trimmed | `LabelGraph.trim`, notebook 01 |
# | `minibatch=sum`, `minibatch=random` | the sum over a sample's deterministic paths, or one drawn path, in place of their mean | `losses.teacher_forcing` |
# | `n_p` | at most so many of a sample's paths a step | `losses.teacher_forcing` |
# | `r_tf=0.5` | half of the batches are not teacher-forced: the decoder reads its own samples | `PathHead` |
# | `beta` | the weight of $L_{nd}$ (REINFORCE) beside $L_d$ (teacher forcing), $\alpha = 1$ | `PathHead` |
# | `coarse=reward` | a coarse image rewards every path through its node, in place of stopping there | `PathHead` |
# | `literal=true` | the paper's block rule as it is written | notebook 02 |
# | `decode=exact`, `decode=greedy` | the most probable label over all its paths, or Algorithm 2; the same trained models | `PrefixTree` |

# %%
display(Markdown(markdown(frame, table=4)))

# %% [markdown]
# ## The changes
#
# A point left of zero: the part matters, without it the method is worse. An interval that crosses zero may be chance;
# its width says how large an effect this many seeds and test images could have missed.

# %%
for group, part in frame.groupby("group", sort=False):
    if part["delta"].notna().any():
        figure = draw_gains(part, "points of accuracy above the same method without the option")
        figure.axes[0].set_title(f"{group} ({profile})", loc="left")
        write_figure(figure, profile, f"table4_{group}")
