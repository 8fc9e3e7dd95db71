"""Generated pages are what their generators say; the comparison holds what it claims."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from repo_builder import targets
from repo_builder.targets import page
from repo_builder.targets.advise import read

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark_modules() -> tuple[ModuleType, ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import architectures
        import roofline
    finally:
        sys.path.pop(0)
    return architectures, roofline


def test_targets_page_is_current() -> None:
    """Regenerate with `repo-builder targets page > docs/targets.md`."""
    written = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    assert written == page.page(targets.load().values()).rstrip() + "\n"


def test_roofline_page_is_current(benchmark_modules: tuple[ModuleType, ModuleType]) -> None:
    """Regenerate with `python benchmarks/roofline.py > docs/roofline.md`."""
    _, roofline = benchmark_modules
    assert (ROOT / "docs/roofline.md").read_text(encoding="utf-8") == roofline.page()


def test_most_rows_are_within_the_band(benchmark_modules: tuple[ModuleType, ModuleType]) -> None:
    _, roofline = benchmark_modules
    ratios = [own / row.latency_ms for row, own, _, _ in roofline.compare(roofline.GUIDE)]
    within = [ratio for ratio in ratios if 0.5 <= ratio <= 2]
    assert len(within) >= 7
    assert len(ratios) == 9


@pytest.mark.parametrize(
    ("name", "gmac", "millions"),
    [
        ("resnet50", 4.09, 25.6),
        ("efficientnet_b0", 0.39, 5.3),
        ("yolov8n", 4.35, 3.2),
        # torchvision: 178.72 GMAC at 520 x 520 with the auxiliary head's 9.97
        ("deeplabv3", (178.72 - 9.97) * (512 / 520) ** 2, 39.6),
    ],
)
def test_networks_have_their_published_counts(
    benchmark_modules: tuple[ModuleType, ModuleType],
    tmp_path: Path,
    name: str,
    gmac: float,
    millions: float,
) -> None:
    architectures, _ = benchmark_modules
    work = read(architectures.save(getattr(architectures, name)(), tmp_path, name))
    assert work.macs / 1e9 == pytest.approx(gmac, rel=0.02)
    assert work.weights / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_onnx_packages_resnet50_is_counted_alike() -> None:
    import onnx

    path = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    assert read(path).macs / 1e9 == pytest.approx(4.09, rel=0.01)
