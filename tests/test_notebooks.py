"""The notebooks are what they say: source and outputs agree, run in order, hold no machine's path."""

import ast
import json
import re
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(p.stem for p in FOLDER.glob("[0-9]*.py"))


def code_cells(name: str) -> list[dict]:
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


@pytest.mark.parametrize("name", NAMES)
def test_source_and_notebook_agree(name):
    source, made = (jupytext.read(FOLDER / f"{name}.{end}") for end in ("py", "ipynb"))
    assert [(c.cell_type, c.source) for c in source.cells] == [(c.cell_type, c.source) for c in made.cells]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_of_one_run_top_to_bottom_without_errors(name):
    cells = code_cells(name)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    checked = [c for c in cells if "nbval-check-output" in c["metadata"].get("tags", [])]
    assert all(c["outputs"] for c in checked)
    assert checked or not name.startswith(("01", "02", "03", "04")), "a concept notebook checks its numbers"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_literals_and_come_first(name):
    first = code_cells(name)[0]
    assert first["metadata"].get("tags") == ["parameters"]
    for statement in ast.parse("".join(first["source"])).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_machine_is_stored(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users|usr|opt)/[\w.]", text)


def test_every_notebook_has_its_source():
    assert sorted(p.stem for p in FOLDER.glob("*.ipynb")) == NAMES
