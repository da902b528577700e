"""Text files and labels as readers have them: one rule for what a label is, one error that names all rows."""

import json

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from labelaug_core.data import DataError
from labelaug_core.joining import folder
from labelaug_core.joining.texts import label_name, read_texts


def test_texts_of_every_kind(tmp_path):
    rows = [("a, b", "x"), ("c\nd", "y"), ("", "x"), ("é", "y"), ("w", "x")]
    table = pd.DataFrame(rows, columns=["text", "label"])
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "T.TSV", index=False, sep="\t")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in rows) + "\n\n")
    features = Features(text=Value("string"), label=ClassLabel(names=["x", "y"]))
    columns = {"text": [t for t, _ in rows], "label": [y == "y" for _, y in rows]}
    Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    for name in ("t.csv", "T.TSV", "t.jsonl", "saved"):
        texts, names = read_texts(tmp_path / name)
        assert list(zip(texts, names, strict=True)) == rows, name


def jsonl(*labels, texts=None):
    rows = zip(texts or ["a"] * len(labels), labels, strict=True)
    return "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows)


CASES = {
    "a ragged row": ("t.csv", "text,label\na,x\nb,y,z\n", "line 3: 3 cells"),
    "all ragged rows": ("t.csv", "text,label\na,x\nb,y,z\nc\nd,e,f\n", "lines 3, 5: 3 cells.*; line 4: 1 cells"),
    "an open quote": ("t.csv", 'text,label\na,x\n"b,y\n', "line 3"),
    "another column": ("t.csv", "text,class\na,x\n", "no column 'label'.*'class'"),
    "no label": ("t.csv", "text,label\na,\nb, \nc,x\n", "lines 2, 3: the label is empty"),
    "no rows": ("t.csv", "text,label\n", "no rows"),
    "an empty file": ("t.csv", "", "no rows"),
    "semicolons": ("t.csv", "text;label\na;x\n", "separated by ';'; save it with commas"),
    "two columns of one name": (
        "t.csv",
        "label,text,label\nx,a,y\n",
        "2 columns are named 'label'; rename all but one",
    ),
    "two keys of one name": ("t.jsonl", '{"text": "a", "label": "x", "label": "y"}\n', "'label' is given twice"),
    "no JSON": ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', "line 2: not valid JSON"),
    "no object": ("t.jsonl", '["a", "x"]\n', "line 1: expected a JSON object"),
    "no key": ("t.jsonl", '{"text": "a"}\n', "line 1: no column 'label'"),
    "lists of labels": (
        "t.jsonl",
        jsonl("x", ["billing", "refund"], ["x"]),
        "lines 2, 3: the label is a list.*one label",
    ),
    "objects of Label Studio": (
        "t.jsonl",
        jsonl({"choices": ["x"]}),
        "line 1: the label is an object.*one label a row",
    ),
    "null": ("t.jsonl", jsonl("x", None), "line 2: the label is missing.*remove the row"),
    "NaN": ("t.jsonl", jsonl("x", float("nan")), "line 2: the label is missing"),
    "NaN as a text": (
        "t.csv",
        "text,label\na,x\nb,nan\nc,NULL\n",
        "line 3: the label is 'nan'.*line 4: the label is 'NULL'",
    ),
    "no text": ("t.jsonl", jsonl("x", "y", texts=[None, float("nan")]), "lines 1, 2: the text is missing"),
    "texts that are lists": ("t.jsonl", jsonl("x", texts=[["a"]]), "line 1: the text is a list"),
    "true among numbers": ("t.jsonl", jsonl(1, "1", 1.0, True), "line 4: the label is true or false.*numbers"),
    "Latin-1": ("t.csv", "text,label\na,x\nCafé,y\n".encode("latin-1"), "line 3: .*0xe9.*Latin-1.*'é'.*iconv"),
    "UTF-16": ("t.csv", "text,label\na,x\n".encode("utf-16"), "encoded in UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": ("t.jsonl", jsonl("x").encode("utf-16-le"), "encoded in UTF-16"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_one_error_with_its_lines(tmp_path, case):
    name, content, message = CASES[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        read_texts(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_several_kinds_of_faults_are_one_error(tmp_path):
    rows = ['{"text": "a", "label": null}', "no", '{"text": "a", "label": ["x"]}', '{"text": "a", "label": null}']
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match="lines 1, 4: the label is missing.*; line 2: not valid.*; line 3: .*a list"):
        read_texts(tmp_path / "t.jsonl")


def test_a_quoted_field_after_a_space_is_one_field(tmp_path):
    (tmp_path / "t.csv").write_text('text, label\n"a, b", "x"\n c, y\n')
    assert read_texts(tmp_path / "t.csv") == (["a, b", "c"], ["x", "y"])


def test_saved_datasets_without_a_label_or_with_several_are_one_error(tmp_path):
    names = ClassLabel(names=["x", "y"])
    for label, values, message in (
        (names, [0, -1, -1], "saved, rows 2, 3: 'label' is -1: the row has no label"),
        (Sequence(names), [[0], [0, 1], []], "saved, rows 1, 2, 3: the label is a list"),
        (names, [0, None, 1], "saved, row 2: the label is missing"),
    ):
        data = Dataset.from_dict({"text": list("abc"), "label": values}, Features(text=Value("string"), label=label))
        data.save_to_disk(tmp_path / "saved")
        with pytest.raises(DataError, match=message):
            read_texts(tmp_path / "saved")


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.0", " 1 "])
def test_a_whole_number_is_one_class_however_it_is_written(one):
    assert label_name(one) == "1"


def test_other_labels_stay_what_they_are():
    values = [True, "True", "FALSE", 2.5, -1, "01", "v1.0", "10.50", "Cafe\u0301", "no finding"]
    named = ["true", "true", "false", "2.5", "-1", "01", "v1.0", "10.50", "Café", "no finding"]
    assert [label_name(v) for v in values] == named


def test_numbers_of_two_files_meet_whatever_the_format(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(1, 2.0, "3"))
    (tmp_path / "b.csv").write_text("text,label\na,1.0\nb,2\nc,3.0\n")
    assert folder.class_names(tmp_path / "a.jsonl") == folder.class_names(tmp_path / "b.csv") == ["1", "2", "3"]
