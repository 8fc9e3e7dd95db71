"""Deltas: exact for every kind of file, small where a parser helps, picky about what they get."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta import Header, Made, Place, apply, make, pack, read_header
from repo_builder.release.delta.layout import HEADER, MAGIC
from repo_builder.release.delta.parsers import tensors

Weights = dict[str, np.ndarray]


def weights(seed: int = 0, dtype: str = "float32") -> Weights:
    r = np.random.default_rng(seed)
    shapes = {"a": (64, 32, 3, 3), "b": (64,), "c": (300, 400), "d": (400, 10)}
    return {k: (r.normal(size=s) * 0.05).astype(dtype) for k, s in shapes.items()}


def nudged(before: Weights, by: float = 1e-4) -> Weights:
    r = np.random.default_rng(9)
    return {k: (v + r.normal(size=v.shape) * by).astype(v.dtype) for k, v in before.items()}


def model(path: Path, held: Weights, **external: object) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    onnx.save(helper.make_model(graph), path, **external)  # type: ignore[arg-type]
    return path


def applied(delta: Path | BinaryIO, base: Path, made: Made) -> bytes:
    stream = delta.open("rb") if isinstance(delta, Path) else delta
    with base.open("rb") as old, stream, (base.parent / "result").open("w+b") as file:
        apply(stream, old, file, made.header.digest, made.header.length)
    return (base.parent / "result").read_bytes()


def exact(tmp_path: Path, old: Path, new: Path, **more: object) -> Made:
    made = make(old, new, tmp_path / "delta", worth=9.0, **more)  # type: ignore[arg-type]
    assert made is not None
    assert made.size == (tmp_path / "delta").stat().st_size
    assert applied(tmp_path / "delta", old, made) == new.read_bytes()
    return made


def part(made: Made) -> float:
    return made.size / made.header.length


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.60), ("float16", 0.65)])
def test_nudged_weights_take_little_more_than_what_is_new(
    tmp_path: Path, dtype: str, most: float
) -> None:
    before = weights(dtype=dtype)
    old = model(tmp_path / "old.onnx", before)
    new = model(tmp_path / "new.onnx", nudged(before))
    made = exact(tmp_path, old, new)
    assert made.way == "tensors"
    assert part(made) < most


def test_tensors_are_found_where_they_went(tmp_path: Path) -> None:
    before = weights()
    after = nudged(before)
    moved = {
        "new": np.ones(17, np.float32),
        "d": after["d"],
        "renamed": after["c"],
        "a": np.concatenate([after["a"], np.ones((1, 32, 3, 3), np.float32)]),
        "b": after["b"],
    }
    old, new = model(tmp_path / "old.onnx", before), model(tmp_path / "new.onnx", moved)
    assert part(exact(tmp_path, old, new)) < 0.62


def test_steps_are_recognised(tmp_path: Path) -> None:
    before = weights()
    r = np.random.default_rng(1)
    after = {
        k: v + r.integers(-6, 7, v.shape).astype(np.float32) * np.float32(2.0**-14)
        for k, v in before.items()
    }
    old, new = model(tmp_path / "old.onnx", before), model(tmp_path / "new.onnx", after)
    assert part(exact(tmp_path, old, new)) < 0.13


def test_external_data_by_its_model(tmp_path: Path) -> None:
    before = weights()
    outside = {"save_as_external_data": True, "size_threshold": 0}
    old = model(tmp_path / "old.onnx", before, location="old.data", **outside)
    new = model(
        tmp_path / "new.onnx",
        dict(reversed(nudged(before).items())),
        location="new.data",
        **outside,
    )
    made = exact(tmp_path, tmp_path / "old.data", tmp_path / "new.data", descriptions=(old, new))
    assert (made.way, part(made) < 0.6) == ("tensors", True)


def test_openvino_by_its_description(tmp_path: Path) -> None:
    before, at = weights(), 0
    layers = []
    for name, value in before.items():
        shape = ",".join(map(str, value.shape))
        layers.append(
            f'<layer name="{name}" type="Const"><data element_type="f32" shape="{shape}"'
            f' offset="{at}" size="{value.nbytes}"/></layer>'
        )
        at += value.nbytes
    described = tmp_path / "model.xml"
    described.write_text(f"<net><layers>{''.join(layers)}</layers></net>")
    old, new = tmp_path / "old.bin", tmp_path / "new.bin"
    old.write_bytes(b"".join(v.tobytes() for v in before.values()))
    new.write_bytes(b"".join(v.tobytes() for v in nudged(before).values()))
    made = exact(tmp_path, old, new, descriptions=(described, described))
    assert (made.way, part(made) < 0.6) == ("tensors", True)


def test_buffers_of_tflite_have_the_names_of_their_tensors() -> None:
    flatbuffer = pytest.importorskip("repo_builder.tflite.flatbuffer")
    builder = flatbuffer.Builder()
    builder.constant("weights", np.arange(64, dtype=np.int8).reshape(4, 16))
    builder.constant("bias", np.arange(4, dtype=np.int32))
    content = builder.pack([], [], "")
    found = {t.name: t for t in tensors(content)}
    weights_, bias = found["weights"], found["bias"]
    assert (weights_.type, weights_.shape) == ("i1", (4, 16))
    assert content[weights_.offset : weights_.end] == bytes(range(64))
    assert (bias.type, bias.length) == ("i4", 16)


def _few_integers(content: np.ndarray) -> np.ndarray:
    after = content.copy()
    after[::200] += 1
    return after


def _inserted(content: np.ndarray) -> np.ndarray:
    return np.concatenate([content[:50_000], np.arange(777) % 251, content[50_000:]])


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda c: c, 0.001),
        (_few_integers, 0.01),
        (_inserted, 0.02),
        (lambda c: np.roll(c, 1001), 0.02),
        (lambda c: c[:1000], 1.0),
    ],
)
def test_files_that_no_parser_knows(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], most: float
) -> None:
    content = np.random.default_rng(0).integers(0, 256, 200_000).astype(np.uint8)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(content.tobytes())
    new.write_bytes(change(content).astype(np.uint8).tobytes())
    made = exact(tmp_path, old, new)
    assert made.size <= 200 + most * 200_000


def test_blocks_that_are_sent_amid_others(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    content = r.integers(0, 256, 3 << 20).astype(np.uint8)
    after = content.copy()
    after[::300] += 1
    after[1 << 20 : 2 << 20] += r.integers(0, 200, 1 << 20).astype(np.uint8)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(content.tobytes())
    place = 5 << 19
    new.write_bytes(np.concatenate([after[:place], after[:999], after[place:]]).tobytes())
    assert exact(tmp_path, old, new).size < 1.1 * (1 << 20)


def test_unrelated_weights_are_no_delta_and_whole_files_are_in_planes(tmp_path: Path) -> None:
    old = model(tmp_path / "old.onnx", weights(0))
    new = model(tmp_path / "new.onnx", weights(1))
    assert make(old, new, tmp_path / "delta") is None
    assert not (tmp_path / "delta").exists()
    made = pack(new, tmp_path / "whole")
    assert part(made) < 0.87
    (tmp_path / "empty").touch()
    assert applied(tmp_path / "whole", tmp_path / "empty", made) == new.read_bytes()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, bytes, Made]:
    """A base, a delta from it, and what is known of that."""
    before = weights()
    old = model(tmp_path / "old.onnx", before)
    new = model(tmp_path / "new.onnx", nudged(before))
    made = make(old, new, tmp_path / "delta")
    assert made is not None
    return old, (tmp_path / "delta").read_bytes(), made


def test_a_base_that_is_not_the_base(pair: tuple[Path, bytes, Made]) -> None:
    base, delta, made = pair
    content = base.read_bytes()
    for wrong in (content[:-1] + b"\0", content[:-1], content + b"\0"):
        base.write_bytes(wrong)
        with pytest.raises(DeltaError, match="get the whole file"):
            applied(io.BytesIO(delta), base, made)


def test_another_result_than_wanted(pair: tuple[Path, bytes, Made]) -> None:
    base, delta, made = pair
    wanted = replace(made, header=replace(made.header, digest="0" * 64))
    with pytest.raises(DeltaError, match="wanted is 000000000000"):
        applied(io.BytesIO(delta), base, wanted)


@pytest.mark.parametrize("kept", [0, 5, HEADER, HEADER + 3, -1, -5000])
def test_a_delta_cut_short(pair: tuple[Path, bytes, Made], kept: int) -> None:
    base, delta, made = pair
    with pytest.raises(DeltaError, match="delta ends within"):
        applied(io.BytesIO(delta[:kept]), base, made)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"PK\x03\x04", "does not begin with RBDELTA"),
        (MAGIC[:-1] + b"\x09", "format 9, and this version reads 1"),
        (MAGIC + b"\xff" * 8, "impossible lengths"),
    ],
)
def test_headers(pair: tuple[Path, bytes, Made], head: bytes, message: str) -> None:
    base, delta, made = pair
    with pytest.raises(DeltaError, match=message):
        applied(io.BytesIO(head + delta[len(head) :]), base, made)


def test_one_bit_changed_anywhere_is_noticed(pair: tuple[Path, bytes, Made]) -> None:
    base, delta, made = pair
    for at in np.random.default_rng(0).integers(HEADER, len(delta), 60):
        damaged = bytearray(delta)
        damaged[at] ^= 1 << int(at % 8)
        with pytest.raises(DeltaError):
            applied(io.BytesIO(bytes(damaged)), base, made)


def test_more_after_the_end(pair: tuple[Path, bytes, Made]) -> None:
    base, delta, made = pair
    with pytest.raises(DeltaError, match="goes on after its last block"):
        applied(io.BytesIO(delta + b"\0"), base, made)


class Slow(io.BytesIO):
    """A stream that gives a few bytes at a time, like one from the network."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 1, 1000) if size != -1 else -1)


