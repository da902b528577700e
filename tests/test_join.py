"""Notebook 99 with a reader's own folders: two datasets that the project has never seen, joined by its instructions."""

from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from labelaug_core.data import DataError
from labelaug_core.graph import GraphError

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "99_your_own_datasets.py"


def run_notebook(**parameters) -> dict:
    """All its code cells in order, the parameters cell overridden and training cut short; what they defined."""
    namespace = {}
    for cell in jupytext.read(NOTEBOOK).cells:
        if cell.cell_type == "code":
            exec(cell.source.replace('"steps": 240, "eval_every": 40', '"steps": 20, "eval_every": 10'), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= parameters
    plt.close("all")
    return namespace


@pytest.fixture
def mine(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    sets = {"herbarium": ["Oak_tree", "Beech tree", "Dog rose"], "walks": ["trees", "roses", "moss"]}
    for place, classes in sets.items():
        for c in classes:
            (tmp_path / place / c).mkdir(parents=True)
            for i in range(6):
                noise = rng.integers(0, 255, (4, 5, 3), dtype=np.uint8)
                Image.fromarray(noise).resize((50, 40)).save(tmp_path / place / c / f"{i}.jpg")
    return {"fine_folder": "herbarium", "coarse_folder": "walks"}


def test_a_join_never_seen_before_from_the_instructions_alone(mine, capsys):
    first = run_notebook(**mine)  # step 1: it drafts the graph where the reader stands, and goes on to the end
    draft = Path("label_graph.yaml")
    assert "unplaced (1): moss" in capsys.readouterr().out
    assert set(first["models"]) == set(first["arms"]) and first["miniature"] is False

    text = draft.read_text()  # step 2: the reader's editor
    start, end = text.index("  unplaced class:"), text.index("labels:   #")
    text = (text[:start] + text[end:]).replace("      - unplaced\n", "      - moss\n")
    draft.write_text(text)
    second = run_notebook(**mine)
    assert draft.read_text() == text
    assert "unplaced" not in second["graph"].nodes and second["graph"].parents["Dog rose"] == ("roses",)
    assert "unplaced" not in second["report"].describe_join(second["task"])
    assert {e.path[-1] for e in second["explanations"]} <= {"Oak_tree", "Beech tree", "Dog rose"}


def test_its_mistakes_are_one_error_each_and_change_nothing(mine):
    Path("graph.yaml").write_text("""
root: thing
groups:
  kind: {below: thing, nodes: [trees, roses, moss]}
  class: {nodes: {Oak_tree: trees, Beech tree: trees, Dog rose: roses}}
labels:
  fine: {groups: [class]}
  coarse: {groups: [kind]}
""")
    before = sorted(Path().rglob("*"))
    Path("walks/ferns").mkdir()
    with pytest.raises(DataError, match="'ferns' in walks holds no image"):
        run_notebook(**mine, graph_file="graph.yaml")
    Path("walks/moss/0.jpg").rename("walks/ferns/0.jpg")
    with pytest.raises(GraphError, match="no label 'ferns' of dataset 'coarse'"):
        run_notebook(**mine, graph_file="graph.yaml")
    Path("walks/ferns/0.jpg").rename("walks/moss/0.jpg")
    Path("walks/ferns").rmdir()
    with pytest.raises(GraphError, match="nowhere.yaml"):
        run_notebook(**mine, graph_file="nowhere.yaml")
    with pytest.raises(DataError, match="set both"):
        run_notebook(fine_folder="herbarium")
    Path("walks/moss/0.jpg").write_bytes(Path("walks/moss/0.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match="0.jpg: cannot be read as an image"):
        run_notebook(**mine, graph_file="graph.yaml")
    assert sorted(Path().rglob("*")) == before
