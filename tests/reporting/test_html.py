import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.html import _layout, to_html
from roofprobe.reporting.pages.shell import told

VOID = {"meta", "br", "hr", "img", "link", "input"}
RUNS = [
    "example_run",
    "compute_run",
    "incomplete_run",
    "empty_run",
    "hostile_run",
    "hostile_compute_run",
]


@dataclass
class Page:
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)
    unclosed: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


class Reader(HTMLParser):
    """Reads a page and insists that every tag is closed by its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.page.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.page.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.page.unclosed:
            name = self.page.unclosed[-1]
            self.page.text[name] = self.page.text.get(name, "") + data


def parse(html: str) -> Page:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.page.unclosed == []
    return reader.page


@pytest.fixture(scope="module")
def pages(request: pytest.FixtureRequest) -> dict[str, str]:
    return {name: to_html(request.getfixturevalue(name)) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_the_page_is_well_formed_small_and_self_contained(name: str, pages: dict[str, str]) -> None:
    html = pages[name]
    page = parse(html)
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) < 1_500_000
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "img", "iframe", "object"})
    assert page.all("script") == [{}]  # the page's own, not a file
    for _, attributes in page.tags:
        assert "style" not in attributes
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in ("src", "href", "xlink:href", "action"):
                assert str(value).startswith("#")
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")
    assert "@import" not in html


@pytest.mark.parametrize("name", RUNS)
def test_the_policy_allows_the_pages_own_style_sheet_and_script_and_nothing_else(
    name: str, pages: dict[str, str]
) -> None:
    page = parse(pages[name])
    (policy,) = [
        str(meta["content"])
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    hashes = {
        name: base64.b64encode(hashlib.sha256(page.text[name].encode()).digest()).decode()
        for name in ("style", "script")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("name", ["example_run", "compute_run"])
def test_ids_are_unique_and_every_reference_has_its_target(
    name: str, pages: dict[str, str]
) -> None:
    html = pages[name]
    ids = [attributes["id"] for _, attributes in parse(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(map(str, ids))


def test_every_figure_has_a_label_a_title_and_its_sentence(pages: dict[str, str]) -> None:
    page = parse(pages["example_run"])
    drawings = page.all("svg")
    assert len(drawings) == len(page.all("figure")) == len(page.all("figcaption")) == 8
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert drawings[0]["aria-label"] == (
        "Rate per row. Bar chart. fp64 tensor: 50.0 TFLOPS settled, 50% of datasheet; "
        "bf16: 800 TFLOPS burst, 80% of datasheet; fp8 fast accum: 1500 TFLOPS burst, 75% of "
        "datasheet; int8: 1234 TOPS burst, 62% of datasheet."
    )
    assert "bf16 comes nearest to its datasheet peak (80%)" in pages["example_run"]
    assert "No peak is known here, so the bars stand alone" in pages["example_run"]


@pytest.mark.parametrize(
    ("n_compute", "n_memory", "layout"),
    [(3, 2, "roofline-alone"), (9, 3, "compute-alone"), (9, 15, "memory-alone")],
)
def test_the_tallest_figure_stands_alone_beside_the_other_two(
    n_compute: int, n_memory: int, layout: str
) -> None:
    assert _layout(n_compute, n_memory) == layout


def test_each_part_of_the_compute_result_has_its_figure_and_its_table(
    pages: dict[str, str],
) -> None:
    html = pages["compute_run"]
    page = parse(html)
    labels = [str(drawing["aria-label"]) for drawing in page.all("svg")]
    starts = [
        "Rate per row", "Where the gap goes", "What is kept after seconds",
        "BF16: share of the peak by shape", "FP8, fast sums: share of the peak",
        "Rate by data pattern", "Clock by data pattern", "Power by data pattern",
        "Clock, power and temperature while it ran", "Search for the best shape of bf16",
        "Rate per row", "Where the gap goes",
        "FP32 (IEEE): share of the peak", "Search for the best shape of fp32",
    ]  # fmt: skip
    assert len(labels) == len(starts) == len(page.all("figcaption"))
    assert all(label.startswith(start) for label, start in zip(labels, starts, strict=True))
    for caption in (
        "The factors multiply to the share", "Every route of a row in bursts",
        "The same product of other data",
        "M downwards", "Layouts, in bursts", "Alignment, in bursts", "first to the last tenth",
        "their looks are below", "Every row of the result", "Which device does which row",
    ):  # fmt: skip
        assert caption in page.text["caption"]
    assert html.count('tone-warn">fallback') == 1  # beside the figure: int8 has one route only
    assert "Integer products ran on the ordinary pipe." in html
    assert "J per T" in html


def test_a_processor_has_no_empty_columns(pages: dict[str, str]) -> None:
    cpu = pages["compute_run"].split("<h2>Example CPU (cpu)</h2>")[1].split("</table>")[0]
    assert "% of pipe" in cpu
    for head in ("datasheet", "settled", "% at clock", "J per T"):
        assert f">{head}<" not in cpu


@pytest.mark.parametrize("name", ["example_run", "compute_run"])
def test_every_table_has_a_caption_and_scoped_heads(name: str, pages: dict[str, str]) -> None:
    page = parse(pages[name])
    assert len(page.all("table")) == len(page.all("caption")) > 6
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))


@pytest.mark.parametrize("name", ["example_run", "compute_run"])
def test_figures_follow_the_pages_colours(name: str, pages: dict[str, str]) -> None:
    html = pages[name]
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"#[0-9a-f]{6}", drawings)
    rules = re.findall(r"figure \.v\d+ \{(.*?)\}", html)
    assert rules
    assert not [rule for rule in rules if re.search(r"#[0-9a-f]{6}", rule)]


def test_the_verdict_comes_first_and_a_device_without_results_says_so(
    pages: dict[str, str],
) -> None:
    html = pages["incomplete_run"]
    assert html.index("Verdict:") < html.index("<h2>Example GPU (cuda:0)</h2>")
    assert "Nothing was measured on this device (1 case: 1 skipped)." in html
    assert "The run did not come to its end: results are partial." in html
    assert "worker-died" in html
    assert "No roofline: it needs" in html
    assert "No device was found, so nothing was measured." in pages["empty_run"]


def test_what_does_not_pass_is_shown_first_and_the_rest_folded_away(judged_run: Run) -> None:
    html = to_html(judged_run)
    verdict = html.split('aria-label="Verdict"')[1].split("</section>")[0]
    shown, *folds = verdict.split("<details>")
    assert re.findall(r"<code>(RP-[A-Z-]+)</code>", shown) == [
        "RP-COMPUTE", "RP-INVALID", "RP-BANDWIDTH",
    ]  # fmt: skip
    assert "30% of the derived peak, bound 35% (a share of the datasheet" in shown
    assert folds[0].startswith("<summary>What passed (3: 2 integrity, 1 absolute)</summary>")
    assert folds[1].startswith("<summary>What is not told here (1)</summary>")
    assert "RP-EXAMPLE-LOG" in folds[1]


@pytest.mark.parametrize("name", ["hostile_run", "hostile_compute_run"])
def test_hostile_text_is_shown_as_text(name: str, pages: dict[str, str]) -> None:
    html = pages[name]
    assert html.count("<script") == 1
    assert parse(html).all("script") == [{}]
    assert "alert(1)" not in parse(html).text["script"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_commands_in_a_remedy_are_code_and_all_else_is_text() -> None:
    assert told("It is <b>.", "run `probe all --out <dir>`") == (
        "It is &lt;b&gt;. Run <code>probe all --out &lt;dir&gt;</code>."
    )
    assert told("A lone ` is text", None) == "A lone ` is text."
    assert told("", None) == ""


def test_the_same_run_gives_the_same_bytes(example_run: Run, pages: dict[str, str]) -> None:
    assert to_html(example_run) == pages["example_run"]


@pytest.mark.parametrize("name", RUNS)
def test_contents_lead_to_every_part_of_the_page_and_of_each_device(
    name: str, pages: dict[str, str], request: pytest.FixtureRequest
) -> None:
    html = pages[name]
    page = parse(html)
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    targets = [str(link["href"]).removeprefix("#") for link in page.all("a")]
    assert len(targets) == len(set(targets))
    assert set(targets) <= set(ids)
    run: Run = request.getfixturevalue(name)
    assert len(page.all("nav")) == 1 + len(run.devices)
    heads = [attributes for tag, attributes in page.tags if tag in ("h2", "h3")]
    events = 1 if run.events else 0  # below the conditions, not a part of its own
    assert len(targets) == len(heads) - 1 - events  # the verdict needs no link: it is first


def test_what_is_looked_up_is_folded_and_what_is_read_is_not(pages: dict[str, str]) -> None:
    html = pages["compute_run"]
    folded = re.findall(r'<details class="part"><summary><h3>([^<]+)</h3>', html)
    assert folded == [
        "Skipped", "Routes", "Layouts", "Alignment", "Over time", "Searches for the best shape",
        "Support", "Skipped", "Routes", "Searches for the best shape", "Support",
    ]  # fmt: skip
    opened = re.findall(r'<h3 id="d0-[^"]+">([^<]+)</h3>', html)
    assert opened == [
        "Compute", "Memory", "Where the gap goes", "Burst against settled", "What fits",
        "Efficiency over shapes", "Data patterns", "Notes",
    ]  # fmt: skip
