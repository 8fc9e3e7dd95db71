"""Lint's verdict on mutated repositories against that of genuine Triton.

The whole corpus, and the table in docs/lint-agreement.md, is made by `python -m tests.agreement`.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from repo_builder.base.errors import ServeError
from repo_builder.repository.lint import lint
from tests.agreement.judge import judge
from tests.agreement.mutate import corpus
from tests.agreement.repository import python
from tests.agreement.seeds import HEAD, seeds


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


def test_lint_agrees_on_configs_that_a_name_chooses(tmp_path: Path, triton: StartTriton) -> None:
    broken = HEAD.replace("dims: [4]", "dims: [0]")
    for name, plain, edge in (
        ("both", HEAD, HEAD),
        ("plain", HEAD, broken),
        ("edge", broken, HEAD),
    ):
        python(plain, **{"configs/edge.pbtxt": edge.encode()}).write(tmp_path, f"{name}-")
    refused: set[tuple[str, str]] = set()
    for config_name, file in (("", "config.pbtxt"), ("edge", "configs/edge.pbtxt")):
        server = triton(tmp_path, models=[], config_name=config_name)
        with InferenceServerClient(server.grpc_url) as client:
            for folder in sorted(tmp_path.iterdir()):
                try:
                    client.load_model(folder.name)
                except InferenceServerException:
                    refused.add((folder.name, file))
    assert refused == {("plain-m", "configs/edge.pbtxt"), ("edge-m", "config.pbtxt")}
    errors = [f for f in lint([tmp_path]) if f.severity == "error"]
    assert {(f.model, str(Path(f.file).relative_to(tmp_path / f.model))) for f in errors} == refused


def test_lint_agrees_on_hidden_folders(tmp_path: Path, triton: StartTriton) -> None:
    python(HEAD).write(tmp_path, "good-")
    (tmp_path / ".git").mkdir()
    with pytest.raises(ServeError, match="Poll failed for model directory '.git'") as failure:
        triton(tmp_path)
    shutil.rmtree(Path(str(failure.value).splitlines()[0].rpartition(" ")[2]).parent)
    assert [f.model for f in lint([tmp_path]) if f.severity == "error"] == [".git"]


def test_a_name_that_hides_changes_from_triton(tmp_path: Path, triton: StartTriton) -> None:
    python(HEAD, **{"config.pb": b"notes"}).write(tmp_path, "noted-")
    server = triton(tmp_path)
    assert "Duplicate model config is detected" in server.log.read_text()
    assert "poll-name" in {f.rule for f in lint([tmp_path])}
