"""Files with flipped, missing and random bytes: one clear error that names the file, or a valid result; never a
traceback out of a library, a hang, or more than 2 GiB. The same examples in every run; in a soak others, and more.
"""

import copy
import io
import json
import random
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from companion.records import profiles, store
from companion.records.profiles import RecordError
from helpers import TEN, ten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_training import Drawings

from labelaug_core.data import DataError
from labelaug_core.encoders import SmallCNN
from labelaug_core.files import cache
from labelaug_core.files.images import ImageFiles
from labelaug_core.graph import GraphError
from labelaug_core.graph_file import GRAPHS, graph_from_dict, load_graph
from labelaug_core.joining import folder
from labelaug_core.joining.texts import read_texts

ROOT = Path(__file__).parents[1]


@contextmanager
def limits(seconds: int = 30, gib: int = 2):
    """No more memory than this on top of what the process has, no longer than this."""

    def hangs(*_):
        pytest.fail(f"not done after {seconds} s")

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, hangs)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (gib << 30), hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))


def read(reader, path: Path, *errors: type[Exception]):
    """What the reader makes of the file, or None where it raises one of these errors, which must name the file."""
    try:
        with limits():
            return reader(path)
    except errors as error:
        assert type(error) in errors and path.name in str(error), error
        return None


def fuzz(strategy, n: int, check) -> None:
    """check(example) for n examples: the same ones in every run, but others in a soak."""
    tried = 0

    def counted(example):
        nonlocal tried
        tried += 1
        check(example)

    few = {"max_examples": n, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    settings(derandomize=n < 2_000, **few)(given(strategy)(counted))()
    assert tried >= n


def few_or_soak(few: int, many: int):
    return pytest.mark.parametrize("n", [few, pytest.param(many, marks=pytest.mark.soak)])


def damaged(raw: bytes, rng: random.Random, first: int = 0, last: int | None = None) -> bytes:
    """One bit of raw[first:last] flipped, a byte overwritten, or the file cut off there."""
    at, kind = rng.randrange(first, len(raw) if last is None else last), rng.randrange(3)
    if kind == 2:
        return raw[:at]
    byte = raw[at] ^ (1 << rng.randrange(8)) if kind == 0 else rng.randrange(256)
    return raw[:at] + bytes([byte]) + raw[at + 1 :]


# ---- records, caches, profiles --------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """A folder with the record `cell` of the seeds 3 and 5, and what was written: {seed: (run, predictions)}."""
    whole = {}
    for seed in (3, 5):
        run = {"data": {"content_hash": "abc", "n_train": 12}, "test": {"accuracy": seed / 16, "nll": float("nan")}}
        values = np.linspace(0, 1, 40).astype(np.float16)
        whole[seed] = run, {"y": np.arange(40), "exact": np.arange(40) % seed, "p_exact": values[::-1] / seed}
        store.add(tmp_path, "cell", profiles.cell_settings("toy", "critters", "fine", "ffn"), seed, *whole[seed])
    return tmp_path, whole


def found_of(record: store.Record, whole: dict) -> set[int]:
    """The seeds that a damaged record still has: each says what was written, and the others are said to be damaged."""
    for seed in record.seeds:
        run, arrays = whole[seed]
        assert json.dumps(record.runs[seed], sort_keys=True) == json.dumps(run, sort_keys=True)
        assert all(np.array_equal(v, arrays[k]) for k, v in record.of(seed).items())
    assert set(record.seeds) | set(record.damaged) == set(whole)
    return set(record.seeds)


@pytest.mark.parametrize("ending", ["json", "npz"])
def test_a_damaged_record_never_says_something_else(written, ending):
    folder, whole = written
    path = folder / "runs" / f"cell.{ending}"
    raw, lost = path.read_bytes(), 0
    for seed in range(1_500):
        path.write_bytes(damaged(raw, random.Random(seed)))
        record = read(lambda _: store.read(folder, "cell"), path, RecordError)
        lost += record is None or not found_of(record, whole)
    assert lost > 1_000


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path))
    encoder, images = SmallCNN(4), Drawings(6)
    whole = np.array(cache.cached_features(encoder, images, "hash"))
    file = next(tmp_path.glob("features-*.npy"))
    raw = file.read_bytes()
    for seed in range(300):
        file.write_bytes(damaged(raw, random.Random(seed), last=128 if seed % 2 else None))  # the head, or anywhere
        np.testing.assert_array_equal(cache.cached_features(encoder, images, "hash"), whole)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("profile", ["toy", "cpu"])
def test_a_damaged_profile_is_one_error_or_other_settings(tmp_path, monkeypatch, profile):
    path = tmp_path / "notebooks" / "profiles" / f"{profile}.yaml"
    path.parent.mkdir(parents=True)
    raw = (ROOT / path.relative_to(tmp_path)).read_bytes()
    monkeypatch.setattr(profiles, "ROOT", tmp_path)

    def batch(_):
        for part in profiles.PARTS:
            for cell in profiles.cells(profile, part=part):
                profiles.cell_settings(profile, **cell)
                profiles.seed_count(profile, cell)

    with limits():
        path.write_bytes(raw)
        batch(path)
    for seed in range(120):
        path.write_bytes(damaged(raw, random.Random(seed)))
        try:
            batch(path)
        except RecordError as error:
            assert profile in str(error)


