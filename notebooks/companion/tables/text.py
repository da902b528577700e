"""Table 2 and its pictures as functions of the records alone: F1 of several labels a sample, paired by seed and paper.

F1 is a ratio of sums, so its intervals are bootstraps of the sums: of each paper the labels found, guessed and true.
"""

from __future__ import annotations

from functools import cache, partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.records import files
from companion.records import store as records
from companion.tables import engine as reporting
from companion.tables.statistics import holm, sign_flip_p
from labelaug_core.graph_file import load_graph
from companion.tables.engine import (
    COLUMNS,
    FINE,
    as_markdown,
    better_fine,
    interval,
    number,
    plain,
    title,
    valid_records,
    verdict,
)

MORE = ["f1_macro", "f1_samples", "f1_archive", "f1_archive_ci_low", "f1_archive_ci_high"]
TEXT_COLUMNS = [
    c for c in COLUMNS if c not in ("gained", "lost", "mcnemar_p", "mcnemar_seeds", "mean_per_class")
] + MORE


def load_cell(profile: str, cell: dict) -> dict | str:
    """The cell's valid records -> {seeds, predicted [seeds, N, K], y [N, K], ...}, or a text: why there are none.

    counts [seeds, N, 3] and archive_counts: of each paper the labels that are found, guessed and true.
    """
    found, why = valid_records(records.OUT / "results" / profile, profile, cell)
    if not found:
        return why
    labels, below = taxonomy(found[0][0]["settings"]["source"])
    y = np.unpackbits(found[0][1]["y"], axis=1, count=len(labels)).astype(bool)
    predicted = np.stack([np.unpackbits(p["predicted"], axis=1, count=len(labels)).astype(bool) for _, p in found])
    return {
        "seeds": [r["seed"] for r, _ in found],
        "predicted": predicted,
        "y": y,
        "counts": counts(predicted, y),
        "archive_counts": counts(predicted @ below > 0, y @ below > 0),
        "tests": [r["test"] for r, _ in found],
        "validation": np.mean([r["validation"]["val_f1"] for r, _ in found]),
        "first": found[0][1],
        "n_train": found[0][0]["data"]["n_train"],
        "device": found[0][0]["device"],
        "planned": records.seed_count(profile, cell["group"]),
    }


@cache
def taxonomy(source: str) -> tuple[list[str], np.ndarray]:
    """Categories [K], and [K, A] 0/1: which archive each is in; archives as taxonomy's coarse labels order them."""
    graph = load_graph(source)
    labels = graph.label_nodes(source)
    archives = graph.label_nodes(f"{source}-archives")
    return labels, np.array([[float(a in graph.ancestors(c)) for a in archives] for c in labels])


