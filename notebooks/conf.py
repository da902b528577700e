"""The book (`make book`): Sphinx and MyST-NB lay out the committed notebooks; nothing is run and nothing is fetched.

The pages are the notebooks as they were executed, and the `.md` files beside them. Tables and figures are those in
results/ and figures/ at the time of the build. The substitutions below put them in, so no number is typed by hand.
"""

import ast
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "labelaug"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]
exclude_patterns = ["profiles", "**.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # CommonMark, the default, has no tables
nb_ipywidgets_js = {}  # by default two scripts from the network, on each page with a widget
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["amsmath", "dollarmath", "substitution"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = "labelaug"
html_show_copyright = html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
html_extra_path = sorted({f.name: str(f) for f in (ROOT / "figures").glob("*/explorer*.html")}.values())
html_context = {"default_mode": "light"}
html_theme_options = {"use_fullscreen_button": False, "show_toc_level": 2, "navbar_persistent": []}


def title(file: Path) -> str:
    """results/cpu/table3.md -> Table 3 (profile cpu)."""
    name = file.stem.replace("_", " ").replace("table", "Table ").replace("figure", "Figure ")
    return f"{name[0].upper()}{name[1:]} (profile {file.parent.name})"


def rows_with_the_papers_number(table: list[str]) -> list[str]:
    """A Markdown table's head and those of its rows whose column `paper` is filled; [] where there is none."""
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in table]
    column = cells[0].index("paper") if "paper" in cells[0] else None
    kept = [line for line, c in zip(table[2:], cells[2:], strict=True) if column is not None and c[column]]
    return table[:2] + kept if kept else []


def line_of(file: Path) -> str:
    """A row of the core's tree: the file, and the first paragraph of its docstring."""
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).split("\n\n")[0].replace("\n", " ")
    return f"| `{file.relative_to(ROOT)}` | {said.replace('|', '/')} |"


def not_run(profile: str) -> str:
    """What the book says in place of a profile's tables."""
    return f"The tables of the profile `{profile}` are **not run**: `make reproduce PROFILE={profile}` makes them."


profiles = sorted(p.stem for p in (HERE / "profiles").glob("*.yaml"))
tables = {f: f.read_text(encoding="utf-8").strip().splitlines() for f in sorted((ROOT / "results").glob("*/table*.md"))}
figures = sorted((ROOT / "figures").glob("*/*.png"))
missing = [not_run(p) for p in profiles if p not in {f.parent.name for f in tables}]
found = [f"**{title(f)}**\n\n" + "\n".join(rows) for f in tables if (rows := rows_with_the_papers_number(tables[f]))]
core = [f for folder in ("", "files", "joining") for f in sorted((ROOT / "labelaug_core" / folder).glob("*.py"))]
myst_substitutions = {
    "core": "\n".join(["| file | what it holds |", "| --- | --- |", *map(line_of, core)]),
    "against_the_paper": "\n\n".join([*found, *missing]),
    "all_tables": "\n\n".join([*(f"### {title(f)}\n\n" + "\n".join(t) for f, t in tables.items()), *missing]),
    "explorers": ", ".join(f'<a href="{Path(f).name}">{title(Path(f))}</a>' for f in html_extra_path),
    "all_figures": "\n\n".join(f"### {title(f)}\n\n![{title(f)}](../{f.relative_to(ROOT)})" for f in figures),
}
