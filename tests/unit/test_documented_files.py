"""The YAML and Python that README and docs show: specs and targets load, programs compile."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documents
import jsonschema
import pytest
import yaml

from repo_builder import targets
from repo_builder.base import document
from repo_builder.base.errors import Problem
from repo_builder.spec import tuning
from repo_builder.spec.load import load
from repo_builder.tune import economics

SCHEMA = json.loads((documents.ROOT / "docs/spec.schema.json").read_text())
KEYS = SCHEMA["$defs"]["Model"]["properties"].keys()
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def shown(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{block.page.name}:{block.line}")
        for page in documents.PAGES
        for block in documents.blocks(page)
        if block.language == language
    ]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    shutil.copytree(documents.ROOT / "model_specs", folder)
    return folder


def complaint(fragment: dict[str, Any]) -> str:
    """Why a part of a spec is none; '' where it is."""
    whole = {"name": "m", "version": "1.0.0", "source": {"onnx": "m.onnx"}, "targets": ["cpu"]}
    try:
        jsonschema.validate({**whole, **fragment}, SCHEMA)
    except jsonschema.ValidationError as wrong:
        return f"{wrong.json_path}: {wrong.message}"
    return ""


@pytest.mark.parametrize("block", shown("yaml"))
def test_yaml_is_what_it_seems(block: documents.Block, examples: Path) -> None:
    content = yaml.safe_load(block.text)
    if isinstance(content, list):  # steps of a workflow
        assert all({"uses", "run"} & step.keys() for step in content)
    elif "extends" in content:
        assert block.title
        (examples / "devices").mkdir(exist_ok=True)
        (examples / "devices" / Path(block.title).name).write_text(block.text)
        assert Path(block.title).stem in targets.load(examples / "devices")
    elif "once" in content:  # costs
        assert economics.figures(document.Document(content, {}))[2] == []
    elif "models" in content:
        (examples / block.title).write_text(block.text)
        problems: list[Problem] = []
        assert tuning.read(examples, problems)
        assert problems == []
        (examples / block.title).unlink()
    elif "name" in content and not block.title:
        path = examples / f"{content['name']}.yaml"
        path.write_text(block.text)
        load([path, examples / "digits.yaml"] if path.stem != "digits" else [path], targets.load())
    else:
        assert not complaint(content)


def fragments() -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of specs that stand in sentences, by their place."""
    for page in documents.PAGES:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for text in _INLINE.findall(line):
                key = re.match(r"([a-z_]+): [{\[]", text)
                pinned = text.startswith("targets: {")  # part of a pins file
                if key and key[1] in KEYS and "..." not in text and not pinned:
                    yield f"{page.name}:{number}: {text}", yaml.safe_load(text)


def test_parts_of_specs_in_sentences_are_such() -> None:
    found = list(fragments())
    assert found
    assert {place: why for place, part in found if (why := complaint(part))} == {}
    assert "int9" in complaint({"optimize": {"precision": "int9"}})


@pytest.mark.parametrize("block", shown("python"))
def test_python_compiles(block: documents.Block) -> None:
    compile(block.text, f"{block.page}:{block.line}", "exec")