def counts(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each seed and paper: labels found, guessed, true. predicted [seeds, N, K] bool, y [N, K] -> [seeds, N, 3]."""
    true = np.broadcast_to(y.sum(1), predicted.shape[:2])
    return np.stack([(predicted & y).sum(2), predicted.sum(2), true], axis=2)


def micro_f1(sums: np.ndarray) -> np.ndarray:
    """[..., 3] labels found, guessed, true -> micro-F1 in points."""
    return 100 * 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)


@cache
def draws(n_seeds: int, n_papers: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n bootstrap samples: the seeds drawn [n, seeds], and how often each paper was [n, papers]."""
    rng, seeds, times = np.random.default_rng(seed), [], []
    for _ in range(n):
        seeds.append(rng.integers(n_seeds, size=n_seeds))
        times.append(np.bincount(rng.integers(n_papers, size=n_papers), minlength=n_papers))
    return np.array(seeds), np.array(times, dtype=np.float32)  # sums below 2^24 are exact in it


def f1_interval(a: np.ndarray, b: np.ndarray | None = None, n: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over seeds of micro-F1, or of its difference a - b: counts [seeds, N, 3].

    The hierarchical bootstrap of evaluation.py for a ratio: seeds are drawn again, and papers, the same ones for
    every seed and for both arms.
    """
    seeds, times = draws(*a.shape[:2], n, seed)
    sums = [times @ np.hstack(x).astype(np.float32) for x in (a, b) if x is not None]  # one product reads times once
    f1 = [micro_f1(x.reshape(n, len(a), 3).astype(float)) for x in sums]  # [n, seeds]
    means = np.take_along_axis(f1[0] - f1[1] if b is not None else f1[0], seeds, axis=1).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def paired(a: dict, b: dict | str | None) -> dict:
    """Micro-F1 of a less that of b on the seeds that both have; {} where there is nothing to pair."""
    if not isinstance(b, dict) or a is b or not np.array_equal(a["y"], b["y"]):
        return {}
    both = sorted(set(a["seeds"]) & set(b["seeds"]))
    if not both:
        return {}
    x, z = (c["counts"][[c["seeds"].index(s) for s in both]] for c in (a, b))
    delta, (low, high) = micro_f1(x.sum(1)) - micro_f1(z.sum(1)), f1_interval(x, z)
    return {"delta": delta.mean(), "delta_ci_low": low, "delta_ci_high": high, "p_value": sign_flip_p(delta)}


def summary(found: dict) -> dict:
    """What a row says of its own cell: micro-F1 with its spread and interval, and the other readings of F1."""
    value, archive = micro_f1(found["counts"].sum(1)), micro_f1(found["archive_counts"].sum(1))
    (low, high), (archive_low, archive_high) = (f1_interval(found[c]) for c in ("counts", "archive_counts"))
    return {
        "n_seeds": len(value),
        "mean": value.mean(),
        "std": value.std(ddof=1) if len(value) > 1 else np.nan,
        "ci_low": low,
        "ci_high": high,
        "f1_macro": 100 * np.mean([t["f1_macro"] for t in found["tests"]]),
        "f1_samples": 100 * np.mean([t["f1_samples"] for t in found["tests"]]),
        "f1_archive": archive.mean(),
        "f1_archive_ci_low": archive_low,
        "f1_archive_ci_high": archive_high,
        "n_test": len(found["y"]),
        "n_train": found["n_train"],
        "device": found["device"],
        "seeds": " ".join(f"{v:.2f}" for v in value),
    }


def encoder_name(profile: str, group: str) -> str:
    return records.load_profile(profile)["groups"][group]["encoder"]["name"].upper()


def paper_values(profile: str, cell: dict) -> dict[str, float]:
    """{paper, paper_delta}: the paper's F1, and its difference to its FFN of the same encoder on the fine data."""
    expected = files.expected(2).set_index(["row", "column"])
    rows, encoder = {"ffn": "FFN", "label-aug": "label-aug"}, encoder_name(profile, cell["group"])
    source = records.load_profile(profile)["groups"][cell["group"]].get("of", cell["group"])
    if source != "arxiv" or cell["option"] or cell["method"] not in rows:
        return {"paper": np.nan, "paper_delta": np.nan}
    value = partial(expected["paper"].get, default=np.nan)
    paper = value((f"{encoder} + {rows[cell['method']]}", cell["dataset"]))
    first = cell["method"] == "ffn" and cell["dataset"] == "fine"
    return {"paper": paper, "paper_delta": np.nan if first else paper - value((f"{encoder} + FFN", "fine"))}


def results(profile: str, cells: list[dict], loaded: dict | None = None) -> tuple[pd.DataFrame, dict]:
    """-> (one row a cell, in points of micro-F1, what load_cell found by cell name). delta: against the group's better
    FFN on the fine data; joining: the fusion against the same method without it; p_holm: over all rows but controls.
    loaded: of an earlier call, so that nothing is read twice."""
    loaded = dict(loaded or {})
    loaded |= {n: load_cell(profile, c) for c in cells if (n := records.cell_name(**c)) not in loaded}
    rows, control = [], []
    for cell in cells:
        name, found = records.cell_name(**cell), loaded[records.cell_name(**cell)]
        row = cell | {"metric": "micro-F1"} | paper_values(profile, cell)
        reference = better_fine(loaded, cell["group"], "ffn")
        control.append(cell["method"] == "ffn" and cell["dataset"] in FINE)
        if isinstance(found, str):
            rows.append(row | {"n_seeds": 0, "verdict": f"not run: {found}"})
            continue
        row |= summary(found) | paired(found, loaded.get(reference))
        if cell["dataset"] not in FINE:
            few = records.cell_name(cell["group"], cell["dataset"].replace("fusion", "fine"), cell["method"])
            alone = few if cell["dataset"] != "fusion" and few in loaded else None  # a join of fewer fine papers
            joining = paired(found, loaded.get(alone or better_fine(loaded, cell["group"], cell["method"])))
            row |= {f"joining{end}": joining.get(f"delta{end}", np.nan) for end in ("", "_ci_low", "_ci_high")}
        rows.append(row | ({"verdict": "the reference"} if name == reference else {}))
    frame = pd.DataFrame(rows).reindex(columns=TEXT_COLUMNS).astype({"verdict": object})
    frame["p_holm"] = holm(frame["p_value"].mask(np.array(control, dtype=bool)))
    for i, cell in enumerate(cells):
        found = loaded[records.cell_name(**cell)]
        if pd.isna(frame.loc[i, "verdict"]):
            frame.loc[i, "verdict"] = "control" if control[i] else verdict(frame.loc[i], "FFN")
        if isinstance(found, dict) and len(found["seeds"]) < found["planned"]:
            frame.loc[i, "verdict"] += f" ({len(found['seeds'])} of {found['planned']} seeds)"
    return frame, loaded


def markdown(frame: pd.DataFrame, profile: str) -> str:
    """Table 2 as people read it."""
    rows = list(frame.itertuples())
    return as_markdown(
        pd.DataFrame(
            {
                "group": frame["group"].map(plain),
                "data": frame["dataset"].map(plain),
                "method": [f"{encoder_name(profile, r.group)} + {title(r)}" for r in rows],
                "micro-F1": ["" if pd.isna(r.mean) else f"{r.mean:.2f}" + number(r.std, " ± {:.2f}") for r in rows],
                "macro, by sample": [number(r.f1_macro, "{:.1f}, ") + number(r.f1_samples, "{:.1f}") for r in rows],
                "archives": [number(r.f1_archive) for r in rows],
                "gain over FFN [95 %]": [interval(r) for r in rows],
                "p (Holm)": [number(r.p_holm, "{:.3f}") for r in rows],
                "joining alone [95 %]": [interval(r, "joining") for r in rows],
                "paper": [number(r.paper) for r in rows],
                "its difference": [number(r.paper_delta, "{:+.2f}") for r in rows],
                "seeds": frame["n_seeds"],
                "verdict": [plain(v) for v in frame["verdict"]],
            }
        )
    )


def write_table(frame: pd.DataFrame, profile: str) -> None:
    """results/<profile>/table2.csv and .md."""
    reporting.write_table(frame, profile, 2, markdown(frame, profile))


def archive_gains(source: str, fine: dict, fusion: dict) -> pd.DataFrame:
    """Micro-F1 inside each archive, without and with the joined papers, and the gain with its interval."""
    labels, below = taxonomy(source)
    archives, rows = load_graph(source).label_nodes(f"{source}-archives"), []
    for a, inside in zip(archives, below.T > 0, strict=True):
        x, z = (counts(c["predicted"][..., inside], c["y"][:, inside]) for c in (fusion, fine))
        n = min(len(x), len(z))
        low, high = f1_interval(x[:n], z[:n], n=300)
        found, alone = (micro_f1(c.sum(1)).mean() for c in (x, z))
        row = {"archive": a, "categories": int(inside.sum()), "papers": int(fine["y"][:, inside].any(1).sum())}
        rows.append(row | {"fine": alone, "fusion": found, "gain": found - alone, "low": low, "high": high})
    return pd.DataFrame(rows).sort_values("gain", ascending=False)


def confusion(source: str, found: dict) -> pd.DataFrame:
    """Archives that a paper has and the prediction lacks (rows) against those guessed that it has not (columns):
    papers, the mean over seeds."""
    below, archives = taxonomy(source)[1], load_graph(source).label_nodes(f"{source}-archives")
    true, guessed = found["y"] @ below > 0, found["predicted"] @ below > 0
    table = np.mean([(true & ~g).T.astype(float) @ (g & ~true) for g in guessed], axis=0)
    return pd.DataFrame(table, archives, archives)


def draw_curve(rows: pd.DataFrame, ax: plt.Axes, x: str) -> None:
    """F1 against the number of papers `x`, a line a method and dataset kind, with 95 % intervals."""
    for (method, joined), part in rows.sort_values(x).groupby(["method", "joined"], sort=False):
        style = {"color": f"C{['ffn', 'label-set', 'label-aug'].index(method)}", "ls": "-" if joined else "--"}
        name = f"{title(next(part.assign(option='').itertuples()))}, {'fusion' if joined else 'fine'}"
        error = [part["mean"] - part["ci_low"], part["ci_high"] - part["mean"]]
        ax.errorbar(part[x], part["mean"], error, label=name, marker="o", ms=4, capsize=2, **style)
    ax.set(xscale="log", xlabel=f"{x} papers", ylabel="micro-F1")
    ax.set_xticks(sorted(rows[x].unique()), [f"{v:,}" for v in sorted(rows[x].unique())], minor=False)
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
