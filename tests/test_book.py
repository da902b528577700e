"""The book as a reader's browser sees it: every page, on a desktop and 400 px wide."""

import base64
import json
import re
import subprocess
import sys
import threading
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))

FACTS = """
const done = arguments[0], all = s => [...document.querySelectorAll(s)];
const article = document.querySelector('.bd-article') ?? document.body;  // the search page has none
const shown = all('.bd-article :is(p, li, h1, h2, h3, blockquote, img)').filter(e => e.offsetParent);
(window.MathJax?.startup?.promise ?? Promise.resolve()).then(async () => {
  const broken = [];
  for (const image of document.images) {
    image.loading = 'eager';
    await image.decode().catch(() => broken.push(image.src));
  }
  const prose = article.cloneNode(true);
  prose.querySelectorAll('pre, code, script, mjx-container').forEach(e => e.remove());
  done({
    broken, images: document.images.length,
    unset: all('.math').filter(e => !e.querySelector('mjx-container')).map(e => e.textContent),
    bad_math: all('mjx-merror, [data-mjx-error]').map(e => e.textContent), math: all('mjx-container').length,
    bars: prose.textContent.match(/\\|\\s*(---|\u2014)\\s*\\|/g) ?? [],  // the second row of a table that is none
    raw: prose.textContent.match(/\\$\\$|\\\\[([]|\\{\\{|\\\\begin/g) ?? [],
    links: all('a[href]').map(a => a.href), ids: all('[id]').map(e => e.id),
    fetched: performance.getEntriesByType('resource').map(e => e.name),
    page_width: document.documentElement.scrollWidth,
    cut: shown.filter(e => !e.closest('table, .output, .cell_output, blockquote blockquote'))
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent.slice(0, 60)),
    small: shown.filter(e => e.tagName == 'P' && parseFloat(getComputedStyle(e).fontSize) < 12).length,
    text: article.textContent, tables: all('.bd-article table').length,
  });
}).catch(error => done({errors: String(error)}));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built book behind a web server of its own: (its address, its pages)."""
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "doctrees"]
    built = subprocess.run([*command, ROOT / "notebooks", folder / "html"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    handler = partial(SimpleHTTPRequestHandler, directory=folder / "html")
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", sorted(p.name for p in (folder / "html").glob("*.html"))
    server.shutdown()


def open_page(browser, address: str, width: int) -> dict:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")  # what earlier pages left
    browser.get(address)
    facts = browser.execute_async_script(FACTS)
    assert "errors" not in facts, facts
    return facts | {"errors": [m["message"] for m in browser.get_log("browser") if m["level"] in ("SEVERE", "ERROR")]}


@pytest.fixture(scope="module")
def desktop(browser, site):
    browser.set_script_timeout(60)
    yield {page: open_page(browser, site[0] + page, 1280) for page in site[1]}
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def found(pages: dict, key: str) -> dict:
    return {page: facts[key] for page, facts in pages.items() if facts[key]}


def test_every_page_loads_without_errors_and_from_its_own_server(site, desktop):
    assert {f"{name}.html" for name in [*NOTEBOOKS, "index", "explorer", "results", "guarantees", "search"]} <= set(
        desktop
    )
    assert found(desktop, "errors") == {}
    fetched = [url for facts in desktop.values() for url in facts["fetched"]]
    assert fetched and [url for url in fetched if not url.startswith((site[0], "data:"))] == []


def test_no_internal_link_is_broken(site, desktop):
    broken, checked = set(), 0
    for page, facts in desktop.items():
        for link in facts["links"]:
            target, fragment = urldefrag(link)
            name = target.removeprefix(site[0]) or "index.html"
            if target.startswith(site[0]) and name.endswith(".html"):
                checked += 1
                known = name in desktop and (not fragment or unquote(fragment) in desktop[name]["ids"])
                broken |= set() if known else {(page, link)}
    assert checked > 100 and broken == set()


def test_mathematics_is_set(desktop):
    assert found(desktop, "unset") == found(desktop, "bad_math") == found(desktop, "raw") == {}
    assert all(desktop[f"{name}.html"]["math"] > 5 for name in NOTEBOOKS if name[:2] in ("01", "02", "03", "04"))


def test_tables_are_tables(desktop):
    """Also those that a notebook has printed as Markdown."""
    assert found(desktop, "bars") == {}
    assert all(desktop[f"{name}.html"]["tables"] > 1 for name in ("22_table3", "31_path_correctness"))


def test_images_are_there(desktop):
    assert found(desktop, "broken") == {}
    assert desktop["index.html"]["images"] and desktop["results.html"]["images"] > 5


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_outputs_are_shown(desktop, name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    printed = ["".join(o["text"]) for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout"]
    assert [text for text in printed if text.strip() not in desktop[f"{name}.html"]["text"]] == []


def rows(file: Path) -> list[list[str]]:
    """The rows of a table in results/, head first, without the marks of Markdown."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [
        [unescape(c).strip().strip("*") for c in line.strip("|").split("|")] for line in lines if line[:5] != "| ---"
    ]


def test_the_book_shows_every_table(desktop):
    """All rows on the page of results; on the landing page those for which the paper has a number."""
    files = sorted((ROOT / "results").glob("*/table*.md"))
    for file in files:
        head, *body = rows(file)
        paper = head.index("paper") if "paper" in head else None
        first = [row for row in body if paper is not None and row[paper]]
        for page, wanted in (("results", body), ("index", first)):
            text = desktop[f"{page}.html"]["text"]
            assert [row for row in wanted if not all(cell in text for cell in row)] == [], (page, file)
    assert files


def test_a_profile_without_tables_is_said_to_be_not_run(desktop):
    for profile in (p.stem for p in (ROOT / "notebooks" / "profiles").glob("*.yaml")):
        said = f"The tables of the profile {profile} are not run"
        there = any((ROOT / "results" / profile).glob("table*.md"))
        assert [said in desktop[f"{page}.html"]["text"] for page in ("index", "results")] == [not there] * 2


def test_the_landing_page_lists_every_file_of_the_core(desktop):
    files = [str(p.relative_to(ROOT)) for p in (ROOT / "labelaug_core").rglob("*.py")]
    assert files and [name for name in files if name not in desktop["index.html"]["text"]] == []


def test_search_finds_a_notebook(browser, site):
    browser.get(site[0] + "search.html?q=multinomial")
    hits = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results a"))
    assert any("02_block_softmax" in hit.get_attribute("href") for hit in hits)


def test_readable_at_400_pixels(browser, site, desktop):
    narrow = {page: open_page(browser, site[0] + page, 400) for page in site[1]}
    assert {page: facts["page_width"] for page, facts in narrow.items() if facts["page_width"] > 400} == {}
    assert found(narrow, "cut") == found(narrow, "small") == {}


@pytest.mark.parametrize("inches", [(8.27, 11.69), (8.5, 11)], ids=["A4", "letter"])
def test_the_handout_prints_on_one_sheet(browser, site, inches):
    open_page(browser, site[0] + "handout.html", 1280)
    paper = dict(zip(("paperWidth", "paperHeight"), inches, strict=True))
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
