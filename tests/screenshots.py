"""Takes the pictures of the docs: `python -m tests.screenshots OUT FOLDER`, or `make screenshots`.

OUT is what a build made; its report.html is shown light, dark and on a phone, with few colours.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.browser import Browser

_COLOURS = 96
_VIEWS = (
    ("report-light", 1280, 1500, False, "body"),
    ("report-dark", 1280, 1850, True, ".card:nth-of-type(2)"),
    ("report-phone", 390, 1400, False, "body"),
    ("report-phone-card", 390, 1400, False, ".card:nth-of-type(2)"),
)
"""Name, width, height of the picture, dark, and what it begins with."""


def take(browser: Browser, page: Path, folder: Path) -> list[Path]:
    """The pictures of an HTML file, as small PNGs in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, width, height, dark, start in _VIEWS:
        file = folder / f"{name}.png"
        opened = browser.open(page.resolve().as_uri(), width=width, height=900, dark=dark)
        opened.screenshot(file, height, start)
        with Image.open(file) as taken:
            small = taken.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        small.save(file, optimize=True)
        files.append(file)
    return files


if __name__ == "__main__":
    with Browser() as started:
        for made in take(started, Path(sys.argv[1]) / "report.html", Path(sys.argv[2])):
            print(f"{made}: {made.stat().st_size / 1000:.0f} KB")
