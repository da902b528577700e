"""What notebook 40 says: rows with intervals out of its runs, tables, curves, and the summary out of the CSV files."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from companion.records import store as records
from labelaug_core.data import Task
from companion.tables.statistics import compare, hierarchical_bootstrap, holm
from companion.interpret import mistakes, reliability
from companion.tables.engine import as_markdown

NAMES = {
    "ffn": "FFN",
    "pseudo-labels": "Pseudo Labels",
    "flat-marginal": "flat softmax, summed",
    "label-set": "Label Set",
    "wordtree": "WordTree",
    "hex": "HEX",
    "hiclass": "hiclass",
    "hierarchicalsoftmax": "hierarchicalsoftmax",
    "label-aug": "label-aug, Algorithm 1",
    "label-aug-marginal": "label-aug, marginal",
    "label-aug-question": "label-aug, question",
    "agreement": "label-aug, agreement",
}


def row(found: dict, reference: dict | None = None, m: int = 1) -> dict:
    """An arm over its seeds and, if given, its difference to another on the same seeds and test samples.

    found: `right` [seeds, N], ...; m: the comparisons that the interval is corrected for (Bonferroni: 1 - 0.05 / m).
    """
    value = 100 * found["right"].mean(1)
    out = {"n_seeds": len(value), "accuracy": value.mean(), "accuracy_std": value.std(ddof=1)}
    if reference is not None and not np.array_equal(found["right"], reference["right"]):
        against = compare(found["right"], reference["right"])
        low, high = against["delta_ci_low"], against["delta_ci_high"]
        if m > 1:
            delta = 100.0 * (found["right"].astype(float) - reference["right"])
            low, high = hierarchical_bootstrap(delta, level=1 - 0.05 / m)
        out |= {"delta": against["delta"], "ci_low": low, "ci_high": high, "p": against["p_value"]}
    return out | {"seeds": " ".join(f"{v:.2f}" for v in value)}


def by_class(found: dict, reference: dict, m: int = 1) -> dict:
    """The difference when every class counts alike, however many test samples it has, with its interval (see row)."""
    y = found["y"][0]
    weight = 1 / np.bincount(y)[y]
    delta = 100.0 * (found["right"].astype(float) - reference["right"]) * weight * len(y) / weight.sum()
    low, high = hierarchical_bootstrap(delta, level=1 - 0.05 / m)
    return {"delta": delta.mean(), "ci_low": low, "ci_high": high}


def quality(found: dict, task: Task) -> dict:
    """How far off the mistakes are on the true graph, how calibrated the best label's p is."""
    far = [
        mistakes(task.graph, task.labels, g, y)["lca_distance"] for g, y in zip(found["exact"], found["y"], strict=True)
    ]
    p = np.clip(found["p_exact"].astype(float), 0, 1)
    ece = [100 * reliability(p[i], found["right"][i])[3] for i in range(len(p))]
    return {"distance": np.nanmean(far), "ece": np.mean(ece)}


def write(rows: list[dict], part: str, profile: str, group: str) -> pd.DataFrame:
    """results/<profile>/beyond_<part>.csv: this group's rows in place of its earlier ones.

    Every column of p gets a p_holm: corrected over all comparisons of the group in this table.
    """
    frame = pd.DataFrame(rows)
    tests = [c for c in frame if c == "p" or c.endswith(" p")]  # one family: all comparisons of the table
    if tests:
        corrected = np.array(holm(frame[tests].to_numpy(float).ravel())).reshape(len(frame), -1)
        for name, values in zip(tests, corrected.T, strict=True):
            frame[f"{name}_holm"] = values
    frame.insert(0, "group", group)
    path = records.OUT / "results" / profile / f"beyond_{part}.csv"
    others = read(profile, part)
    if len(others):
        others = others[others["group"] != group]
    path.parent.mkdir(parents=True, exist_ok=True)
    both = pd.concat([frame.round(4), others]).sort_values("group", kind="stable")
    both.to_csv(path, index=False, float_format="%.4f")
    return frame


def read(profile: str, part: str) -> pd.DataFrame:
    """What was written; an empty frame where nothing was."""
    path = records.OUT / "results" / profile / f"beyond_{part}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def show(frame: pd.DataFrame, *drop: str) -> None:
    """As a table: accuracy ± its standard deviation over seeds, a difference with its interval."""
    out = frame.drop(columns=["seeds", "group", "p", *drop], errors="ignore").copy()
    spread = out.pop("accuracy_std")
    out["accuracy"] = ["" if pd.isna(a) else f"{a:.2f} ± {b:.2f}" for a, b in zip(out["accuracy"], spread, strict=True)]
    for name in [c for c in out if c.endswith("delta")]:
        low, high = (out.pop(name.replace("delta", end)) for end in ("ci_low", "ci_high"))
        out[name] = [said(*v) for v in zip(out[name], low, high, strict=True)]
    for name in out.select_dtypes("number"):
        out[name] = ["" if pd.isna(v) else f"{v:g}" for v in out[name].round(3)]
    display(Markdown(as_markdown(out.fillna(""))))


def said(delta: float, low: float, high: float) -> str:
    return "" if pd.isna(delta) else f"{delta:+.2f} [{low:+.2f}, {high:+.2f}]"


