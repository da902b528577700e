"""environment.yml, pyproject.toml and the lock say the same."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, str]:
    lines = [
        Requirement(line)
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and line[0] not in "# "
    ]
    return {
        r.name.lower(): next(iter(r.specifier)).version
        for r in lines
        if r.marker is None or r.marker.evaluate({"python_full_version": "3.11.9", "python_version": "3.11"})
    }


def test_every_dependency_is_locked_at_a_version_it_allows():
    lock = locked()
    wanted = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(lock[requirement.name.lower()]), requirement


def test_lock_pins_exact_versions_and_names_no_registry():
    text = (ROOT / "requirements.txt").read_text()
    assert not re.search(r"https?://|--index|--find-links|file:", text)
    assert all("==" in line for line in text.splitlines() if line and line[0] not in "# ")


def test_conda_environment_installs_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python"))
    assert python == "python=3.11" and PROJECT["requires-python"].startswith(">=3.11")
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "-r requirements.txt" in pip
    assert f"ifeq ($(CONDA_DEFAULT_ENV),{environment['name']})" in (ROOT / "Makefile").read_text()
