"""The rules of the house: what the core loads, whom it imports, how long its files are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import labelaug_core

CORE = Path(labelaug_core.__file__).parent
FILES = sorted(CORE.rglob("*.py"))
LATE = "import labelaug_core, sys; print([m for m in ('torch', 'matplotlib', 'pandas', 'sklearn') if m in sys.modules])"
TIMED = "import time; begin = time.perf_counter(); import labelaug_core; print(time.perf_counter() - begin)"


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_core_is_imported_at_once_and_without_torch():
    assert printed(LATE) == "[]"
    assert min(float(printed(TIMED)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", labelaug_core.__all__)
def test_each_public_name_is_there(name):
    assert getattr(labelaug_core, name).__name__ == name and name in dir(labelaug_core)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LabelAgu'"):
        labelaug_core.LabelAgu  # noqa: B018


def imported(file: Path) -> set[str]:
    """The top packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_no_module_of_the_core_imports_the_companion():
    assert FILES and [f.name for f in FILES if "companion" in imported(f)] == []


def test_no_file_of_the_core_is_longer_than_a_sitting():
    lengths = {f.name: len(f.read_text(encoding="utf-8").splitlines()) for f in FILES}
    assert {name: n for name, n in lengths.items() if n > 250} == {}


def test_the_method_is_read_in_an_evening():
    """The core's own folder holds the method alone; what reads and keeps files is in folders of it."""
    lengths = [len(f.read_text(encoding="utf-8").splitlines()) for f in CORE.glob("*.py")]
    assert len(lengths) <= 14 and sum(lengths) <= 2450


PAPER = ["Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "Eq. 5", "Def. 3.1", "Def. 3.2", "Def. 3.3", "Algorithm 1", "Algorithm 2",
         "Sec. 3.2.4"]  # fmt: skip
HOME = re.compile(r"((?:Eq|Def|Sec)\. |Algorithm )(\d(?:\.\d)*)(?: and (\d(?:\.\d)*))?[:,]")


def test_each_equation_definition_and_algorithm_has_one_home():
    """A docstring that begins with the name of an equation is its home: there it can be read in full."""
    homes: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (
                found := HOME.match(ast.get_docstring(node) or "")
            ):
                for number in filter(None, found.groups()[1:]):
                    homes.setdefault(found[1] + number, []).append(f"{file.name}:{node.name}")
    assert sorted(homes) == sorted(PAPER) and {k: v for k, v in homes.items() if len(v) > 1} == {}


@pytest.mark.parametrize("page", ["guarantees", "your_data"])
def test_each_promise_of_a_page_cites_a_test_that_exists(page):
    tests = {f.name: re.findall(r"^def (test_\w+)", f.read_text(), re.M) for f in Path(__file__).parent.glob("*.py")}
    text = (Path(__file__).parents[1] / "notebooks" / f"{page}.md").read_text(encoding="utf-8")
    cited = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)
    assert [c for c in cited if c[0] not in tests or (c[1] and c[1] not in tests[c[0]])] == []
    promises = [block.splitlines()[2:] for block in re.findall(r"^\|(?:.*\n\|)+.*", text, re.M)]  # without the head
    assert sum(map(len, promises)) > 30 and [row for rows in promises for row in rows if "`test_" not in row] == []