def draw_curves(frame: pd.DataFrame, x: str, y: str, axes: plt.Axes) -> None:
    """One line a model with its 95 % intervals, the points of one x beside each other. y: `delta` or `accuracy`."""
    places = {v: i for i, v in enumerate(sorted(frame[x].unique()))}
    models = [m for m in NAMES.values() if m in set(frame.dropna(subset=y)["model"])]
    for i, model in enumerate(models):
        part = frame[(frame["model"] == model) & frame[y].notna()].sort_values(x)
        at = part[x].map(places) + 0.08 * (i - (len(models) - 1) / 2)
        low, high = (part[y] - part["ci_low"], part["ci_high"] - part[y])
        colour = plt.get_cmap("tab10")(list(NAMES.values()).index(model) % 10)  # the same in every panel
        axes.errorbar(at, part[y], yerr=[low, high], fmt="o-", lw=1, ms=4, capsize=2, color=colour, label=model)
    axes.set_xticks(range(len(places)), [f"{100 * v:g} %" for v in places])
    axes.axhline(0, color="0.6", lw=1)
    axes.spines[["top", "right"]].set_visible(False)


def draw_deltas(frame: pd.DataFrame, facet: str, item: str, against: str, title: str) -> plt.Figure:
    """Each item's `delta` with its interval, one panel for each value of the facet, side by side."""
    drawn = frame.dropna(subset="delta")
    names = list(dict.fromkeys(drawn[item]))[::-1]
    panels = drawn[facet].nunique()
    size = (2.5 + 2.6 * panels, 0.3 * len(names) + 1.4)
    figure, axes = plt.subplots(1, panels, figsize=size, sharey=True, squeeze=False)
    for ax, (value, part) in zip(axes[0], drawn.groupby(facet, sort=False), strict=True):
        off = [part["delta"] - part["ci_low"], part["ci_high"] - part["delta"]]
        ax.errorbar(part["delta"], part[item].map(names.index), xerr=off, fmt="o", capsize=2, color="#2b6cb0")
        ax.axvline(0, color="0.6", lw=1)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.set_title(value, fontsize="medium", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"points against {against}", fontsize="medium")
    figure.suptitle(title, x=0.02, ha="left")
    figure.tight_layout()
    return figure


def answers(profile: str) -> str:
    """The five answers, a list for each group of the profile, out of the CSV files alone; '' where there are none."""
    found = {part: read(profile, part) for part in ("estimators", "neighbours", "when", "coarse", "graph")}
    if not all(len(frame) for frame in found.values()):
        return ""
    lists = []
    for group in found["neighbours"]["group"].unique():
        of = {part: frame[frame["group"] == group] for part, frame in found.items()}
        lines = [sentence(of[part]) for part, sentence in SENTENCES.items()]
        size = f"{of['neighbours']['n_seeds'].max():.0f} seeds"
        lists.append(f"**{group}** ({profile}, {size})\n\n" + "\n".join(f"{i}. {x}" for i, x in enumerate(lines, 1)))
    return "\n\n".join(lists)


def _delta(r: pd.Series, of: str = "") -> str:
    return said(*(r[f"{of}{end}"] for end in ("delta", "ci_low", "ci_high")))


def _estimators(frame: pd.DataFrame) -> str:
    rows = frame.set_index("estimator")
    loud, quiet = (rows.loc[n, "noise, trained"] for n in ("no baseline", "leave-one-out"))
    return (
        f"*Estimators.* On the trained model REINFORCE's gradient has {loud:.1f} times its own length as noise, with "
        f"leave-one-out {quiet:.1f}. Training with the exact gradient instead of Algorithm 1's sampled one changes the "
        f"accuracy by {_delta(rows.loc['exact'])}, with the log-marginal by "
        f"{_delta(rows.loc['exact log-marginal (no part 1)'])}."
    )


def _neighbours(frame: pd.DataFrame) -> str:
    lines = []
    for data, part in frame[~frame["data"].str.startswith("fine")].groupby("data", sort=False):
        best, ours = part.loc[part["accuracy"].idxmax()], part[part["model"].str.startswith("label-aug")]
        ours = ours.loc[ours["accuracy"].idxmax()]
        line = f"on `{data}` {best['model']} is highest, {_delta(best)} over FFN"
        lines.append(line + (f" ({ours['model']}: {_delta(ours)})" if ours["model"] != best["model"] else ""))
    return f"*Neighbours.* {'; '.join(lines)}.".replace(" on", " On", 1)


def _when(frame: pd.DataFrame) -> str:
    lines = []
    for share, part in frame[frame["share"] > 0].groupby("share"):
        part = part.dropna(subset="delta").set_index("model")["delta"]
        told = ", ".join(f"{m} {part[m]:+.1f}" for m in (NAMES["flat-marginal"], NAMES["label-aug-question"]))
        lines.append(f"{100 * share:g} %: {told}")
    return (
        f"*When.* Points over FFN where that share of the fine images keeps only its coarse label: {'; '.join(lines)}."
    )


def _coarse(frame: pd.DataFrame) -> str:
    lines = []
    rivals = {"FFN": "", "the flat softmax": "flat-marginal ", "HEX": "hex "}
    for setting, part in frame.groupby("setting", sort=False):
        told = []
        for _, r in part[part["model"].str.startswith("label-aug")].iterrows():
            known = {rival: _delta(r, column) for rival, column in rivals.items()}
            told.append(
                f"{r['model']} " + ", ".join(f"{delta} over {rival}" for rival, delta in known.items() if delta)
            )
        lines.append(f"`{setting}`: {'; '.join(told)}")
    return f"*Which labels.* {'. '.join(lines)}."


def _graph(frame: pd.DataFrame) -> str:
    lines = []
    for data, rows in frame.groupby("data", sort=False):
        rows = rows.set_index("graph")
        lost = f"no attributes {_delta(rows.loc['without any attribute'])}"
        lines.append(
            f"on `{data}` shuffled attributes change accuracy by {_delta(rows.loc['attributes shuffled'])}, {lost}"
        )
    return f"*Knowledge.* Against the true graph, {'; '.join(lines)}."


SENTENCES = {
    "estimators": _estimators,
    "neighbours": _neighbours,
    "when": _when,
    "coarse": _coarse,
    "graph": _graph,
}
