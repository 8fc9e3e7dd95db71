"""Deltas beside releases: made once, found by digest, from versions that may be used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from test_registry import build

from repo_builder.base.errors import StoreError
from repo_builder.cli import cli
from repo_builder.release import registry
from repo_builder.release.delta import apply
from repo_builder.release.deltas import add, known
from repo_builder.release.folder import Folder
from repo_builder.release.registry import Registry


def _weights(change: float) -> bytes:
    r = np.random.default_rng(0)
    w = r.normal(size=(100, 200)).astype(np.float32)
    w += np.random.default_rng(1).normal(size=w.shape).astype(np.float32) * np.float32(change)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 200])],
        [numpy_helper.from_array(w, "w")],
    )
    return bytes(helper.make_model(graph).SerializeToString())


def _released(tmp_path: Path, root: Path, version: str, change: float, *more: str) -> str:
    made = build(tmp_path / version, version, _weights(change))
    command = ["release", "create", str(made), "--registry", str(root), *more]
    ended = CliRunner().invoke(cli, command)
    assert ended.exit_code == 0, ended.output
    return ended.output


def _model(held: Registry, version: str) -> str:
    files = held.release(f"digits:{version}").targets["cpu"].files
    (sha256,) = (sha for path, (sha, _) in files.items() if path.endswith("model.onnx"))
    return sha256


def test_a_release_has_deltas_from_those_before(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    held = registry.init(root)
    assert "delta" not in _released(tmp_path, root, "1.0.0", 0.0)
    said = _released(tmp_path, root, "1.1.0", 1e-4)
    assert re.search(
        r"cpu \S+model\.onnx: delta from digits:1\.0\.0, [2-5]\d\.\d% of the file", said
    )
    said = _released(tmp_path, root, "1.2.0", 2e-4)
    assert ("from digits:1.1.0" in said, "from digits:1.0.0" in said) == (True, True)
    old, new = _model(held, "1.0.0"), _model(held, "1.2.0")
    found = known(held, new)
    assert found.keys() == {old, _model(held, "1.1.0")}
    assert found[old] is not None
    sha256, size = found[old]
    folder = Folder(root)
    assert folder.blob(sha256).stat().st_size == size
    result = folder.blob(new)
    with (
        folder.blob(sha256).open("rb") as delta,
        folder.blob(old).open("rb") as base,
        (tmp_path / "out").open("w+b") as out,
    ):
        apply(delta, base, out, new, result.stat().st_size)
    assert (tmp_path / "out").read_bytes() == result.read_bytes()
    assert add(held, "digits:1.2.0", 3) == []


def test_only_as_many_as_asked_for_and_none_from_yanked_ones(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    held = registry.init(root)
    for version, change in (("1.0.0", 0.0), ("1.1.0", 1e-4), ("1.2.0", 2e-4)):
        _released(tmp_path, root, version, change, "--deltas", "0")
    held.yank("digits:1.1.0", "wrong labels")
    (made,) = add(held, "digits:1.2.0", 1)
    assert made.base == "digits:1.0.0"


def test_what_is_not_worth_while_is_not_tried_again(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    held = registry.init(root)
    _released(tmp_path, root, "1.0.0", 0.0)
    assert "delta" not in _released(tmp_path, root, "1.1.0", 3.0)
    assert known(held, _model(held, "1.1.0")) == {_model(held, "1.0.0"): None}


def test_a_damaged_index_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    held = registry.init(root)
    _released(tmp_path, root, "1.0.0", 0.0)
    _released(tmp_path, root, "1.1.0", 1e-4)
    result = _model(held, "1.1.0")
    (root / "deltas" / f"{result}.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged; delete it and release again"):
        known(held, result)
