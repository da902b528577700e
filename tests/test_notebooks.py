"""The notebooks are what they say: source and outputs agree, run in order, hold no machine's path, and teach in a form.

That every cell runs, and that the checked ones print what is stored, is nbval's part of `make test`.
"""

import ast
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(p.stem for p in FOLDER.glob("[0-9]*.py"))
CONCEPTS = [name for name in NAMES if name.startswith("0")]
COURSE = [name for name in CONCEPTS if not name.startswith("00")]  # with checked numbers and exercises
NUMBER = re.compile(r"(?<![\w.])\d+\.\d{3,}(?![\w.])")


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def markdown(name: str) -> str:
    return "\n\n".join("".join(c["source"]) for c in load(name)["cells"] if c["cell_type"] == "markdown")


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@pytest.mark.parametrize("name", NAMES)
def test_source_and_notebook_agree(name):
    source, made = (jupytext.read(FOLDER / f"{name}.{end}") for end in ("py", "ipynb"))
    assert [(c.cell_type, c.source) for c in source.cells] == [(c.cell_type, c.source) for c in made.cells]
    assert [tags(c) for c in source.cells] == [tags(c) for c in made.cells]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_of_one_run_top_to_bottom_without_errors(name):
    cells = code_cells(load(name))
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    checked = [c for c in cells if "nbval-check-output" in tags(c)]
    assert all(c["outputs"] for c in checked), "nbval compares nothing where nothing is stored"
    assert len(checked) >= 8 or name not in COURSE, "a notebook of the course ends in numbers that must come out"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_literals_and_come_first(name):
    first = code_cells(load(name))[0]
    assert tags(first) == ["parameters"]
    for statement in ast.parse("".join(first["source"])).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_machine_is_stored(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users|usr|opt)/[\w.]", text)


def test_every_notebook_has_its_source():
    assert sorted(p.stem for p in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    lengths = [len("".join(c["source"]).splitlines()) for c in code_cells(load(name))]
    assert max(lengths) <= 40
    assert statistics.median(lengths) <= 8 or name not in CONCEPTS


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_notebook_says_more_than_it_computes(name):
    assert len(markdown(name)) >= sum(len("".join(c["source"])) for c in code_cells(load(name)))


@pytest.mark.parametrize("name", COURSE)
def test_a_notebook_of_the_course_has_its_parts(name):
    text = markdown(name)
    for part in ("**What you will learn.**", "**What it needs.**", "**How long it takes.**", "## What to take away"):
        assert part in text
    assert text.count("> **Deviation from the paper.**") >= 3 and text.lower().count("how to read it.**") >= 3


@pytest.mark.parametrize("name", COURSE)
def test_three_to_five_exercises_each_with_a_folded_solution(name):
    cells = load(name)["cells"]
    begin = next(i for i, c in enumerate(cells) if "## Exercises" in "".join(c["source"]))
    text, folded = "", {"source_hidden": True, "outputs_hidden": True}
    for cell in cells[begin:]:
        if cell["cell_type"] == "markdown":
            text += "".join(cell["source"]) + "\n\n"
        else:  # folded in JupyterLab and in the book, but executed and checked like any other cell
            assert {"solution", "hide-cell", "nbval-check-output"} <= set(tags(cell))
            assert cell["metadata"]["jupyter"] == folded
            text += "SOLUTION\n\n"
    _, *exercises = re.split(r"^\*\*\d\.\*\* ", text.split("## Exercises")[1], flags=re.M)
    assert 3 <= len(exercises) <= 5
    assert [e for e in exercises if "SOLUTION" not in e and "<details>" not in e] == []
    assert text.count("<details>") == text.count("\n\n</details>")


def changed(notebook: dict) -> int:
    """Raise one stored number of each checked cell that has one by 0.001; the number of cells touched."""
    n = 0

    def raised(number):
        return f"{float(number[0]) + 0.001:.{len(number[0].split('.')[1])}f}"

    for cell in code_cells(notebook):
        streams = [o for o in cell["outputs"] if o["output_type"] == "stream"]
        if "nbval-check-output" in tags(cell) and streams and NUMBER.search("".join(streams[0]["text"])):
            streams[0]["text"] = NUMBER.sub(raised, "".join(streams[0]["text"]), count=1)
            n += 1
    return n


@pytest.mark.parametrize("name", COURSE[1:])  # 01 counts; its checked numbers are whole
def test_a_checked_number_that_moves_by_a_thousandth_fails(name, tmp_path):
    notebook = load(name)
    n = changed(notebook)
    (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    environment = os.environ | {"LABELAUG_OUT": str(tmp_path), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", tmp_path]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert n >= 4 and f"{n} failed" in run.stdout, run.stdout[-2000:]


def test_make_refuses_to_throw_away_what_was_changed_in_a_notebook(tmp_path):
    for file in ("Makefile", "pyproject.toml"):
        (tmp_path / file).write_bytes((FOLDER.parent / file).read_bytes())
    (tmp_path / "notebooks").mkdir()
    one, other = (tmp_path / "notebooks" / name for name in ("01_a.py", "02_b.py"))
    for source in (one, other):
        source.write_text("# %%\nprint(6 * 7)\n")
        jupytext.write(jupytext.read(source), source.with_suffix(".ipynb"))
    made = one.with_suffix(".ipynb")
    made.write_text(made.read_text().replace("6 * 7", "6 * 9"))  # as JupyterLab or another editor saves it
    other.write_text("# %%\nprint(6 * 8)\n")  # the usual way

    def make() -> subprocess.CompletedProcess:
        command = ["make", "notebooks", f"BIN={Path(sys.executable).parent}", "ENV="]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"MAKEFLAGS": ""}, capture_output=True, text=True)

    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    refused = make()
    assert refused.returncode and "would be lost: 01_a.ipynb\n" in refused.stderr
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    (sync,) = re.findall("To keep the changes: (.*)", refused.stderr)
    subprocess.run(sync, shell=True, cwd=tmp_path, check=True)
    assert make().returncode == 0
    for source, number in ((one, 54), (other, 48)):
        assert f'"{number}\\n"' in source.with_suffix(".ipynb").read_text()


def test_the_first_figure_is_there_within_a_minute(tmp_path):
    cells = code_cells(load("00_quickstart"))
    first = next(i for i, c in enumerate(cells) if any("image/png" in o.get("data", {}) for o in c["outputs"]))
    source = "\n".join("".join(c["source"]) for c in cells[: first + 1])
    begin = time.monotonic()
    environment = os.environ | {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", source], env=environment, cwd=tmp_path, check=True)
    assert time.monotonic() - begin < 60
