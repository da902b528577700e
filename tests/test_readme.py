"""The README says nothing that is not so: its tables are in results/, its files and make targets exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", ["toy", "cpu"])
def test_the_tables_shown_are_those_in_results(profile):
    shown = re.search(rf"<!-- table3 {profile} -->\n(.*?)<!-- end -->", README, re.S)[1]
    file = f"results/{profile}/table3.md"  # as committed: a batch on another machine may differ in the last digit
    table = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:{file}"], capture_output=True, text=True).stdout
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(rows) > 3 and [line for line in rows if line not in table.splitlines()] == []


def test_pictures_and_local_links_exist():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert targets and [t for t in targets if not (ROOT / t).exists()] == []


def test_make_targets_and_notebooks_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {t for t in re.findall(r"`?make ([a-z]+)", README)}
    assert targets and all(re.search(rf"^{t}:", makefile, re.M) for t in targets), targets
    for number, name in re.findall(r"^\| (\d\d) ([^|]+?) \|", README, re.M):
        assert list((ROOT / "notebooks").glob(f"{number}_*.py")), f"{number} {name}"
    listed = set(re.findall(r"^\| (\d\d) ", README, re.M))
    assert listed == {p.name[:2] for p in (ROOT / "notebooks").glob("[0-9]*.py")}


def test_modules_named_exist_and_stay_thin():
    for name in re.findall(r"`(\w+\.py)`", README):
        assert list((ROOT / "labelaug_core").rglob(name)), name
    for module in (ROOT / "labelaug_core").rglob("*.py"):
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 300, module.name


def test_imports_run_one_way():
    """Datasets, encoders, graph and softmax know nobody above them; a notebook imports no notebook."""
    above = "label_aug|baselines|methods|training|cell|reporting|explain"
    for name in ("graph", "graph_file", "block_softmax", "prefix_tree", "decoder", "losses", "encoders", "datasets/*"):
        for module in (ROOT / "labelaug_core").glob(f"{name}.py"):
            assert not re.search(rf"labelaug_core(\.| import )({above})\b", module.read_text()), module.name
