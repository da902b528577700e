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
# # 90 · The report: expected against obtained
#
# *What you will learn:* for every number of the paper's Tables 1 to 4, and for every arm added here, what came out, what
# that means, and the command that makes it again. *What it needs:* the CSV files of the tables
# (`results/<profile>/table1.csv` to `table4.csv`) and the paper's numbers (`results/expected.csv`); no records, no
# data. *How long:* seconds.
#
# The same text is written to `results/<profile>/report.md`. A table whose CSV file is not there is "not run".

# %% tags=["parameters"]
profile = "toy"

# %%
import pandas as pd
from IPython.display import Markdown, display

from companion.records import store as records
from companion.tables.sentences import draw_gains, read_table, sentences, short
from companion.tables.engine import markdown, write_figure

records.check_parameters(globals(), ["profile"])
tables = {n: read_table(profile, n) for n in (1, 2, 3, 4)}
said = {n: sentences(profile, n, frame) for n, frame in tables.items()}

# %% [markdown]
# ## How it ended, counted
#
# Rows by verdict. Rows that the paper does not have carry no verdict on it.

# %%
verdicts = pd.concat([f.assign(table=n)[["table", "verdict"]] for n, f in tables.items() if len(f)])
verdicts["verdict"] = verdicts["verdict"].str.replace(r"[:;(].*", "", regex=True).str.strip()
verdicts.value_counts(sort=False).rename("rows").reset_index()

# %% [markdown]
# ## Table 3 in short

# %%
table3_short = markdown(short(tables[3])) if len(tables[3]) else "not run\n"
display(Markdown(table3_short))

# %% [markdown]
# ## Expected and obtained gains
#
# Dots and bars: what was measured here, with its 95 % interval. Diamonds: the paper's. Shown are the rows that the
# paper has and those that the profile declared as primary (where there are none: Table 3 in short). Rows of Table 3
# are gains over the reference FFN, rows of Table 4 (those with an option) changes against the same method without it.

# %%
tables_34 = pd.concat([f for f in (tables[3], tables[4]) if len(f)] or [pd.DataFrame()])
if len(tables_34):
    gains = tables_34[tables_34["paper_delta"].notna() | tables_34["primary"].eq("primary")]
    figure = draw_gains(gains if len(gains) else short(tables[3]), "points above FFN, or above the same method without the option")
    figure.axes[0].set_title(f"expected and obtained ({profile})", loc="left")
    write_figure(figure, profile, "report")

# %% [markdown]
# ## Every row in words
#
# A row of Table 2, 3 or 4 is one cell of the batch: its command trains what has no valid record and shows it; then
# `make report` fills the tables. `make reproduce` with the same profile runs them all.

# %%
names = {1: "datasets", 2: "text classification", 3: "image classification", 4: "ablations"}
text = f"# Expected against obtained: profile {profile}\n\nMade by notebook 90 from `results/{profile}/table1.csv` to `table4.csv` "
text += f"and `results/expected.csv`. All of it again: `make reproduce PROFILE={profile}`; the tables alone, from the "
text += f"records: `make report PROFILE={profile}`.\n\n## Table 3 in short\n\n{table3_short}"
for n, rows in said.items():
    part = f"\n## Table {n}: {names[n]}\n\n" + "".join(f"- {line}\n" + f"  `{run}`\n" * bool(run) for line, run in rows)
    text += part
    display(Markdown(part))
(records.OUT / "results" / profile / "report.md").write_text(text, encoding="utf-8")
