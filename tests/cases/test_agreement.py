"""Lint's verdict on mutated repositories against that of genuine Triton.

The whole corpus, and the table in docs/lint-agreement.md, is made by `python -m tests.agreement`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests.agreement.judge import judge
from tests.agreement.mutate import corpus
from tests.agreement.seeds import seeds


def test_lint_agrees_with_triton(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> None:
    for package in ("pytriton", "openvino"):
        if importlib.util.find_spec(package) is None:
            unavailable(f"the package {package} is not installed")
    verdicts = judge(corpus(seeds(), 60, seed=1), tmp_path)
    differ = [
        f"{v.case.seed}: {v.case.what}: Triton: {v.reason or 'accepts'}; "
        f"lint: {[str(f) for f in v.findings] or 'accepts'}"
        for v in verdicts
        if v.missed or v.wrongly_refused
    ]
    assert differ == []
    assert {v.lint_refuses for v in verdicts} == {True, False}
    assert [v.reason for v in verdicts if v.case.what == "as it is"] == [""] * len(seeds())
