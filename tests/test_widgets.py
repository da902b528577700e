"""The two pages of notebooks 30 and 31 in a real JupyterLab, in headless Chromium: clicked as a reader clicks them."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from companion import widgets
from companion.records.profiles import RecordError
from PIL import Image
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.support.ui import Select
from test_batch import copy, shrink  # noqa: F401  a fixture: the repository with a small toy profile


@pytest.fixture
def lab(copy, tmp_path):  # noqa: F811
    """JupyterLab on a copy of the repository; yields (its address, the copy)."""
    shrink(copy)
    shutil.copy(Path(__file__).parents[1] / "pyproject.toml", copy)  # jupytext's settings
    for made in (copy / "notebooks").glob("*.ipynb"):  # as after `make notebooks`: newer than its source
        os.utime(made)
    file = copy / "notebooks" / "profiles" / "toy.yaml"
    profile = yaml.safe_load(file.read_text())
    profile["training"] |= {"steps": 60, "eval_every": 60}
    profile["groups"]["critters"]["data"] |= {"n_fine": 10, "n_test": 30}  # a model that leaves 24 images to judge
    file.write_text(yaml.safe_dump(profile))
    for plugin, content in (
        ("notebook-extension/tracker", '{"windowingMode": "none"}'),  # every cell is in the page
        ("apputils-extension/notification", '{"fetchNews": "false", "checkForUpdates": false}'),
    ):
        settings = tmp_path / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(content)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = f"lab --no-browser --allow-root --ip=127.0.0.1 --port={port} --ServerApp.port_retries=0"
    command += f" --IdentityProvider.token= --ServerApp.root_dir={copy} --LabApp.expose_app_in_browser=True"
    command += f" --LabApp.user_settings_dir={tmp_path / 'settings'} --LabApp.workspaces_dir={tmp_path / 'workspaces'}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy), *sys.path[1:]]),
        "LABELAUG_OUT": str(copy),
        "LABELAUG_CACHE": str(tmp_path / "cache"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    log = (tmp_path / "lab.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter", *command.split()], env=environment, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    wait(lambda: answers(f"{address}/api"), 120, "JupyterLab does not answer")
    yield address, copy
    process.terminate()
    process.wait(timeout=30)


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def wait(condition, seconds: float, what: str):
    """What the condition returns once it is true; an element that the page redraws just now counts as "not yet"."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (NoSuchElementException, StaleElementReferenceException):
            pass
        assert time.monotonic() < end, what
        time.sleep(0.3)


def run(browser, address: str, notebook: str, done: str) -> None:
    """Open a notebook, run all its cells, wait until an element (XPath) of the page that we want is there."""
    browser.get(f"{address}/lab/tree/notebooks/{notebook}.ipynb")
    ready = "return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    wait(lambda: browser.execute_script(ready), 240, f"{notebook}: no kernel")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    where = f"{notebook}: the page does not appear"
    element = wait(lambda: next(iter(browser.find_elements("xpath", done)), None), 240, where)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)


def test_a_rater_judges_images_and_every_answer_is_saved(lab, browser, tmp_path):
    address, here = lab
    run(browser, address, "31_path_correctness", "//button[normalize-space()='cannot tell' and not(@disabled)]")
    file, told = (
        here / "results" / "toy" / "ratings.csv",
        lambda: browser.find_element("class name", "jp-Notebook").text,
    )
    button = {
        v: browser.find_element("xpath", f"//button[normalize-space()='{v}']") for v in (*widgets.VERDICTS, "back")
    }
    wait(lambda: "1 of " in told(), 60, "the page does not say which image it shows")
    button["yes"].click()
    wait(lambda: "Write your name first" in told(), 60, "an answer without a name must be refused")
    assert not file.exists()
    browser.find_element("xpath", "//input[@placeholder='your name']").send_keys("ann\n")
    wait(lambda: "1 of " in told(), 60, "the name does not start the page")
    picture = browser.find_element("xpath", "//img[contains(@class, 'widget-image')]")
    assert picture.get_property("naturalWidth") >= 280  # the image is there
    browser.save_screenshot(str(tmp_path / "rater.png"))
    button["yes"].click()
    wait(lambda: "2 of " in told(), 60, "the next image does not come")
    button["back"].click()
    wait(lambda: "1 of " in told(), 60, "back does not go back")
    button["no"].click()
    wait(lambda: "2 of " in told(), 60, "the next image does not come")
    rows = widgets.read_ratings(file)
    assert rows[["group", "node", "rater", "verdict"]].values.tolist() == [["critters", "Tabby-Color", "ann", "no"]]


def test_the_explorer_explains_a_test_image_and_an_uploaded_one(lab, browser, tmp_path):
    address, _ = lab
    run(browser, address, "30_figure4", "//button[contains(., 'your image') and not(@disabled)]")
    text = lambda: browser.find_element("xpath", "//div[contains(@class, 'widget-html')]//pre").text  # noqa: E731
    first = wait(lambda: "over all its paths" in text() and text(), 60, "no explanation")
    pick = Select(browser.find_element("xpath", "//div[contains(@class, 'widget-dropdown')]//select"))
    pick.select_by_index(len(pick.options) - 1)
    second = wait(lambda: text() != first and text(), 60, "another image, the same explanation")
    browser.save_screenshot(str(tmp_path / "explorer.png"))
    # the widget's file input is not in the page: put it there instead of opening the system's dialog
    browser.execute_script(
        "HTMLInputElement.prototype.click = function() { this.id = 'upload'; document.body.appendChild(this); }"
    )

    def upload(file: Path):
        browser.find_element("xpath", "//button[contains(., 'your image')]").click()
        wait(lambda: browser.find_elements("id", "upload"), 60, "no file input")[-1].send_keys(str(file))

    (tmp_path / "broken.jpg").write_bytes(b"no image")
    upload(tmp_path / "broken.jpg")
    html = lambda: browser.find_element("class name", "jp-Notebook").text  # noqa: E731
    wait(lambda: "cannot be read as an image" in html(), 60, "a broken file is not told")
    Image.fromarray(np.random.default_rng(0).integers(255, size=(90, 120, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    upload(tmp_path / "x.png")
    told = lambda: "cannot be read" not in html() and "over all its paths" in text() and text() != second  # noqa: E731
    wait(told, 60, "an upload is not explained")


def test_ratings_on_disk(tmp_path):
    """The rater's last word counts; others' stay; names may hold commas; half a file is never left."""
    file = tmp_path / "new" / "ratings.csv"
    assert widgets.read_ratings(file).empty
    rating = dict(zip(widgets.COLUMNS, ["pet", "Tabby-Color", "a.jpg", "Ann, Dr.", "yes"], strict=True))
    for change in ({}, {"rater": "bob"}, {"verdict": "no"}, {"node": "Point-Color"}):
        widgets.write_rating(file, rating | change)
    kept = widgets.read_ratings(file, "pet", "Tabby-Color")[["rater", "verdict"]].values.tolist()
    assert sorted(kept) == [["Ann, Dr.", "no"], ["bob", "yes"]]
    assert [p.name for p in file.parent.iterdir()] == ["ratings.csv"]
    assert len(pd.read_csv(file)) == 3
    file.write_text("group,node,picture\npet,Tabby-Color,a.jpg\n")
    with pytest.raises(RecordError, match="ratings.csv: no column image, rater, verdict"):
        widgets.read_ratings(file)
