"""Texts and their labels out of CSV, TSV, JSONL and saved Hugging Face datasets; one rule for what a label is."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from labelaug_core.data import DataError, listed

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl")
NO_VALUE = {"nan", "null", "<na>", "nat"}  # how other programs write a missing value
TRUTHS = ("true", "false")
ONE_LABEL = "write one label a row, as a text"


class Faults:
    """The rows of one file that cannot be used, by reason: one error names them all."""

    def __init__(self, file: str, unit: str = "line"):
        self.file, self.unit, self.rows = file, unit, {}

    def add(self, number: int, reason: str) -> None:
        """Row `number` cannot be used, for this reason."""
        self.rows.setdefault(reason, []).append(number)

    def raise_any(self) -> None:
        """Raises DataError if there is a fault: the file, the rows of each kind of fault, what to do."""
        if self.rows:
            parts = (
                f"{self.unit}{'s' * (len(rows) > 1)} {listed(map(str, rows))}: {reason}"
                for reason, rows in self.rows.items()
            )
            raise DataError(f"{self.file}, {listed(parts, '; ')}")


def decoded(path: Path) -> str:
    """The file's text, which has to be UTF-8. Raises DataError saying which encoding it seems to be, and what to do."""
    raw = path.read_bytes()
    rule = "save it as UTF-8 (Excel: `CSV UTF-8`; else `iconv -f {0} -t UTF-8 {1} > new{2}`)"
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or raw.count(0) > len(raw) / 5:
        raise DataError(f"{path.name}: it is encoded in UTF-16; {rule.format('UTF-16', path.name, path.suffix)}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        how = rule.format("WINDOWS-1252", path.name, path.suffix)
        raise DataError(
            f"{path.name}, line {line}: the byte 0x{byte:02x} is not UTF-8; the file seems to be Latin-1 or "
            f"Windows-1252 (there it is {bytes([byte]).decode('cp1252', 'replace')!r}); {how}"
        ) from None


def csv_rows(path: Path, columns: tuple[str, str], faults: Faults) -> Iterator[tuple[int, dict]]:
    """(line, row) of a CSV or TSV file with a header. Raises DataError for a header that cannot be used."""
    csv.field_size_limit(max(csv.field_size_limit(), 10_000_000))  # a text may be longer than csv's 131,072
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    source = io.StringIO(decoded(path), newline="")
    reader = csv.reader(source, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for column in columns:
            if (times := header.count(column)) > 1:
                raise DataError(f"{path.name}: {times} columns are named {column!r}; rename all but one")
        if header and len(header) == 1 and (other := next((c for c in ";\t,|" if c in header[0]), "")):
            rule = "save it with commas as .csv, or with tabs as .tsv"
            raise DataError(f"{path.name}: its columns seem to be separated by {other!r}; {rule}")
        for cells in reader:
            if cells and len(cells) != len(header):
                rule = "quote a text that holds the separator"
                faults.add(reader.line_num, f"{len(cells)} cells, but the header has {len(header)}; {rule}")
            elif cells:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        faults.add(reader.line_num, f"not valid CSV ({error}); the rest of the file is not read")


def jsonl_rows(path: Path, columns: tuple[str, str], faults: Faults) -> Iterator[tuple[int, dict]]:
    """(line, row) of a JSONL file: one JSON object a line."""

    def once(pairs: list[tuple]) -> dict:
        names = [name for name, _ in pairs]
        if twice := [c for c in columns if names.count(c) > 1]:
            raise ValueError(f"{twice[0]!r} is given twice")
        return dict(pairs)

    for number, line in enumerate(io.StringIO(decoded(path), newline=None), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            faults.add(number, f"not valid JSON ({error})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            faults.add(number, f"expected a JSON object, got {line.strip():.40}")


def saved_rows(path: Path, columns: tuple[str, str], faults: Faults) -> Iterator[tuple[int, dict]]:
    """(row, values) of a dataset saved by Hugging Face `datasets` (save_to_disk); of several splits, `train`."""
    try:
        from datasets import ClassLabel, DatasetDict, load_from_disk
    except ImportError:
        raise DataError(f"{path.name}: a saved dataset needs `pip install datasets`") from None
    data = load_from_disk(str(path))
    if isinstance(data, DatasetDict):
        if "train" not in data:
            raise DataError(f"{path.name}: no split `train` among {', '.join(data)}; name one split's folder")
        data = data["train"]
    kept = [c for c in columns if c in data.features]
    named = {c: data.features[c] for c in kept if isinstance(data.features[c], ClassLabel)}
    for number, row in enumerate(data if len(kept) < 2 else data.select_columns(kept), 1):
        if unlabelled := [c for c in named if row[c] is not None and row[c] < 0]:
            rule = "the row has no label, as in a test split that is not published; remove such rows"
            faults.add(number, f"{unlabelled[0]!r} is {row[unlabelled[0]]}: {rule}")
            continue
        yield number, row | {c: f.int2str(row[c]) for c, f in named.items() if row[c] is not None}


def label_name(value: object) -> str:
    """The class that a label value names; one rule for all files.

    A label is a text, composed (NFC), without spaces around it. A whole number is one class however it is written:
    1, 1.0, "1" and "1.0" are `1`. So are true, "True" and "TRUE": `true`. Raises ValueError saying why a value is no
    label: missing, a list, an object.
    """
    if value is None or isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the label is missing (null or NaN); fill it or remove the row")
    if isinstance(value, list | tuple | set):
        raise ValueError(f"the label is a list, and one sample has one class here; {ONE_LABEL}")
    if isinstance(value, dict):
        raise ValueError(f"the label is an object (as Label Studio writes them); {ONE_LABEL}")
    name = unicodedata.normalize("NFC", str(value)).strip()
    if not name:
        raise ValueError("the label is empty; fill it or remove the row")
    if name.casefold() in NO_VALUE:
        raise ValueError(f"the label is {name!r}, a missing value; fill it or remove the row (a class: rename it)")
    return name.lower() if name.lower() in TRUTHS else re.sub(r"^([+-]?\d+)\.0+$", r"\1", name)


def text_of(value: object) -> str:
    """The text of a sample, composed (NFC). Raises ValueError for a missing one, a list, an object."""
    if value is None or isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the text is missing (null or NaN); fill it or remove the row")
    if isinstance(value, list | tuple | dict):
        raise ValueError("the text is a list or an object; write it as one text")
    return unicodedata.normalize("NFC", str(value))


def read_texts(path: Path, text: str = "text", label: str = "label") -> tuple[list[str], list[str]]:
    """Texts and class names (the columns `text`, `label`) of a .csv, .tsv or .jsonl file or a saved dataset.

    Raises one DataError that names the file and all rows that cannot be used, by the reason: ragged, a column missing,
    no text (null; an empty one is a text), no label (see label_name), true or false among numbers; or that says which
    encoding the file has.
    """
    reader = {".csv": csv_rows, ".tsv": csv_rows, ".jsonl": jsonl_rows}.get(path.suffix.lower(), saved_rows)
    faults = Faults(path.name, "row" if reader is saved_rows else "line")
    texts, names, truths = [], [], []
    try:
        for number, row in reader(path, (text, label), faults):
            if missing := [column for column in (text, label) if column not in row]:
                faults.add(number, f"no column {missing[0]!r}; it has {listed(map(repr, row))}")
                continue
            try:
                texts.append(text_of(row[text]))
                names.append(label_name(row[label]))
            except ValueError as error:
                faults.add(number, str(error))
                continue
            truths += [number] * (names[-1] in TRUTHS)
    except DataError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path.name}: cannot be read ({type(error).__name__}: {error})") from None
    for number in truths if any(re.fullmatch(r"[+-]?\d+", name) for name in set(names)) else ():
        faults.add(number, "the label is true or false, and other rows have numbers; write all labels in one way")
    faults.raise_any()
    if not texts:
        raise DataError(f"{path.name}: no rows")
    return texts, names
