"""Each measured number in prose is a number of results/ or of the paper, so a sentence fails when its table moves.

A paragraph, a list item or a table may name the rows that its numbers come from, in a comment of its own:

    <!-- results/toy/table3.csv: critters, fusion, label-aug -->

Its numbers must then be in rows of that file that have all these cells (in any row, where no cell is named). Without
such a comment a number must be somewhere in results/, and a number with an interval must be in one row with it. A whole
number of percent is in every table by chance: it needs the comment, or a place in ALLOWED.
"""

import csv
import itertools
import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.md"))]
ALLOWED = {
    "95 %": "the level of every interval",
    "5 %": "the level of every test",
    "93 %": "a bound that test_statistics.py asserts",
    "97 %": "a bound that test_statistics.py asserts",
    "3 %": "a bound that test_statistics.py asserts",
    "7 %": "a bound that test_statistics.py asserts",
    "36 %": "the paper, Sec. 4.5",
    "63 %": "the paper, Sec. 4.5",
    "90 %": "the paper, Sec. 4.4",
    "100 %": "a whole",
}
HELP = "not in results/ (HEAD), or a whole number without a source: add <!-- results/FILE: cells of the row -->"
N = r"[+\-\u2212]?\d[\d,]*(?:\.\d+)?"
UNIT = r"\s*(?:%|percent\b|percentage points?\b|points?\b)"
INTERVAL = rf"(?P<value>{N})(?:{UNIT})? ?\[(?P<low>{N}), ?(?P<high>{N})\]"
RANGE = rf"(?P<first>{N})(?: to | and | or |–|-)(?P<last>{N}){UNIT}"
SPREAD = rf"(?P<mean>{N}) ?± ?(?P<std>{N})"
MEASURED = re.compile(rf"(?<![\w.])(?:{INTERVAL}|{RANGE}|(?P<unit>{N}){UNIT}|{SPREAD})")
SOURCE = re.compile(r"<!--\s*results/([\w./-]+)(?::([^>]*?))?\s*-->")
SKIPPED = re.compile(r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<!--.*?-->", re.M | re.S)


def numbers(text: str) -> list[float]:
    return [as_float(n) for n in re.findall(rf"(?<![\w.]){N}", text)]


def as_float(number: str) -> float:
    return float(number.replace("\u2212", "-").replace(",", ""))


def is_one_of(number: str, values: list[float]) -> bool:
    """Whether a value rounds to the number as it is written; without a sign, the sign does not count."""
    half = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
    sign = (lambda v: v) if number[0] in "+-\u2212" else abs
    return any(abs(sign(v) - as_float(number)) <= half for v in values)


def parts(page: str) -> list[str]:
    """Paragraphs, list items and rows of tables; a comment belongs to all of its paragraph, list or table."""
    out = []
    for block in re.split(r"\n\s*\n", page):
        comments = " ".join(m[0] for m in SOURCE.finditer(block))
        lines = re.split(r"\n(?=\s*(?:[-*] |\d+\. |\|))", block)
        out += [f"{comments}\n{line}" if comments else line for line in lines]
    return out


def unsourced(page: str, tables: dict[str, list[list[str]]]) -> list[str]:
    """The measured numbers of a page that are in no row they may come from. tables: file -> rows of cells."""
    out = []
    for part in parts(page):
        text = unescape(SKIPPED.sub(lambda m: "]" if m[0].startswith("](") else " ", part))
        claims = [(m, [n for n in m.groupdict().values() if n]) for m in MEASURED.finditer(text)]
        claims = [(m, [n for n in found if "point" in m[0] or f"{n} %" not in ALLOWED]) for m, found in claims]
        if not any(left for _, left in claims):
            continue
        named, rows = SOURCE.findall(part), []
        for file, cells in named or [(file, "") for file in tables]:
            wanted = {c.strip() for c in cells.split(",") if c.strip()}
            rows += [row for row in tables.get(file, []) if wanted <= set(row)]
        values = [[v for cell in row for v in numbers(cell)] for row in rows]
        values += [[100 * v for v in row if abs(v) <= 1] for row in values] if named else []
        for m, left in claims:
            whole = [n for n in left if "." not in n and not named]
            together = [[n] for n in left] if m["first"] else [left]  # both ends of a range need not be in one row
            if whole or not all(
                any(all(is_one_of(n, row) for n in some) for row in values) for some in together if some
            ):
                out.append(f"{m[0]} in: {' '.join(text.split())[:120]}")
    return out


def rows_of(file: str, text: str) -> list[list[str]]:
    if file.endswith(".csv"):
        return list(csv.reader(text.splitlines()))
    rows = [unescape(line).strip("|").split("|") for line in text.splitlines() if line[:1] == "|"]
    return [[cell.strip().strip("*") for cell in row] for row in rows]


@pytest.fixture(scope="module")
def tables() -> dict[str, list[list[str]]]:
    """What is committed: on another machine the batch writes other last digits. Without git, what is there."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout

    kept = re.compile(r"results/(\w+/)?[\w-]+\.(csv|md)")
    try:
        files = [f for f in git("ls-tree", "-r", "--name-only", "HEAD", "results").splitlines() if kept.fullmatch(f)]
        texts = {f: git("show", f"HEAD:{f}") for f in files if not f.endswith("report.md")}
    except (OSError, subprocess.CalledProcessError):
        files = [p for p in (ROOT / "results").rglob("*") if kept.fullmatch(p.relative_to(ROOT).as_posix())]
        texts = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files if p.name != "report.md"}
    found = {f.removeprefix("results/"): rows_of(f, text) for f, text in texts.items()}
    return found | {"expected.csv": found["expected.csv"] + differences(found["expected.csv"])}


def differences(paper: list[list[str]]) -> list[list[str]]:
    """The paper prints accuracies and F1; its gains are their differences within a table and group. -> rows."""
    rows = [dict(zip(paper[0], row, strict=True)) for row in paper[1:]]
    pairs = [(a, b) for a, b in itertools.permutations((r for r in rows if r["table"] in "23" and r["paper"]), 2)]
    same = [(a, b) for a, b in pairs if (a["table"], a["group"]) == (b["table"], b["group"])]
    return [[a["table"], a["group"], f"{float(a['paper']) - float(b['paper']):.2f}"] for a, b in same]


def cells(notebook: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_each_measured_number_of_a_page_is_in_results(page, tables):
    assert unsourced(page.read_text(encoding="utf-8"), tables) == [], HELP


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_measured_number_in_the_words_of_a_notebook_is_in_results(notebook, tables):
    text = "\n\n".join("".join(c["source"]) for c in cells(notebook, "markdown"))
    assert unsourced(text, tables) == [], HELP


@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if n.stem[0] == "0"], ids=lambda p: p.stem)
def test_a_number_worked_by_hand_is_computed_in_the_same_notebook(notebook):
    """Decimals of two places and more in the words of the course are in its code or in what the code printed."""
    code = cells(notebook, "code")
    outputs = [o for c in code for o in c["outputs"]]
    printed = [t for o in outputs for t in (o.get("text", []), o.get("data", {}).get("text/plain", []))]
    known = numbers(" ".join("".join(t) for t in [*(c["source"] for c in code), *printed]))
    words = "\n".join("".join(c["source"]) for c in cells(notebook, "markdown"))
    used = re.findall(r"(?<![\w.])\d+\.\d{2,}(?![\w.])", re.sub(r"\]\([^)]*\)|arXiv [\d.]+", "", words))
    assert [n for n in used if not is_one_of(n, known)] == []


FUSION = ["critters", "fusion", "-4.17", "-6.82", "-1.51"]
TABLES = {"toy/table3.csv": [["group", "dataset", "delta", "low", "high"], ["critters", "fine", "9.9"], FUSION]}
MOVED = {"toy/table3.csv": [*TABLES["toy/table3.csv"][:2], ["critters", "fusion", "-3.17", "-5.82", "-0.51"]]}
SENTENCE = "<!-- results/toy/table3.csv: critters, fusion -->\nJoining gives {}.\n"
RIGHT = ["-4.2 points [-6.8, -1.5]", "a loss of 4.17 points", "4 points less", "-4.17 [-6.82, -1.51]"]
WRONG = ["9.9 points", "-4.17 [-6.82, -1.50]", "10 to 20 %", "61.3 ± 3.3", "+4.17 points", "5.17 %"]


@pytest.mark.parametrize("said", RIGHT)
def test_a_sentence_passes_with_its_table_and_fails_when_the_table_moves(said):
    for page in (SENTENCE.format(said), f"<!-- results/toy/table3.csv -->\n| joining |\n| --- |\n| {said} |\n"):
        assert unsourced(page, TABLES) == []
        assert len(unsourced(page, MOVED)) == 1


@pytest.mark.parametrize("said", WRONG)
def test_a_number_of_another_row_or_of_none_is_found(said):
    assert len(unsourced(SENTENCE.format(said), TABLES)) == 1


def test_without_a_comment_a_number_may_be_anywhere_in_results_but_a_whole_percent_may_not():
    assert unsourced("A gain of 9.9 points, a 95 % interval, see `0.7 %`.", TABLES) == []
    assert len(unsourced("A gain of 9.8 points.\n\n- 4 %\n- -4.17 [-6.82, 9.9]", TABLES)) == 3
