"""A fleet's page in a real browser: wide and narrow, light and dark, with axe-core."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.history import opened
from roofprobe.reporting.fleet.fleet_html import to_html

CHROMIUM = runpy.run_path(str(Path(__file__).parents[3] / "tools/screenshots.py"))["CHROMIUM"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here"),
]
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
WIDER_THAN_THE_WINDOW = """() => {
    const room = document.documentElement.clientWidth;
    return [document.documentElement.scrollWidth - room, ...[...document.querySelectorAll("body *")]
        .filter(e => !e.closest(".scroll, svg") && e.getBoundingClientRect().right > room + 1)
        .map(e => e.outerHTML.slice(0, 120))];
}"""
VIOLATIONS = """() => axe.run({exclude: ["svg > *"]}, {resultTypes: ["violations"]}).then(found =>
    found.violations.map(rule =>
        `${rule.id}: ${rule.nodes.length} times, as in ${rule.nodes[0].html}`))"""
CONTRAST = """() => [...document.querySelectorAll(".map td")].map(cell => {
    const style = getComputedStyle(cell);
    return [style.color, style.backgroundColor];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox wants rights that containers do not give; the pages are ours.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, fleet_folder: Path, hostile_folder: Path,
    verdict: FleetVerdict, hostile_verdict: FleetVerdict, refused: tuple[Refused, ...],
) -> dict[str, Path]:  # fmt: skip
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for name, source, judged in (
        ("plain", fleet_folder, verdict), ("hostile", hostile_folder, hostile_verdict)
    ):  # fmt: skip
        with opened(str(source)) as found:
            html = to_html(judged, found.connection, refused)
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(html, encoding="utf-8")
    return paths


@pytest.fixture(params=[(name, *look) for name in ("plain", "hostile") for look in LOOKS],
                ids=lambda param: "-".join(map(str, param)))  # fmt: skip
def view(
    request: pytest.FixtureRequest, browser: Browser, pages: dict[str, Path]
) -> Iterator[tuple[Page, list[str]]]:
    name, width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda asked: said.append(asked.url) if "file:" not in asked.url else None)
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    yield page, said
    page.close()


def test_the_page_is_quiet_fits_its_window_and_is_accessible(
    view: tuple[Page, list[str]],
) -> None:
    page, said = view
    assert page.evaluate(WIDER_THAN_THE_WINDOW) == [0]
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    assert page.evaluate(VIOLATIONS) == []
    assert said == []
    assert page.locator("script").count() == 1
    drawings: Any = page.locator("main svg").evaluate_all(
        "all => all.map(each => [each.getAttribute('aria-label').length, each.clientWidth])"
    )
    assert len(drawings) >= 4
    assert min(length for length, _ in drawings) > 30
    assert min(width for _, width in drawings) >= 200


def test_a_cell_of_the_map_can_be_read_on_its_colour(view: tuple[Page, list[str]]) -> None:
    page, _ = view
    pairs: Any = page.evaluate(CONTRAST)
    told = {tuple(pair) for pair in pairs if pair[1] != "rgba(0, 0, 0, 0)"}
    assert told
    assert [pair for pair in told if contrast(*pair) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours by WCAG 2."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.strip("rgb()").split(", ")]
        red, green, blue = (
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_devices_are_sorted_with_their_reasons(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["plain"].as_uri())
    table = page.get_by_role("region", name="Devices that do not pass")
    device = table.get_by_role("columnheader", name="device").get_by_role("button")
    device.click()
    device.click()
    assert table.locator("tbody th").all_inner_texts() == ["node-05:0", "node-03:1"]
    assert "drift" in table.locator("tr.made").first.inner_text()
    page.close()
