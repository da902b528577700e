"""pyproject.toml, the lock, environment.yml and the Makefile say the same, for Python 3.11, 3.12 and 3.13."""

import ast
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "all"}
LOCK = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1] not in "# "]
PYTHONS = ["3.11.9", "3.12.1", "3.13.0"]


def named(requirements) -> set[str]:
    """The distributions of requirements."""
    return {canonicalize_name(Requirement(r).name) for r in requirements}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_each_dependency_is_locked_once_at_a_version_it_allows(python, system):
    here = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": system}
    lock = [r for r in LOCK if r.marker is None or r.marker.evaluate(default_environment() | here)]
    versions = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in lock}
    assert len(versions) == len(lock)
    for wanted in map(Requirement, [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]):
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), wanted


def test_the_lock_pins_exact_versions_and_names_no_registry():
    assert not re.search(r"https?://|--index|--find-links|file:", (ROOT / "requirements.txt").read_text())
    assert all([s.operator for s in r.specifier] == ["=="] for r in LOCK)


def test_the_extra_named_all_has_every_extra():
    (everything,) = map(Requirement, PROJECT["optional-dependencies"]["all"])
    assert everything.name == PROJECT["name"] and everything.extras == set(EXTRAS)


def imported(folder: str) -> set[str]:
    """The distributions whose packages a folder's files import, wherever in them."""
    found, owners = set(), packages_distributions()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return {canonicalize_name(owners[name][0]) for name in found if name in owners} - {PROJECT["name"]}


@pytest.mark.parametrize(
    "folder, extras",
    [("labelaug_core", ["weights", "joining"]), ("notebooks", ["joining", "notebooks", "compare"]), ("tests", EXTRAS)],
)
def test_what_is_imported_is_declared(folder, extras):
    declared = named(PROJECT["dependencies"]).union(*(named(EXTRAS[extra]) for extra in extras))
    assert imported(folder) - declared == set()


def test_conda_installs_the_lock_on_the_same_pythons():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert python == f"python{PROJECT['requires-python']}"
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in PYTHONS)
    assert pip == ["-c requirements.txt", "-e .[all]"]
    assert f"ifeq ($(CONDA_DEFAULT_ENV),{environment['name']})" in (ROOT / "Makefile").read_text()


@pytest.fixture
def alone(tmp_path) -> Path:
    """A folder with the files of the environment, and on its PATH no Python."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for tool in ("sh", "touch", "mkdir", "chmod", "make"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [folder / "make", f"SHELL={folder}/sh", ".venv/.ready", *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True)


def stub(folder: Path, name: str, runs: bool = True) -> None:
    """A Python that runs and makes an environment, or a shim of one that is not installed."""
    venv = f"mkdir -p .venv/bin; echo '#!{folder}/sh' > .venv/bin/pip; chmod +x .venv/bin/pip; echo {name} > .venv/made"
    lines = [f'case "$1" in -V) echo {name};; -m) {venv};; esac'] if runs else ["exit 127"]
    (folder / name).write_text("\n".join([f"#!{folder}/sh", *lines, ""]))
    (folder / name).chmod(0o755)


def test_make_takes_the_first_python_that_runs(alone):
    stub(alone, "python3.11", runs=False)
    stub(alone, "python3.12")
    stub(alone, "python3.13")
    done = make(alone)
    assert done.returncode == 0, done.stderr
    assert (alone / ".venv/made").read_text() == "python3.12\n"


def test_make_names_the_pythons_it_tried_when_none_runs(alone):
    stub(alone, "python3.11", runs=False)
    failed = make(alone)
    assert failed.returncode and "(tried: python3.11 python3.12 python3.13 python3 python)" in failed.stderr
    assert "(tried: python3.10)" in make(alone, "PYTHON=python3.10").stderr


def test_make_builds_the_environment_again_for_another_python(alone):
    stub(alone, "python3.12")
    stub(alone, "python3.13")
    assert make(alone).returncode == 0
    (alone / ".venv/bin/python").symlink_to(alone / "python3.12")
    assert "up to date" in make(alone, "PYTHON=python3.12").stdout
    assert make(alone, "PYTHON=python3.13").returncode == 0
    assert (alone / ".venv/made").read_text() == "python3.13\n"
