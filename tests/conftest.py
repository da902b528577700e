"""One headless Chromium for all tests that look at pages (Debian: apt-get install chromium chromium-driver), and the
record of a soak."""

import datetime
import json
import os
import platform
import shutil

import pytest
from companion.records import profiles
from selenium import webdriver

from labelaug_core.files.cache import write_files

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A webdriver whose console is kept: `browser.get_log("browser")`. Without Chromium: skipped, under CI failed."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not (chromium and driver):
        reason = "needs chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


SOAK = []


def pytest_runtest_logreport(report):
    if report.when == "call" and "soak" in report.keywords:
        test = report.nodeid.split("::")[1]
        SOAK.append(
            {"test": test, "outcome": report.outcome, "seconds": round(report.duration)} | dict(report.user_properties)
        )


def pytest_sessionfinish():
    """A soak leaves what came out: results/bench/soak.json."""
    if SOAK:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[2], 1)}
        machine |= {"system": platform.system(), "python": platform.python_version()}
        out = {"date": datetime.date.today().isoformat(), "machine": machine, "tests": SOAK}
        path = profiles.OUT / "results" / "bench" / "soak.json"
        write_files({path: (json.dumps(out, indent=1) + "\n").encode()})
