"""The report in a real browser: what only a browser can tell.

Playwright's Python package drives the system's Chromium; no browser is downloaded. Scripts of the
tests are evaluated through the browser's debugging protocol, so the page's policy stays in force.
"""

from __future__ import annotations

import runpy
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from roofprobe.records.schema import Case, Run
from roofprobe.records.summaries import Listed, RunSummary
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.html import to_html
from roofprobe.reporting.pages.run_index import to_index
from roofprobe.reporting.pages.side_by_side import to_comparison

SCREENSHOTS = runpy.run_path(str(Path(__file__).parents[2] / "tools/screenshots.py"))
CHROMIUM = SCREENSHOTS["CHROMIUM"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here"),
]
RUNS = ("example_run", "compute_run", "hostile_run", "hostile_served")
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
LOOKS = {
    "desktop-light": (DESKTOP, "light"),
    "desktop-dark": (DESKTOP, "dark"),
    "phone-light": (PHONE, "light"),
    "phone-dark": (PHONE, "dark"),
}
WIDER_THAN_THE_WINDOW = """() => {
    const room = document.documentElement.clientWidth;
    return [document.documentElement.scrollWidth - room, ...[...document.querySelectorAll("body *")]
        .filter(e => !e.closest(".scroll, svg") && e.getBoundingClientRect().right > room + 1)
        .map(e => e.outerHTML.slice(0, 120))];
}"""
TABLES_THAT_DO_NOT_FIT = """() => [...document.querySelectorAll("table")].filter(table => {
    const box = table.closest(".scroll");
    return !box || table.caption.offsetWidth > box.clientWidth || (
        table.offsetWidth > box.clientWidth
        && !["auto", "scroll"].includes(getComputedStyle(box).overflowX));
}).map(table => table.caption.textContent)"""
DRAWINGS = """() => [...document.querySelectorAll("svg")].map(drawing => {
    const box = drawing.getBoundingClientRect();
    return [drawing.getAttribute("aria-label") ?? "", box.width, box.height];
})"""
SHADE = "() => Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
VIOLATIONS = """rules => axe.run(
    {exclude: ["svg > *"]}, {resultTypes: ["violations"], ...rules && {runOnly: rules}}
).then(found => found.violations.map(rule =>
    `${rule.id}: ${rule.nodes.length} times, as in ${rule.nodes[0].html}`))"""
# What colours and a narrow window can change; all other rules see the same page as before.
DEPEND_ON_THE_LOOK = ["color-contrast", "scrollable-region-focusable", "target-size"]


@dataclass
class View:
    """A report that is open, with all that it said and asked for."""

    page: Page
    said: list[str]
    requested: list[str]


def opened(browser: Browser, path: Path, look: str) -> View:
    """Open a report with all its details unfolded, since what is folded is not laid out."""
    viewport, scheme = LOOKS[look]
    page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    view = View(page, [], [])
    page.on("console", lambda message: view.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: view.said.append(str(error)))
    page.on("dialog", lambda dialog: view.said.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: view.requested.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    return view


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox wants rights that containers do not give; the pages are ours.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def models_run(example_run: Run) -> Run:
    """Return the example with a slow bf16 and products of a language model.

    bf16 is shown in a smaller unit than its neighbours, and the products' table has no first head.
    """
    slow = {"rate": example_run.headlines[1].rate.model_copy(update={"median": 0.5}),
            "datasheet": 0.9}  # fmt: skip
    read = example_run.measurements[9]
    products = tuple(
        read.model_copy(
            update={
                "case": Case(case_id=f"layer-{n}", family="llm", op="gemm", precision="bf16",
                             route="F.linear", shape={"m": 1, "n": n, "k": 64}),
                "latency": read.latency and read.latency.model_copy(update={"median": us}),
            }
        )
        for n, us in ((128, 950.0), (256, 1250.0), (512, 9.5))
    )  # fmt: skip
    return example_run.model_copy(
        update={
            "measurements": (*example_run.measurements, *products),
            "headlines": tuple(
                h.model_copy(update=slow) if h.label == "bf16" else h for h in example_run.headlines
            ),
        }
    )


@pytest.fixture(scope="module")
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = {name: folder / f"{name}.html" for name in (*RUNS, "models_run")}
    for name, path in paths.items():
        found = request.getfixturevalue(name)
        run, beside = found if isinstance(found, tuple) else (found, NOTHING)
        path.write_text(to_html(run, beside), encoding="utf-8")
    return paths


@pytest.fixture(
    scope="module",
    params=[(name, look) for name in RUNS for look in LOOKS],
    ids=lambda param: "-".join(param),
)
def view(
    request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]
) -> Iterator[View]:
    name, look = request.param
    found = opened(browser, files[name], look)
    yield found
    found.page.close()


