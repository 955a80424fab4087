"""Take pictures of a report's first screen: wide in light and dark, and on a phone.

Run as ``python tools/screenshots.py [REPORT] [OUT]``. REPORT is a report.html or the folder of a
run, by default reports/latest; OUT is a folder, by default docs/images. The Chromium of this
machine draws them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# What a picture is called: width and height of the window, light or dark, pixels per CSS pixel.
PICTURES: dict[str, tuple[int, int, Literal["light", "dark"], float]] = {
    "report-light": (1280, 1100, "light", 1),
    "report-dark": (1280, 1100, "dark", 1),
    "report-phone": (390, 844, "light", 2),
}


def take(browser: Browser, report: Path, out: Path) -> list[Path]:
    """Write the pictures of ``report`` into ``out`` and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (width, height, scheme, scale) in PICTURES.items():
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=scale,
        )
        page.goto(report.resolve().as_uri())
        paths.append(out / f"{name}.png")
        page.screenshot(path=paths[-1])
        page.close()
    return paths


def main() -> None:
    """Take the pictures that the command line asks for."""
    from playwright.sync_api import sync_playwright

    given = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "reports/latest"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs/images"
    report = given / "report.html" if given.is_dir() else given
    if not report.is_file():
        sys.exit(f"There is no report at {report}: run `make probe` first, or name another one.")
    if CHROMIUM is None:
        sys.exit(f"No Chromium was found ({', '.join(NAMES)}): install one.")
    with sync_playwright() as playwright:
        # Chromium's own sandbox wants rights that containers do not give; the page is ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        for path in take(browser, report, out):
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
        browser.close()


if __name__ == "__main__":
    main()
