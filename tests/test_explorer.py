"""The explorer in headless Chromium: what it shows is what the model says; mouse, keyboard, 400 px; no request."""

import numpy as np
import pytest
import torch
from companion.explorer import explorer_page
from companion.interpret import explain_split
from companion.records.profiles import ROOT
from helpers import build, ten
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from labelaug_core.data import Split
from labelaug_core.encoders import Identity
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import PathHead
from labelaug_core.training import Classifier, TrainingSettings, predict

N = 12


def untrained(graph, fine: str):
    """(a model with random weights, N samples, their images)."""
    torch.manual_seed(0)
    labels, rng = graph.label_nodes(fine), np.random.default_rng(0)
    make_head = lambda d: PathHead(graph, labels, len(labels), d)  # noqa: E731
    model = Classifier(Identity(8), make_head, TrainingSettings())
    with torch.no_grad():
        model.head.decoder.score.weight.mul_(8)  # probabilities that differ
    x = 3 * rng.normal(size=(N, 8)).astype(np.float32)
    split = Split(x, rng.integers(0, len(labels), N), [f"{i}.png" for i in range(N)])
    return model, split, rng.integers(0, 255, (N, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(model, the samples in the order of the page, the page's file)."""
    model, split, images = untrained(load_graph("critters"), "critters")
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(explorer_page(model, split, images, "critters", seed=3), encoding="utf-8")
    return model, split.take(np.random.default_rng(3).permutation(N)), file


@pytest.fixture(params=[1280, 400])
def page(request, browser, made):
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": request.param < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get(made[2].as_uri())
    yield browser
    errors = [m["message"] for m in browser.get_log("browser") if m["level"] in ("SEVERE", "ERROR")]
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors == [] and [url for url in fetched if not url.startswith("data:")] == [] and width <= request.param


def texts(page, css: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.replaceAll('\\u00a0', ' '))"
    return page.execute_script(script, css)


def node(page, name: str):
    page.execute_script("const all = document.getElementById('all'); if (!all.checked) all.click()")
    return page.find_element(By.XPATH, f"//button[contains(@class, 'node')]/span[text()='{name}']/..")


def percent(p: float) -> str:
    return "100 %" if p > 1 - 1e-6 else "> 99 %" if p >= 0.995 else "< 1 %" if p < 0.005 else f"{p:.0%}"[:-1] + " %"


def close(said: str, p: float) -> bool:
    """Is this the text of p? The page has three digits of each path, so the last digit may be off by one."""
    return said in {percent(min(max(p + e, 0), 1)) for e in (-0.006, 0, 0.006)}


def test_the_page_says_what_the_model_says(page, made):
    model, split, _ = made
    found, tree = predict(model, split), model.head.fine_tree
    for i, e in enumerate(explain_split(model, split)):
        label = tree.labels[found["log_probs"][i].argmax()]
        ways = texts(page, "#ways button")
        assert ways[0].startswith(f"Greedy answer: {e.path[-1]} {'✓' if split.y[i] == found['greedy'][i] else '✗'}")
        assert ways[1].startswith(f"Exact answer: {label} ")
        assert close(ways[1].split("✓ ")[-1].split("✗ ")[-1].split("the")[0], np.exp(found["log_probs"][i].max()))
        for step, said, edge in zip(e.steps, texts(page, "#steps li")[1:], texts(page, "#graph text"), strict=True):
            assert f"{step.question}{step.answer} " in said
            answer, _, other = said.split(f"{step.question}{step.answer} ")[1].partition(" then ")
            answer = answer.removesuffix(" the only answer")
            assert close(answer, step.p) and answer == edge
            assert step.runner_up is None or close(other.removeprefix(f"{step.runner_up} "), step.runner_up_p)
        shown = dict(zip(texts(page, ".node span"), texts(page, ".node b"), strict=True))
        p = np.exp(found["path_log_probs"][i])
        for v, said in shown.items():
            through = sum(x for x, path in zip(p, tree.paths, strict=True) if v in path)
            assert close(said.removeprefix("in truth · "), through), v
        page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)


def test_a_step_gives_the_probabilities_of_what_is_left(page, made):
    model, split, _ = made
    e = explain_split(model, split)[0]
    page.find_element(By.CSS_SELECTOR, "[data-key='step 1']").click()
    assert texts(page, "#given") == [f"The probabilities given {e.path[1]}"]
    assert texts(page, ".node.on b")[1] == "100 %"
    assert page.execute_script("return document.activeElement.dataset.key") == "step 1"


def test_a_node_shows_the_images_whose_path_goes_through_it(page, made):
    model, split, _ = made
    graph, own, some = model.head.fine_tree.graph, explain_split(model, split), 0
    for v in ("Tabby-Color", "Bushy Tail", "Spotted Coat", "dog", "animal"):
        asked = explain_split(model, split, graph.group[v]) if v in graph.group else own
        node(page, v).click()
        both = [
            e if any(graph.group.get(u) == graph.group.get(v) for u in e.path) else a
            for e, a in zip(own, asked, strict=True)
        ]
        images = {f"tile {i}": "" if e.greedy else "asked" for i, e in enumerate(both) if v in e.path}
        there = page.find_elements(By.CSS_SELECTOR, "#tiles button")
        assert {t.get_attribute("data-key"): t.get_attribute("class") for t in there} == images
        some += len(there)
    assert some > N
    last = int(there[-1].get_attribute("data-key").split()[1])
    there[-1].click()
    assert texts(page, "#said")[0].startswith(f"Image {last + 1} of {N}")


def test_keys_change_the_image_and_reach_the_nodes(page):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_LEFT)
    assert texts(page, "#said")[0].startswith(f"Image {N} of {N}")
    for _ in range(40):
        page.switch_to.active_element.send_keys(Keys.TAB)
        focus = page.switch_to.active_element
        if "node" in (focus.get_attribute("class") or ""):
            break
    style = page.execute_script(
        "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]", focus
    )
    assert style == ["solid", "3px"]
    focus.send_keys(Keys.TAB)
    focus = page.switch_to.active_element
    focus.send_keys(Keys.ENTER)
    assert focus.get_attribute("aria-pressed") == "true" and page.switch_to.active_element == focus
    assert texts(page, "#through")[0].startswith(texts(page, ".node[aria-pressed=true] span")[0])


def test_a_name_is_text(browser, tmp_path):
    data, odd = ten(), "</script><b>$x$ & {{ data }}"
    data["groups"]["dog breed"]["nodes"] = [odd]
    model, split, images = untrained(build(data), "fine")
    (tmp_path / "odd.html").write_text(explorer_page(model, split, images, odd), encoding="utf-8")
    browser.get((tmp_path / "odd.html").as_uri())
    assert odd in texts(browser, ".node span") and texts(browser, "p.soft")[0].startswith(odd)


def test_a_label_above_labels_is_an_error():
    data = ten()
    data["labels"]["fine"] = {"nodes": ["cat", "Brit", "Coon", "Pug"]}
    with pytest.raises(ValueError, match="labels without nodes below"):
        explorer_page(*untrained(build(data), "fine"), "ten")


def test_the_committed_page_is_small_and_made_of_drawings():
    page = (ROOT / "figures" / "toy" / "explorer.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_500_000 and page.count("data:image/png") == 60 + 1  # one in the style sheet
    assert "data:image/jpeg" not in page and "http" not in page.replace("http://www.w3.org/", "").replace(
        "http-equiv", ""
    )
