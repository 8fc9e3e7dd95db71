"""Pins: what files hold, remembered while they stay the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from repo_builder.base import digest
from repo_builder.base.errors import ModelError
from repo_builder.plan import Declaration
from repo_builder.run.pin import pin
from repo_builder.run.store import Store
from repo_builder.spec.types import (
    Calibration,
    Evaluation,
    Gates,
    OnnxSource,
    Optimize,
    Serving,
    Spec,
    Version,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def spec(folder: Path) -> Spec:
    return Spec(
        "m", Version(1, 0, 0), "cpu", OnnxSource(folder / "m.onnx"), folder / "m.yaml",
        Calibration(folder / "c.npz", 1), Evaluation(folder / "e.npz", "mse", {}, {}),
        Optimize(), Gates(), Serving(), None,
    )  # fmt: skip


def model_with_external_data(folder: Path, *locations: str) -> None:
    weights = []
    for n, location in enumerate(locations):
        tensor = numpy_helper.from_array(np.ones(4, np.float32), f"w{n}")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        weights.append(tensor)
    graph = helper.make_graph([], "g", [], [], initializer=weights)
    (folder / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_with_external_data(tmp_path, "weights.bin", "sub/more.bin", "absent.bin", "../out.bin")
    (tmp_path / "sub").mkdir()
    for name in ("c.npz", "e.npz", "weights.bin", "sub/more.bin"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path.parent / "out.bin").write_bytes(b"secret")
    return tmp_path


def test_a_model_is_pinned_with_its_external_data_inside_its_folder(
    folder: Path, store: Store
) -> None:
    found = pin([spec(folder)], {}, store)
    model = found.files[OnnxSource(folder / "m.onnx")]
    assert set(model) == {"model.onnx", "weights.bin", "sub/more.bin"}
    assert model["sub/more.bin"] == (folder / "sub/more.bin", digest.of_bytes(b"sub/more.bin"))
    assert found.files[folder / "c.npz"]["calibration.npz"][1] == digest.of_bytes(b"c.npz")
    assert found.files[folder / "e.npz"]["evaluation.npz"][1] == digest.of_bytes(b"e.npz")


def test_tools_are_pinned_to_their_versions(folder: Path, store: Store) -> None:
    declared = {"x": Declaration("x", 1, ("onnx", "no-such-distribution"))}
    found = pin([spec(folder)], declared, store)
    assert found.tools == {"no-such-distribution": None, "onnx": onnx.__version__}


def age(folder: Path) -> None:
    """Wait until the files' times are too old to be doubted."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*") if path.is_file())
    while time.time_ns() - newest <= 2_000_000_000:
        time.sleep(0.05)


def test_what_did_not_change_is_not_read_again(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(folder)
    first = pin([spec(folder)], {}, store)
    read: list[Path] = []
    of_file = digest.of_file
    monkeypatch.setattr(
        digest, "of_file", lambda path, *more: read.append(path) or of_file(path, *more)
    )
    assert pin([spec(folder)], {}, store) == first
    assert read == []
    stamp = (folder / "c.npz").stat()
    (folder / "c.npz").write_bytes(b"C.npz")
    os.utime(folder / "c.npz", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same time
    second = pin([spec(folder)], {}, store)
    assert read == [folder / "c.npz"]
    assert second.files[folder / "c.npz"]["calibration.npz"][1] == digest.of_bytes(b"C.npz")


def test_a_file_that_was_just_written_is_read_again(folder: Path, store: Store) -> None:
    """The clock's grain is coarse: a second write may leave every stamp as it was."""
    pin([spec(folder)], {}, store)
    for n in range(20):
        content = f"{n:05}".encode()
        (folder / "c.npz").write_bytes(content)
        found = pin([spec(folder)], {}, store)
        assert found.files[folder / "c.npz"]["calibration.npz"][1] == digest.of_bytes(content)


def test_a_file_that_is_gone_is_one_line(folder: Path, store: Store) -> None:
    (folder / "m.onnx").unlink()
    with pytest.raises(ModelError, match="m.onnx: No such file or directory"):
        pin([spec(folder)], {}, store)


@pytest.mark.parametrize("memory", [b"", b"{", b"[]", b'{"x": 1}', b"\xff"])
def test_a_damaged_memory_is_forgotten(folder: Path, store: Store, memory: bytes) -> None:
    first = pin([spec(folder)], {}, store)
    (store.root / "pins.json").write_bytes(memory)
    assert pin([spec(folder)], {}, store) == first


def test_what_is_no_model_is_pinned_all_the_same(folder: Path, store: Store) -> None:
    (folder / "m.onnx").write_bytes(b"no model")
    found = pin([spec(folder)], {}, store)
    assert set(found.files[OnnxSource(folder / "m.onnx")]) == {"model.onnx"}
