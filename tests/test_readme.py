"""The README says nothing that is not so: its tables are in results/, its files and make targets exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
PROGRAMS = re.compile(r"(make|papermill|snakemake|conda) \S")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)  # language, text
BLOCKS = "".join(text for language, text in FENCED if not language).splitlines()
WRITTEN = [line.split("#")[0].strip() for line in BLOCKS] + re.findall(r"`([^`\n]+)`", README)
COMMANDS = sorted({command for command in WRITTEN if PROGRAMS.match(command)})


def run(command: str, **environment) -> str:
    """Runs it in the root with this Python's programs first; its output. A failure fails the test."""
    quiet = {"PATH": f"{BIN}:{os.environ['PATH']}", "TQDM_DISABLE": "1", "MAKEFLAGS": ""}
    env = os.environ | quiet | environment
    env.pop("MAKELEVEL", None)  # else the make inside `make test` also prints its directory
    done = subprocess.run(command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work(command, tmp_path):
    """CI runs `make test` and `make reproduce` whole; here they are planned, not run. The others run."""
    program, *words = command.split()
    here = f"{command} BIN={BIN} ENV="  # this environment instead of a new one
    if program == "papermill":
        run(command.replace("out.ipynb", str(tmp_path / "out.ipynb")), LABELAUG_OUT=str(tmp_path))
        assert list(tmp_path.glob("results/toy/runs/*.json"))
    elif program == "snakemake" or words[0] in ("reproduce", "report", "tune", "verify", "beyond"):
        if program == "make":  # what make hands to snakemake, options of the Makefile included
            command = re.search(r"\S*snakemake .*?(?=;|$| &&)", run(f"make -n {' '.join(words)} BIN={BIN} ENV="))[0]
        command = re.sub(r"\bout=\S+", f"out={tmp_path}", re.sub(r"--executor \S+", "", command))
        plan = run(command.replace("snakemake ", "snakemake --dry-run --cores 1 ", 1))
        assert re.search(r"(cells|verify|beyond): \d+ of \d+ cells are recorded, (\d+ to run|nothing to be done)", plan)
    elif program == "conda":
        assert (ROOT / words[words.index("-f") + 1]).exists()  # what is in it: test_environment.py
    elif words == ["book"]:
        assert run(here).strip().endswith("_build/book/index.html")
        assert (ROOT / "_build/book/index.html").exists()
    else:
        runs = {"test": "--nbval-lax notebooks", "lab": "jupyter lab", "notebooks": "nbconvert", "bench": "bench.py"}
        assert runs[words[0]] in run(f"{here} -n")


def test_the_commands_are_found():
    found = {" ".join(c.split()[:2]) for c in COMMANDS}
    assert {"make reproduce", "make test", "make book", "papermill notebooks/20_train_cell.ipynb"} <= found


def test_the_tables_shown_are_those_in_results():
    blocks = re.findall(r"<!-- (results/\w+/table\d)\.md -->\n(.*?)<!-- end -->", README, re.S)
    assert blocks
    for file, shown in blocks:  # as committed: a batch on another machine may differ in the last digit
        table = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:{file}.md"], capture_output=True, text=True).stdout
        rows = [line for line in shown.splitlines() if line.startswith("|")]
        assert len(rows) > 3 and [line for line in rows if line not in table.splitlines()] == []


def test_pictures_and_local_links_exist():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert targets and [t for t in targets if not (ROOT / t).exists()] == []


def test_make_targets_and_notebooks_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {t for t in re.findall(r"`?make ([a-z]+)", README)}
    assert targets and all(re.search(rf"^{t}:", makefile, re.M) for t in targets), targets
    listed = re.search(r"^## The notebooks\n(.*?)^## ", README + "## ", re.M | re.S)[1]
    files = {p.name[:2] for p in (ROOT / "notebooks").glob("[0-9]*.py")}
    assert sorted(re.findall(r"(?<=[ ,])(\d\d) [a-zFT]", " ".join(listed.split()))) == sorted(files)


def test_the_tree_shows_every_file_and_folder_of_the_core():
    tree = re.search(r"^labelaug_core/\n(.*?)^```", README, re.M | re.S)[1]
    shown = set(re.findall(r"^  (\w+\.py|\w+/) ", tree, re.M))
    folders = {f"{p.name}/" for p in (ROOT / "labelaug_core").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert shown == {p.name for p in (ROOT / "labelaug_core").glob("*.py")} - {"__init__.py"} | folders


def test_it_is_one_page():
    words = [word for word in README.split() if re.search(r"\w", word)]
    assert len(words) <= 1000