def test_the_console_stays_silent_and_nothing_else_is_loaded(view: View) -> None:
    assert view.said == []
    assert view.requested == [view.page.url]
    assert view.page.url.startswith("file://")


def test_the_page_never_scrolls_sideways_and_tables_scroll_below_a_caption_that_fits(
    view: View,
) -> None:
    assert view.page.evaluate(WIDER_THAN_THE_WINDOW) == [0]
    assert view.page.evaluate(TABLES_THAT_DO_NOT_FIT) == []


def test_every_figure_has_a_name_and_a_size(view: View) -> None:
    drawings = view.page.evaluate(DRAWINGS)
    assert len(drawings) == view.page.get_by_role("img").count() >= 6
    for name, width, height in drawings:
        assert len(name) > 20
        assert width > 250
        assert height > 50


def test_the_page_follows_the_readers_light_or_dark(
    view: View, request: pytest.FixtureRequest
) -> None:
    shade: Any = view.page.evaluate(SHADE)
    assert shade < 40 if "-dark]" in request.node.name else shade > 240


@pytest.mark.parametrize(
    ("look", "rules"), [("desktop-light", None), ("phone-dark", DEPEND_ON_THE_LOOK)]
)
@pytest.mark.parametrize("name", [*RUNS, "models_run"])
def test_axe_finds_nothing_against_accessibility(
    name: str, look: str, rules: list[str] | None, browser: Browser, files: dict[str, Path]
) -> None:
    page = opened(browser, files[name], look).page
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    assert page.evaluate(VIOLATIONS, rules) == []
    page.close()


def test_hostile_names_are_text_and_nothing_of_them_runs(
    browser: Browser, files: dict[str, Path]
) -> None:
    view = opened(browser, files["hostile_run"], "desktop-light")
    assert view.said == []
    assert "<script>alert(1)</script>" in view.page.locator("section > h2").nth(1).inner_text()
    assert "<script>alert(1)</script>" in view.page.title()
    assert view.page.locator("img, iframe, object, embed, link").count() == 0
    assert view.page.locator("script").count() == 1  # the page's own
    view.page.close()


def column(page: Page, region: str, number: int) -> list[str]:
    """Return what a column of a table shows, each cell up to its first line break."""
    cells = page.get_by_role("region", name=region).locator(
        f"tbody tr:not(.made, .group) > :nth-child({number})"
    )
    return [text.split("\n")[0].strip() for text in cells.all_inner_texts()]


def test_a_press_on_a_columns_head_sorts_and_another_turns_it_round(
    browser: Browser, files: dict[str, Path]
) -> None:
    view = opened(browser, files["example_run"], "desktop-light")
    region = "Compute on Example GPU (cuda:0)"
    table = view.page.get_by_role("region", name=region)
    as_written = ["fp64 tensor", "bf16", "fp8 fast accum", "int8"]
    assert column(view.page, region, 1) == as_written
    assert table.locator("th[aria-sort]").count() == 0

    burst = table.get_by_role("columnheader", name="burst")
    burst.get_by_role("button").click()
    assert burst.get_attribute("aria-sort") == "ascending"
    # by number, not by letter, and what is unknown is last
    assert column(view.page, region, 2) == ["800 TFLOPS", "1234 TOPS", "1500 TFLOPS", "–"]
    assert column(view.page, region, 1) == ["bf16", "int8", "fp8 fast accum", "fp64 tensor"]
    # the second line of an entry stays with its first
    made = table.locator("tr.made code:first-child").all_inner_texts()
    assert made == ["torch.mm", "torch._int_mm", "torch._scaled_mm", "torch.mm"]

    burst.get_by_role("button").click()
    assert burst.get_attribute("aria-sort") == "descending"
    assert column(view.page, region, 2) == ["1500 TFLOPS", "1234 TOPS", "800 TFLOPS", "–"]

    row = table.get_by_role("columnheader", name="row")
    row.get_by_role("button").focus()
    view.page.keyboard.press("Enter")
    assert row.get_attribute("aria-sort") == "ascending"
    assert burst.get_attribute("aria-sort") is None
    assert column(view.page, region, 1) == ["bf16", "fp8 fast accum", "fp64 tensor", "int8"]
    assert view.said == []
    view.page.close()


