"""Which files belong to a net's code."""

from __future__ import annotations

from pathlib import Path

from net_kit import code

from repo_builder.nets.imports import beside, imports_of


def names(folder: Path) -> list[str]:
    return [str(name) for name in beside(folder / "nets.py", imports_of)]


def test_what_is_imported_from_beside_is_found_through_other_files(tmp_path: Path) -> None:
    code(
        tmp_path,
        "import torch\nimport a, parts.one\nfrom parts import two, NAME\n",
        a="def later():\n    from b import thing\n",
        b="import nets\n",  # a circle
        parts__in____init__="from . import three\n",
        parts__in__one="from .. import a\n",
        parts__in__two="from .deep.four import x\n",
        parts__in__three="from a import *\n",
        parts__in__unused="import other\n",
        other="",
    )
    (tmp_path / "parts" / "deep").mkdir()
    (tmp_path / "parts" / "deep" / "four.py").write_text("x = 1\n")
    assert names(tmp_path) == [
        "a.py",
        "b.py",
        "nets.py",
        "parts/__init__.py",
        "parts/deep/four.py",
        "parts/one.py",
        "parts/three.py",
        "parts/two.py",
    ]


def test_python_s_own_modules_win_and_broken_files_are_left_to_python(tmp_path: Path) -> None:
    code(tmp_path, "import json\nimport broken\n", json="", broken="def (:\n")
    assert names(tmp_path) == ["broken.py", "nets.py"]


def test_a_package_wins_over_a_module_of_its_name(tmp_path: Path) -> None:
    code(tmp_path, "import a\n", a="", a__in____init__="")
    assert names(tmp_path) == ["a/__init__.py", "nets.py"]
