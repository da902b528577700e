"""Notebook 99 with a reader's own folders: two datasets that the project has never seen, joined by its instructions."""

from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaug_core import LabelAug
from labelaug_core.data import DataError
from labelaug_core.graph import GraphError

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "99_your_own_datasets.py"


def run_notebook(**parameters) -> dict:
    """All its code cells in order, the parameters cell overridden and training cut short; what they defined."""
    namespace = {}
    for cell in jupytext.read(NOTEBOOK).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= {"steps": 20} | parameters
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
    return {"fine_data": "herbarium", "coarse_data": "walks"}


def test_a_join_never_seen_before_from_the_instructions_alone(mine, capsys):
    first = run_notebook(**mine)  # step 1: it drafts the graph where the reader stands, and goes on to the end
    draft = Path("label_graph.yaml")
    assert "unplaced (1): moss" in capsys.readouterr().out
    assert len(first["table"]) == 5 and first["miniature"] is False and first["encoder"] == "efficientnet-lite0"

    text = draft.read_text()  # step 2: the reader's editor
    start, end = text.index("  unplaced class:"), text.index("labels:   #")
    text = (text[:start] + text[end:]).replace("      - unplaced\n", "      - moss\n")
    draft.write_text(text)
    photo = Path("herbarium/Dog rose/0.jpg")
    second = run_notebook(**mine, new_sample=str(photo), model_folder="kept")
    assert draft.read_text() == text
    assert "unplaced" not in second["graph"].nodes and second["graph"].parents["Dog rose"] == ("roses",)
    assert "unplaced" not in second["report"].describe_join(second["task"])
    assert {e.path[-1] for e in second["explanations"]} <= {"Oak_tree", "Beech tree", "Dog rose"}
    kept = LabelAug.load("kept")  # step 3: the model is the reader's
    assert (kept.predict_proba([photo]) == second["model"].predict_proba([photo])).all()


def test_texts_and_a_test_set_of_the_reader(mine, capsys):
    rows = [
        (f"{word} {i}", f"{word} {desk}") for desk in ("login", "bill") for word in ("lost", "wrong") for i in range(6)
    ]
    for file, part in {"fine.csv": rows, "test.csv": rows[::2]}.items():
        pd.DataFrame(part, columns=["message", "topic"]).to_csv(file, index=False)
    mails = [(message, topic.split()[1]) for message, topic in rows]
    pd.DataFrame(mails, columns=["message", "topic"]).to_csv("coarse.csv", index=False)
    columns = {"text_column": "message", "label_column": "topic", "new_sample": "lost, and found"}
    found = run_notebook(fine_data="fine.csv", coarse_data="coarse.csv", test_data="test.csv", **columns)
    assert found["encoder"] == "minilm" and found["task"].sizes == {"train": "24", "coarse": "24", "test": "12"}
    assert len(found["table"]) == 5 and "reference" in set(found["table"]["difference"])
    assert "most probable: " in capsys.readouterr().out


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
    with pytest.raises(DataError, match="gone.jpg: cannot be read"):  # before anything is trained
        run_notebook(**mine, graph_file="graph.yaml", new_sample="gone.jpg")
    with pytest.raises(DataError, match="set both"):
        run_notebook(fine_data="herbarium")
    Path("walks/moss/0.jpg").write_bytes(Path("walks/moss/0.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match="0.jpg: cannot be read as an image"):
        run_notebook(**mine, graph_file="graph.yaml")
    assert sorted(Path().rglob("*")) == before
