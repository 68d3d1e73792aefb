"""The report in a real browser, and what of it can be checked without one."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from fourier_circuits.cli import app
from fourier_circuits.report.gallery import PLATES
from fourier_circuits.report.page import PngError, safe_json, write_pngs, write_report
from fourier_circuits.reproduction import Reproduction, reproduce
from fourier_circuits.training.run import Run, bundled_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: the README says how to get one")
PLOTS = len(PLATES)


@pytest.fixture(scope="module")
def result() -> Reproduction:
    return reproduce(Run.open(bundled_run()))


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert write_report(result, folder) == folder / "index.html"
    return folder


def test_the_folder_is_whole_and_small(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "definitions.html", "index.html", "neurons.js", "plotly.min.js", "report.css", "report.js",
    ]  # fmt: skip
    assert sum(file.stat().st_size for file in folder.iterdir()) < 15e6
    html = (folder / "index.html").read_text()
    assert html.count("plotly.min.js") == 1
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert {link for link in loaded if link.startswith("http")} == {"https://arxiv.org/abs/2301.05217"}
    assert all((folder / link).exists() for link in loaded if not link.startswith(("http", "data:")))


def test_every_claim_and_every_figure_is_there_and_linked(folder, result):
    html = (folder / "index.html").read_text()
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for claim in result.claims:
        assert claim.id in ids
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    assert [plate.id for plate in PLATES] == [id for id in ids if id in {plate.id for plate in PLATES}]
    for number in (2, 3, 4, 6, 7, 9, 10, 11, 12, 13, 14, 15):
        assert f"Figure {number}" in html
    shown = {id for plate in PLATES for id in plate.claims}
    assert shown <= {claim.id for claim in result.claims} and len(shown) >= 20


def test_figures_hold_no_markup_and_no_empty_trace(folder):
    html = (folder / "index.html").read_text()
    blocks = re.findall(r'<script type="application/json" id="(.+?)-data">(.*?)</script>', html)
    assert len(blocks) == PLOTS
    for id, text in blocks:
        figure = json.loads(text)
        assert "<" not in text and figure["data"], id
        assert figure["layout"].get("title", {}).get("text") is None


def test_text_from_names_and_configurations_is_escaped(result, tmp_path):
    evil = "<script>alert(1)</script>"
    run = replace(result.run, path=Path(evil), about={**result.run.about, "engine": evil})
    write_report(replace(result, run=_WithFiles(run, result.run)), tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert evil not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    bad = go.Figure(layout={"title": "x", "height": 90, "margin": {"t": 9}}, data=[{"name": evil}])
    assert "</script" not in safe_json(bad)


class _WithFiles:
    """A run under a strange name, its files where they were."""

    def __init__(self, named: Run, real: Run) -> None:
        self.named, self.real = named, real

    def __getattr__(self, name: str):
        return getattr(self.named if name in ("path", "about", "config") else self.real, name)


# ---------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(400, 800), (1400, 900)], ids=["phone", "desk"])
def page(request, browser, folder) -> Iterator:
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    yield page
    assert problems == []
    page.close()


def draw_all(page) -> None:
    page.evaluate("Promise.all(places.map(draw))")


@needs_chromium
def test_every_plot_is_drawn_on_screen(page):
    draw_all(page)
    drawn = page.evaluate(
        """places.map(place => ({
            id: place.dataset.figure, traces: place.data.length,
            marks: place.querySelectorAll('.point, .js-line, .hm image, .points path, .bars path').length,
            width: place.querySelector('.main-svg').getBoundingClientRect().width,
            room: place.getBoundingClientRect().width }))"""
    )
    assert len(drawn) == PLOTS
    for plot in drawn:
        assert plot["traces"] and plot["marks"], plot
        assert abs(plot["width"] - plot["room"]) < 2, plot


@needs_chromium
def test_nothing_is_wider_than_the_screen(page):
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@needs_chromium
def test_the_slider_moves_the_circles(page):
    draw_all(page)
    place = page.locator("#figure-circles .plot")
    place.scroll_into_view_if_needed()
    before = place.evaluate("place => place.calcdata[0].map(point => point.x)")
    rail = place.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + 2, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(600)
    assert place.evaluate("place => place.layout.sliders[0].active") == 0
    assert place.evaluate("place => place.calcdata[0].map(point => point.x)") != before


@needs_chromium
def test_the_filters_filter(page, result):
    shown = "document.querySelectorAll('#claims tbody tr:not([hidden])').length"
    assert page.evaluate(shown) == len(result.claims)
    page.select_option("#verdict-filter", "differs")
    differing = sum(claim.verdict == "differs" for claim in result.claims)
    assert page.evaluate(shown) == differing
    assert page.text_content("#filter-count") == f"{differing} claims"
    page.select_option("#verdict-filter", "")
    page.select_option("#section-filter", "appendix A")
    assert page.evaluate(shown) == sum("appendix A" in claim.printed.where for claim in result.claims)
    page.fill("#text-filter", "no claim says this")
    assert page.evaluate(shown) == 0


@needs_chromium
def test_pointing_at_a_neuron_shows_its_grid(page):
    draw_all(page)
    place = page.locator("#figure-neurons .plot")
    place.scroll_into_view_if_needed()
    point = place.locator(".point").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_function("document.getElementById('neuron-grid').width === 113")
    assert re.match(r"Neuron \d+, frequency \d+", page.text_content("#neuron-name"))
    colours = page.evaluate(
        "new Set(document.getElementById('neuron-grid').getContext('2d').getImageData(0, 0, 113, 113).data).size"
    )
    assert colours > 10


@needs_chromium
def test_it_can_be_used_with_a_keyboard_and_a_screen_reader(page):
    unlabelled = """[...document.querySelectorAll('[role=img], select, input, nav, [role=region]')].filter(
        e => !(e.getAttribute('aria-label') || (e.labels && e.labels.length))).length"""
    assert page.evaluate(unlabelled) == 0
    assert page.evaluate("[...document.querySelectorAll('th')].every(th => th.hasAttribute('scope'))")
    assert page.evaluate("document.querySelectorAll('table caption').length") == 2
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))


@needs_chromium
def test_pngs(result, tmp_path):
    few = [(plate, plate.draw(result)) for plate in PLATES[:1]]
    write_pngs(few, tmp_path, width=400)
    content = (tmp_path / "figure-2.png").read_bytes()
    assert content[:4] == b"\x89PNG" and int.from_bytes(content[16:20]) == 800


def test_without_a_browser_pngs_are_one_sentence(result, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no browser\n and a stack trace")

    monkeypatch.setattr(go.Figure, "to_image", fails)
    with pytest.raises(PngError, match=r"PNGs need kaleido .* and a Chromium .*: no browser$"):
        write_pngs([(PLATES[0], PLATES[0].draw(result))], tmp_path)
    assert not list(tmp_path.iterdir())


def test_png_needs_a_folder():
    with pytest.raises(ValueError, match="give --out"):
        CliRunner().invoke(app, ["reproduce", "--png"], catch_exceptions=False)
