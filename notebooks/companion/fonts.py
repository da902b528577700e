"""Names of any script in figures: an installed font for the characters that the usual one lacks, else a clear note."""

import warnings
from collections.abc import Iterable
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

LIKELY = ("cjk", "noto", "han", "hei", "gothic", "ming", "song", "arial unicode", "pingfang", "yahei", "malgun")


@cache
def characters(path: str) -> frozenset[int]:
    """The code points that a font file can draw; none if it cannot be read, or draws a box for every character."""
    try:
        font = FT2Font(path)
        return frozenset() if "last resort" in font.family_name.lower() else frozenset(font.get_charmap())
    except (OSError, RuntimeError):  # fonts that FreeType does not take
        return frozenset()


def drawable(families: list[str]) -> set[int]:
    """The code points that these font families can draw together."""
    return set().union(*(characters(font_manager.findfont(FontProperties(family=[f]))) for f in families))


def use_fonts_for(names: Iterable[str]) -> str:
    """Add installed fonts to matplotlib's list until every character of the names can be drawn.

    Returns '' or, where no installed font has them, a note that names the characters and what to install; it is warned
    about, too. Without such characters nothing is changed.
    """
    families = list(matplotlib.rcParams["font.family"])
    missing = {ord(c) for name in names for c in name if c.isprintable()} - drawable(families)
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda f: not any(k in f.name.lower() for k in LIKELY))
    for font in fonts:
        if not missing:
            break
        if missing & characters(font.fname) and font.name not in families:
            families.append(font.name)
            missing -= characters(font.fname)
    matplotlib.rcParams["font.family"] = families
    if not missing:
        return ""
    shown = "".join(map(chr, sorted(missing)[:20]))
    note = f"no installed font has {shown!r}: boxes are shown; install one (Debian: apt-get install fonts-noto-cjk)"
    warnings.warn(note, stacklevel=2)
    return note