def test_damaged_numbers_of_the_paper_are_one_error_or_other_numbers(tmp_path, monkeypatch):
    path = tmp_path / "results" / "expected.csv"
    path.parent.mkdir()
    raw = (ROOT / "results" / "expected.csv").read_bytes()
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    for seed in range(300):
        path.write_bytes(damaged(raw, random.Random(seed)))
        found = read(lambda _: profiles.expected(3), path, RecordError)
        assert found is None or found["paper"].dtype == float


# ---- label graphs ---------------------------------------------------------------------------------------------

SHIPPED = [TEN, *(yaml.safe_load((GRAPHS / f"{name}.yaml").read_text()) for name in ("critters", "flower", "notes"))]
VALUES = [None, True, 0, -1.5, 10**40, float("inf"), "", " ", "cat", "animal", "<eop>", "no: yes", "ß\u2028", "x" * 999]
VALUES += [[], {}, [[]], [["cat"], "dog"], {"cat": ["dog"]}, {"nodes": ["cat"]}, {7: 8}, b"\xff\x00"]
TOKENS = ["\t", "&a ", "*a", "<<: *a\n", "!!set ", "!!omap ", "!x ", "!!python/name:os.system ", "? ", "- ", ": ", ","]
TOKENS += ["#", "'", '"', "|\n", ">-\n", "---\n", "...\n", "%YAML 9.9\n", *"[]{}\r\x00\ufeff@", "\\x"]
TOKENS += ["[" * 3_000, "{a: " * 3_000, "- " * 3_000]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)


def spots(tree) -> list[tuple]:
    """(container, key) of everything inside."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [spot for k in keys for spot in [(tree, k), *spots(tree[k])]]


@st.composite
def graph_files(draw) -> bytes:
    """A shipped graph with parts dropped, renamed, repeated, moved or replaced; then its text and bytes spoilt."""
    data = copy.deepcopy(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(0, 3))):
        where, key = draw(st.sampled_from(spots(data)))
        other, other_key = draw(st.sampled_from(spots(data)))
        kind = draw(st.sampled_from(["drop", "put", "rename", "copy", "share", "nest"]))
        if kind == "drop" and len(spots(data)) > 9:
            del where[key]
        elif kind == "put":
            where[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif kind == "rename" and isinstance(where, dict):
            where[draw(st.sampled_from(["cat", "nodes", "groups", "", "<eop>", "no", *map(str, where)]))] = where[key]
        elif kind == "copy":
            where[key] = copy.deepcopy(other[other_key])
        elif kind == "share":  # the same list twice: an alias in the file
            inside = [other[other_key], *(tree[k] for tree, k in spots(other[other_key]))]
            if not any(part is where for part in inside):  # not inside itself
                where[key] = other[other_key]
        elif kind == "nest":
            for _ in range(draw(st.integers(1, 50))):
                where[key] = [where[key]]
        if not spots(data):
            break
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=draw(st.booleans()), width=200)
    text += draw(st.sampled_from(["", "", "", "", "", "", BOMB]))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        a = draw(st.integers(0, len(text)))
        b = min(a + draw(st.integers(0, 40)), len(text))
        text = text[:a] + draw(st.sampled_from([*TOKENS, text[a:b] * 2])) + text[draw(st.sampled_from([a, b])) :]
    raw = text.encode(draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "utf-8-sig"])))
    if draw(st.sampled_from([False, False, True])):
        raw = damaged(raw, random.Random(draw(st.integers(0, 10**6))))
    return raw


@few_or_soak(1_500, 10_000)
def test_random_graph_files(tmp_path, record_property, n):
    path, valid = tmp_path / "mine.yaml", []

    def check(raw):
        path.write_bytes(raw)
        graph = read(load_graph, path, GraphError)
        if graph is not None:
            valid.append(graph)
            assert all(p in graph.index for ps in graph.parents.values() for p in ps)
            assert all(graph.count_paths(v) >= 1 and graph.blocks(graph.root) for v in graph.label_nodes())

    fuzz(graph_files(), n, check)
    record_property("examples", n)
    record_property("valid", len(valid))
    assert n / 20 < len(valid) < n / 1.2  # neither all nonsense nor all harmless


# ---- images and texts -----------------------------------------------------------------------------------------


def pictures() -> list[bytes]:
    """One small file of every kind that users have."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 14, 4), dtype=np.uint8)
    kinds = "png RGB, png P, png 1, png LA, png I;16, jpeg RGB, jpeg CMYK, gif P, bmp RGB, bmp P, webp RGB, webp RGBA, "
    kinds += "avif RGB, jpeg2000 RGB, ppm L, tiff RGB, tiff F"
    found = []
    for kind, mode in map(str.split, kinds.split(", ")):
        image = Image.fromarray(noise, "RGBA")
        deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)  # 16 bits
        image = deep if mode == "I;16" else image.convert("RGB").convert(mode)
        for options in ({}, {"jpeg": {"progressive": True}, "tiff": {"compression": "tiff_lzw"}}.get(kind, {})):
            image.save(buffer := io.BytesIO(), kind, **options)
            found.append(buffer.getvalue())
    image.convert("RGB").save(buffer := io.BytesIO(), "gif", save_all=True, append_images=[Image.new("RGB", (3, 3))])
    return [*dict.fromkeys(found), buffer.getvalue(), b"", b"\x00" * 50, b"<svg/>"]