def test_sorting_knows_the_prefix_of_a_unit_and_keeps_groups_apart(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = opened(browser, files["example_run"], "phone-light").page
    region = "All measurements on Example GPU (cuda:0)"
    latency = page.get_by_role("region", name=region).get_by_role("columnheader", name="latency")
    latency.get_by_role("button").click()
    shown = [text for text in column(page, region, 8) if text != "–"]
    assert shown == sorted(
        shown, key=lambda text: float(text.split()[0]) * {"µs": 1, "ms": 1e3}[text.split()[1]]
    )
    assert {text.split()[1] for text in shown} == {"µs", "ms"}
    page.close()

    page = opened(browser, files["compute_run"], "desktop-dark").page
    routes = page.get_by_role("region", name="Routes on Example GPU (cuda:0)")
    before = [body.split("\n")[0] for body in routes.locator("tbody").all_inner_texts()]
    routes.get_by_role("columnheader", name="burst").get_by_role("button").click()
    bodies = [body.split("\n") for body in routes.locator("tbody").all_inner_texts()]
    assert [lines[0] for lines in bodies] == before
    assert [bodies[0][1], column(page, "Routes on Example GPU (cuda:0)", 2)[0]] == [
        "triton",
        "660 TFLOPS",
    ]  # the slowest of its group is first now
    page.close()


def test_a_peak_without_its_unit_is_sorted_in_the_unit_of_its_row(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = opened(browser, files["models_run"], "desktop-light").page
    region = "Compute on Example GPU (cuda:0)"
    page.get_by_role("region", name=region).get_by_role("button", name="datasheet").click()
    assert column(page, region, 1) == ["bf16", "fp64 tensor", "fp8 fast accum", "int8"]
    assert column(page, region, 2)[0] == "500 GFLOPS"
    assert column(page, region, 5) == ["900", "100", "2000", "2000"]
    page.close()


def test_cells_of_a_time_and_a_rate_sort_by_the_time(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = opened(browser, files["models_run"], "desktop-light").page
    region = "Layers on Example GPU (cuda:0)"
    table = page.get_by_role("region", name=region)
    assert table.get_by_role("columnheader").all_inner_texts() == ["case", "m=1 GB/s"]
    table.get_by_role("button", name="m=1 GB/s").click()
    assert [text.split()[0] for text in column(page, region, 2)] == ["9.50µs", "950µs", "1.25ms"]
    page.close()


def test_without_script_the_tables_read_as_they_are(
    browser: Browser, files: dict[str, Path]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["example_run"].as_uri())
    assert page.get_by_role("button").count() == 0
    assert page.get_by_role("columnheader", name="burst").first.is_visible()
    context.close()


@pytest.mark.parametrize("name", RUNS)
def test_it_prints_dark_on_white_with_every_table_whole(
    name: str, browser: Browser, files: dict[str, Path]
) -> None:
    page = opened(browser, files[name], "desktop-dark").page
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 between Chromium's margins
    page.emulate_media(media="print")
    assert page.evaluate(SHADE) > 240
    assert page.evaluate(
        "() => [...document.querySelectorAll('.scroll')].filter(box => "
        "getComputedStyle(box).overflowX !== 'visible' || box.scrollWidth > box.clientWidth"
        ").map(box => box.getAttribute('aria-label'))"
    ) == []  # fmt: skip
    assert page.evaluate(WIDER_THAN_THE_WINDOW) == [0]
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_paper_has_the_parts_that_are_folded_on_a_screen_and_cuts_no_figure(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = browser.new_page()
    page.goto(files["compute_run"].as_uri())
    folded = page.locator("details.part > div")
    assert folded.count() >= 6
    assert page.locator("details[open]").count() == 0
    assert not folded.first.is_visible()
    page.emulate_media(media="print")
    heights = folded.evaluate_all("found => found.map(e => e.getBoundingClientRect().height)")
    assert min(heights) > 20
    assert page.locator("nav.contents").first.is_hidden()
    assert page.evaluate(
        "() => [...document.querySelectorAll('figure, tr, .verdict')].filter("
        "e => getComputedStyle(e).breakInside !== 'avoid').length"
    ) == 0  # fmt: skip
    page.close()


def test_a_link_of_the_contents_opens_the_fold_that_it_leads_to_by_keyboard(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = browser.new_page()
    page.goto(files["compute_run"].as_uri())
    link = page.get_by_role("navigation", name="Parts of Example GPU (cuda:0)").get_by_role(
        "link", name="Routes"
    )
    link.focus()
    page.keyboard.press("Enter")
    part = page.locator("#d0-routes")
    assert part.is_visible()
    assert part.evaluate("e => e.getBoundingClientRect().top") < 700
    page.close()


def test_a_mark_in_a_figure_can_be_pointed_at_through_the_number_on_it(
    browser: Browser, files: dict[str, Path]
) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(files["compute_run"].as_uri())
    hit = page.evaluate(
        """() => {
            const title = [...document.querySelectorAll("svg title")].find(
                e => e.textContent.startsWith("4096x4096x4096:"));
            const cell = title.parentNode;
            cell.scrollIntoView({block: "center"});
            const box = cell.getBoundingClientRect();
            const at = document.elementFromPoint(
                box.x + box.width / 2, box.y + box.height / 2);
            return at.closest("g").querySelector("title")?.textContent ?? "";
        }"""
    )
    assert hit.startswith("4096x4096x4096:")
    page.close()


def test_pictures_of_the_first_screen_are_as_large_as_they_say_and_small_files(
    browser: Browser, files: dict[str, Path], tmp_path: Path
) -> None:
    paths = SCREENSHOTS["take"](browser, files["compute_run"], tmp_path / "images")
    assert [path.name for path in paths] == [
        "report-light.png",
        "report-dark.png",
        "report-phone.png",
    ]
    for path, (width, height, _, scale) in zip(
        paths, SCREENSHOTS["PICTURES"].values(), strict=True
    ):
        picture = path.read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24]) == (width * scale, height * scale)
        assert len(picture) < 250_000


@pytest.fixture(scope="module")
def many(
    example_run: Run, hostile_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Give pages of several runs: side by side, and the index of a folder."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {"20000102T000000Z-a": example_run, "20000101T000000Z-a": example_run,
            "20000103T000000Z-<i>": hostile_run}  # fmt: skip
    found = [
        Listed(folder / name, RunSummary.model_validate_json(run.model_dump_json()), None, True)
        for name, run in runs.items()
    ]
    found.append(Listed(folder / "broken", None, "it <b>is</b> damaged", False))
    pages = {
        "index": to_index(found, "runs"),
        "comparison": to_comparison([example_run, hostile_run, example_run], "probe compare a b"),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["index", "comparison"])
def test_a_page_of_several_runs_fits_and_nothing_speaks_against_it(
    name: str, look: str, browser: Browser, many: dict[str, Path]
) -> None:
    view = opened(browser, many[name], look)
    assert view.said == []
    assert view.requested == [view.page.url]
    assert view.page.evaluate(WIDER_THAN_THE_WINDOW) == [0]
    assert view.page.evaluate(TABLES_THAT_DO_NOT_FIT) == []
    view.page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    rules = None if look == "desktop-light" else DEPEND_ON_THE_LOOK
    assert view.page.evaluate(VIOLATIONS, rules) == []
    view.page.close()


def test_runs_are_filtered_by_choice_and_by_words_and_all_there_without_script(
    browser: Browser, many: dict[str, Path]
) -> None:
    page = opened(browser, many["index"], "desktop-light").page
    rows = page.locator(".runs tbody tr:visible")
    assert rows.count() == 4
    page.get_by_label("verdict").select_option("unread")
    assert rows.all_inner_texts()[0].count("it <b>is</b> damaged") == 1
    assert page.locator("output").inner_text() == "1 of 4 runs"
    page.get_by_label("verdict").select_option("")
    page.get_by_label("text").fill("example-host 20000101")
    assert rows.count() == 1
    page.close()

    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(many["index"].as_uri())
    assert page.locator(".runs tbody tr:visible").count() == 4
    assert not page.get_by_label("verdict").is_visible()
    context.close()


@pytest.mark.parametrize("width", [1000, 1200, 390])
def test_verdicts_stay_whole_words_and_reasons_in_view(
    width: int, browser: Browser, many: dict[str, Path]
) -> None:
    page = browser.new_page(viewport=ViewportSize(width=width, height=900))
    page.goto(many["index"].as_uri())
    heights = page.evaluate(
        "[...document.querySelectorAll('td.judged .word')].map(w => w.getClientRects().length)"
    )
    assert heights == [1, 1, 1]
    right = page.evaluate("() => document.querySelector('.problem').getBoundingClientRect().right")
    assert right <= width
    page.close()