def test_a_stream_may_give_less_than_is_asked_for(pair: tuple[Path, bytes, Made]) -> None:
    base, delta, made = pair
    assert applied(Slow(delta), base, made) == (base.parent / "new.onnx").read_bytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
from repo_builder.release.delta import apply, read_header
delta, base, out, state = map(Path, sys.argv[1:])
def note(header, place):
    state.write_text(repr((place.block, place.delta, place.result)))
    os.kill(os.getpid(), signal.SIGKILL)
header = read_header(delta.open("rb"))
apply(delta.open("rb"), base.open("rb"), out.open("w+b"), header.digest, header.length, note=note)
"""


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    before = r.normal(size=5_000_000).astype(np.float32)
    after = before + r.normal(size=len(before)).astype(np.float32) * np.float32(1e-3)
    old, new, delta = tmp_path / "old", tmp_path / "new", tmp_path / "delta"
    old.write_bytes(before.tobytes())
    new.write_bytes(after.tobytes())
    made = make(old, new, delta)
    assert made is not None
    files = [str(tmp_path / name) for name in ("delta", "old", "out", "state")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *files], check=False)
    assert killed.returncode == -9
    numbers = (tmp_path / "state").read_text().strip("()").split(",")
    place = Place(*map(int, numbers))
    assert 0 < place.result < made.header.length
    with delta.open("rb") as stream, old.open("rb") as base, (tmp_path / "out").open("r+b") as out:
        header: Header = read_header(stream)
        stream.seek(place.delta)  # as a request for a range would begin
        apply(stream, base, out, header.digest, header.length, done=(header, place))
    assert (tmp_path / "out").read_bytes() == new.read_bytes()
