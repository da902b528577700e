"""Two small pages in a notebook (ipywidgets): judge images by eye, and ask a model why."""

from __future__ import annotations

import io
from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from companion.drawing import draw_steps
from companion.interpret import VERDICTS
from companion.records.profiles import RecordError
from labelaug_core.explain import Explanation
from labelaug_core.files.cache import write_files
from labelaug_core.files.images import centre_square, decode, unreadable

COLUMNS = ["group", "node", "image", "rater", "verdict"]


def png(image: np.ndarray, size: int = 280) -> bytes:
    """uint8 [S, S, 3] as PNG; drawings below half of `size` pixels are enlarged to it without blur."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if len(image) < size // 2:
        picture = picture.resize((size, size), Image.Resampling.NEAREST)
    picture.save(buffer, "png")
    return buffer.getvalue()


def read_ratings(file: Path, group: str | None = None, node: str | None = None) -> pd.DataFrame:
    """All ratings in the file (of one node of a group), columns COLUMNS; none if there is no file.

    Raises RecordError naming the columns that the file lacks.
    """
    table = pd.read_csv(file, dtype=str) if Path(file).is_file() else pd.DataFrame(columns=COLUMNS, dtype=str)
    if lacking := [c for c in COLUMNS if c not in table]:
        raise RecordError(f"{Path(file).name}: no column {', '.join(lacking)}; the first line is {','.join(COLUMNS)}")
    return table[(table["group"] == group) & (table["node"] == node)] if group else table


def write_rating(file: Path, rating: dict[str, str]) -> None:
    """Add one rating (COLUMNS -> texts); it replaces the rater's earlier one of the same image and node.

    The file is written whole or not at all. Raises OSError naming it.
    """
    table = pd.concat([read_ratings(file), pd.DataFrame([rating], columns=COLUMNS)])
    table = table.drop_duplicates(COLUMNS[:-1], keep="last")
    write_files({file: table.to_csv(index=False).encode()})


def rater(images, ids: list[str], group: str, node: str, file: Path) -> widgets.Widget:
    """A page that shows one image after another, asks whether it shows the node, and saves each answer at once.

    images: n of uint8 [S, S, 3]; ids: their names; file: the ratings. Neither the predicted nor the true label is
    shown. A rater who comes back (same name, same file) goes on at the first image not yet judged.
    """
    name = widgets.Text(placeholder="your name", description="rater", continuous_update=False)
    picture, told = widgets.Image(format="png", width=280), widgets.HTML()
    buttons = [widgets.Button(description=v) for v in VERDICTS]
    back = widgets.Button(description="back", icon="arrow-left")
    at = 0

    def show(_=None):
        if at < len(ids):
            picture.value = png(images[at])
            told.value = f"{at + 1} of {len(ids)}: does it show <b>{escape(node)}</b>?"
        else:
            told.value = f"Done: {len(ids)} images judged. Thank you. Run the next cell for the rate."
        for b in buttons:
            b.disabled = at >= len(ids)

    def begin(_):
        nonlocal at
        ratings = read_ratings(file, group, node)
        mine = set(ratings["image"][ratings["rater"] == name.value.strip()])
        at = next((i for i, image in enumerate(ids) if image not in mine), len(ids))
        show()

    def answer(button):
        nonlocal at
        if not name.value.strip():
            told.value = "Write your name first: two raters are compared by name."
            return
        keys = (group, node, ids[at], name.value.strip(), button.description)
        write_rating(file, dict(zip(COLUMNS, keys, strict=True)))
        at += 1
        show()

    def step_back(_):
        nonlocal at
        at = max(at - 1, 0)
        show()

    name.observe(begin, "value")
    back.on_click(step_back)
    for b in buttons:
        b.on_click(answer)
    show()
    return widgets.VBox([name, picture, told, widgets.HBox([*buttons, back])])


def explorer(images: np.ndarray, names: list[str], explain_one: Callable[[np.ndarray], Explanation]) -> widgets.Widget:
    """A page to pick a test image, or to upload one, and to see its path: bars, text.

    images: uint8 [n, S, S, 3]; names: one each; explain_one: a function from uint8 [1, S, S, 3] to an Explanation.
    """
    pick = widgets.Dropdown(options=list(zip(names, range(len(names)), strict=True)), description="test image")
    upload = widgets.FileUpload(accept="image/*", multiple=False, description="your image")
    picture, bars = (
        widgets.Image(format="png", layout={"width": f"{w}px", "object_fit": "contain", "flex": "0 0 auto"})
        for w in (280, 600)
    )
    told = widgets.HTML()

    def show(image):
        e = explain_one(image[None])
        figure, axes = plt.subplots(figsize=(6, 0.6 + 0.5 * len(e.steps)))
        draw_steps(axes, e.steps)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        plt.close(figure)
        picture.value, bars.value = png(image), buffer.getvalue()
        told.value = f"<pre>{escape(str(e))}</pre>"

    def read(change):
        try:
            image = decode(io.BytesIO(change["new"][0]["content"]))
        except Exception as error:  # Pillow's readers raise many kinds
            told.value = f"This file {unreadable(error)}; choose another."
        else:
            show(centre_square(image, images.shape[1]))

    pick.observe(lambda change: show(images[change["new"]]), "value")
    upload.observe(read, "value")
    show(images[0])
    return widgets.VBox([widgets.HBox([pick, upload]), widgets.HBox([picture, bars]), told])