PICTURES = pictures()
SIZES = [b"\x00\x00", b"\x00\x01", b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\x00\x00\xff\xff", b"\xff\xff\xff\xff"]


@st.composite
def spoilt(draw, raw: bytes, tokens: list[bytes]) -> bytes:
    """A few bytes overwritten, removed, repeated or cut off, or others put in."""
    for _ in range(draw(st.integers(0, 4))):
        a = draw(st.integers(0, len(raw)) | st.integers(0, min(60, len(raw))))  # heads more often
        b = min(len(raw), a + draw(st.integers(0, 12)))
        new = draw(st.sampled_from([b"", raw[a:b] * 2, *tokens]) | st.binary(min_size=1, max_size=4))
        raw = raw[:a] + new + raw[draw(st.sampled_from([a, min(a + len(new), len(raw)), b])) :]
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw


IMAGES = st.tuples(
    st.sampled_from(PICTURES).flatmap(lambda raw: spoilt(raw, SIZES)),
    st.sampled_from([".jpg", ".png", ".gif", ".webp", ".tif"]),
)


@few_or_soak(400, 2_000)
@pytest.mark.filterwarnings("ignore")
def test_random_images(tmp_path, record_property, n):
    valid = []

    def check(example):
        path = tmp_path / f"image{example[1]}"
        path.write_bytes(example[0])
        pixels = read(lambda p: ImageFiles([p], 8)[np.array([0])], path, DataError)
        if pixels is not None:
            valid.append(pixels)
            assert pixels.shape == (1, 8, 8, 3) and pixels.dtype == np.uint8

    fuzz(IMAGES, n, check)
    record_property("examples", n)
    record_property("valid", len(valid))
    assert n / 20 < len(valid) < n / 1.2


ROWS = [
    ("a cat, or two", "Brit"),
    ('"quoted"', "Coon"),
    ("new\nline", "Pug"),
    ("é", "Brit"),
    ("", "Coon"),
    ("z", "Pug"),
]
CSV = "text,label\r\n" + "".join('"{}",{}\r\n'.format(t.replace('"', '""'), y) for t, y in ROWS)
JSONL = "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in ROWS)
TEXTS = [(".csv", CSV), (".tsv", CSV.replace(",", "\t")), (".jsonl", JSONL), (".jsonl", "\ufeff" + JSONL), (".csv", "")]
WORDS = ['"', '""', ",", "\t", "\n", "\r", "\r\n\r\n", "\x00", "\ufeff", "Pug", "label", "text", "{", "}", "[" * 3_000]
WORDS += ["\\ud83d", "NaN", "-1e999", "null", "9" * 5_000, '"label": ["Pug"],', '"label": {"choices": ["Pug"]},', "\\"]
WORDS += ['"label": true,', ",1.0\n", ";", "e\u0301", "x" * 200_000, "\u2028", "😀", "\\u0000"]
DOCUMENTS = st.sampled_from(TEXTS).flatmap(
    lambda t: st.tuples(st.just(t[0]), spoilt(t[1].encode(), [w.encode() for w in WORDS] + [b"\xff", b"\xed\xa0\x80"]))
)


@few_or_soak(600, 2_000)
def test_random_texts(tmp_path, record_property, n):
    graph, coarse, valid = graph_from_dict(ten(), "ten.yaml"), tmp_path / "coarse.csv", []
    coarse.write_text("text,label\na,cat\nb,dog\n")

    def check(example):
        path = tmp_path / f"fine{example[0]}"
        path.write_bytes(example[1])
        if (texts := read(read_texts, path, DataError)) is None:
            return
        valid.append(texts)
        try:
            with limits():
                task = folder.load(graph, {"fine": path, "coarse": coarse, "test_fraction": 0.34})
            assert len(task.train) + len(task.test) == len(texts[0])
        except (DataError, GraphError) as error:  # a class unknown, without a sample, spelled twice
            assert type(error) in (DataError, GraphError) and "\n" not in str(error)

    fuzz(DOCUMENTS, n, check)
    record_property("examples", n)
    record_property("valid", len(valid))
    assert n / 40 < len(valid) < n / 1.2
