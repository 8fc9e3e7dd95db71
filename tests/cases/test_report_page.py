"""The report as people see it: rendered by a real browser, light, dark, and on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image

from repo_builder.build import report
from tests import reports, screenshots
from tests.browser import CHROMIUM, Browser, Page

LOOK = (Path(__file__).parent / "look.js").read_text()
WIDE, PHONE = 1280, 390


@pytest.fixture(scope="module")
def browser(unavailable: Callable[[str], NoReturn]) -> Iterator[Browser]:
    if CHROMIUM is None:
        unavailable("no chromium; apt-get install chromium")
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    (folder / "cpu.txt").write_text(f"{reports.HOSTILE * 5}\n" * 40)
    report.write(reports.report(folder), folder)
    return (folder / "report.html").as_uri()


def rows(page: Page, card: int = 0) -> list[str]:
    """The targets of a card that are shown, in their order."""
    found = page.run(
        f"[...document.querySelectorAll('.card')[{card}].querySelectorAll('tr[data-target]')]"
        ".filter((row) => row.checkVisibility()).map((row) => row.dataset.target).join()"
    )
    return [name for name in str(found).split(",") if name]


def set_to(page: Page, control: str, value: str) -> None:
    page.run(
        f"(() => {{ const c = document.getElementById({control!r}); c.value = {value!r};"
        " c.dispatchEvent(new Event('input')); })()"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE, 768])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_everything_is_in_view_and_can_be_read(
    browser: Browser, address: str, *, width: int, dark: bool, scripts: bool
) -> None:
    page = browser.open(address, width=width, height=900, dark=dark, scripts=scripts)
    if scripts:
        page.run("for (const e of document.querySelectorAll('details')) e.open = true")
    found = page.run(LOOK)
    assert found.pop("texts") > 150
    assert found == {"overflow": 0, "wide": [], "clipped": [], "faint": []}


def test_pictures_are_taken_and_kept(browser: Browser, address: str, tmp_path: Path) -> None:
    """In the folder that CI names, for people to look at: light, dark, and on a phone."""
    kept = Path(os.environ.get("REPO_BUILDER_PICTURES") or tmp_path)
    files = screenshots.take(browser, Path(address.removeprefix("file://")), kept)
    assert [file.stem for file in files] == [
        "report-light", "report-dark", "report-phone", "report-phone-card",
    ]  # fmt: skip
    for file in files:
        with Image.open(file) as picture:
            assert picture.width == (PHONE if "phone" in file.stem else WIDE)
            assert picture.height > 700
            shades = picture.convert("L").getextrema()
            corner = picture.convert("L").getpixel((1, 1))
        assert shades[1] - shades[0] > 150  # something is on it
        assert isinstance(corner, int)
        assert (corner < 60) == ("dark" in file.stem)


def test_nothing_is_loaded_and_nothing_from_specs_runs(browser: Browser, address: str) -> None:
    page = browser.open(address, width=WIDE, height=900)
    assert page.requests() == [address]
    assert page.complaints() == []
    assert page.run("document.title").startswith("4 of 7 variants")
    assert page.run("document.querySelectorAll('script, img').length") == 1
    assert reports.HOSTILE.split("`")[0] in page.run("document.body.innerText")


def test_a_script_that_is_not_ours_is_refused(browser: Browser, tmp_path: Path) -> None:
    report.write(reports.report(), tmp_path)
    file = tmp_path / "report.html"
    file.write_text(file.read_text() + "<script>document.title = 'taken'</script>")
    page = browser.open(file.as_uri(), width=WIDE, height=900)
    assert page.run("document.title").startswith("4 of 7")
    assert any("Content Security Policy" in text for text in page.complaints())


def test_rows_are_filtered(browser: Browser, address: str) -> None:
    page = browser.open(address, width=WIDE, height=900)
    assert len(rows(page)) == 4
    assert page.run("count.textContent") == "7 shown"
    set_to(page, "words", "OPENVINO parts")
    assert rows(page) == ["cpu-openvino"]
    assert page.run("count.textContent") == "1 of 7 shown"
    assert page.run("document.querySelectorAll('.card')[1].checkVisibility()") is False
    set_to(page, "words", "")
    for state, shown in (
        ("held", ["jetson-orin-nx"]),
        ("new", ["cpu"]),
        ("doubt", ["cpu-openvino"]),
    ):
        set_to(page, "state", state)
        assert rows(page) == shown
    set_to(page, "state", "")
    set_to(page, "target", "tflite-micro")
    assert rows(page) == ["tflite-micro"]


def test_rows_are_sorted_by_figure_with_the_unknown_last(browser: Browser, address: str) -> None:
    page = browser.open(address, width=WIDE, height=900)

    def click(column: str) -> list[str]:
        page.run(
            "[...document.querySelectorAll('.card th button')]"
            f".find((b) => b.textContent === {column!r}).click()"
        )
        return rows(page)

    by_size = ["tflite-micro", "jetson-orin-nx", "cpu", "cpu-openvino"]
    assert click("size") == by_size
    assert click("size") == ["cpu-openvino", "cpu", "tflite-micro", "jetson-orin-nx"]
    assert click("latency")[:2] == ["cpu-openvino", "cpu"]
    assert click("latency")[:2] == ["cpu", "cpu-openvino"]
    assert click("target") == ["cpu", "cpu-openvino", "jetson-orin-nx", "tflite-micro"]
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_without_scripts_all_rows_are_there_and_no_dead_controls(
    browser: Browser, address: str
) -> None:
    page = browser.open(address, width=WIDE, height=900, scripts=False)
    assert len(rows(page)) == 4
    assert page.run("document.querySelectorAll('th button').length") == 0
    assert page.run("document.getElementById('tools').checkVisibility()") is False
