"""Deltas: exact for any bytes, and whatever a delta holds, it is applied right or refused."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta import Header, apply, coding, make, numbers
from repo_builder.release.delta.layout import BODY, Cursor, Kind, Segment, number, pack_table
from repo_builder.release.delta.zstd import stream

ADDS = [Kind.ADD_I1, Kind.ADD_I2, Kind.ADD_I4, Kind.ADD_F2, Kind.ADD_F4]
BASE = np.random.default_rng(0).normal(size=2000).astype(np.float32).tobytes()


@given(st.sampled_from(ADDS), st.data())
def test_sums_undo_differences_of_any_bits(kind: Kind, data: st.DataObject) -> None:
    size = 4 * data.draw(st.integers(0, 20))
    old, new = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    a, b = numbers.unsigned(old, kind), numbers.unsigned(new, kind)
    assert numbers.sums(a, numbers.differences(a, b, kind), kind).tobytes() == new


@given(
    st.sampled_from([1, 2, 4]),
    st.lists(st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=900),
    st.booleans(),
)
def test_arrays_survive_their_coding(width: int, values: list[int], grouped: bool) -> None:
    array = np.array(values, np.uint64).astype(f"<u{width}")
    groups = (np.arange(len(array)) * 7 % 5).astype(np.uint8) if grouped else None
    body = Cursor(coding.encoded(array, groups))
    np.testing.assert_array_equal(
        coding.decoded(body, len(array), width, lambda: groups, "it"), array
    )
    body.end()


def _apply(folder: Path, delta: bytes, length: int, digest: str) -> bytes:
    (folder / "base").write_bytes(BASE)
    (folder / "delta").write_bytes(delta)
    with (
        (folder / "delta").open("rb") as stream_,
        (folder / "base").open("rb") as base,
        (folder / "out").open("w+b") as out,
    ):
        apply(stream_, base, out, digest, length)
    return (folder / "out").read_bytes()


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=3000), st.data())
def test_any_two_files(new: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(BASE)))
    wanted = BASE[start : start + 4000] + new
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base").write_bytes(BASE)
        (folder / "new").write_bytes(wanted)
        made = make(folder / "base", folder / "new", folder / "made", worth=1e9)
        assert made is not None
        content = (folder / "made").read_bytes()
        assert _apply(folder, content, len(wanted), made.header.digest) == wanted


def _delta(bodies: list[bytes], length: int) -> bytes:
    digest = hashlib.sha256(BASE).hexdigest()
    head = Header(len(BASE), digest, length, "0" * 64, len(bodies))
    return head.packed() + b"".join(len(b).to_bytes(4, "little") + b for b in bodies)


segments = st.builds(
    Segment,
    st.sampled_from(Kind),
    st.integers(0, 2**41).map(lambda n: 4 * n) | st.integers(0, 300).map(lambda n: 4 * n),
    st.integers(-(2**39), 2**39) | st.integers(0, len(BASE)),
    st.integers(-1100, 1100),
)
streams = st.binary(max_size=200) | st.binary(max_size=200).map(stream)
bodies = st.binary(max_size=300) | st.builds(
    lambda parts, rest: (
        number(len(parts)) + number(len(pack_table(parts))) + stream(pack_table(parts)) + rest
    ),
    st.lists(segments, max_size=4),
    st.lists(streams, max_size=6).map(b"".join),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(bodies, max_size=3), st.integers(0, 20_000))
def test_whatever_a_delta_holds_it_is_refused(parts: list[bytes], length: int) -> None:
    """No digest here is right, so the only end is one clear error."""
    with tempfile.TemporaryDirectory() as name:
        try:
            _apply(Path(name), _delta(parts, length), length, "0" * 64)
        except DeltaError as failure:
            assert "\n" not in str(failure)
        else:
            raise AssertionError("a delta with a wrong digest was taken")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = stream(bytes(BODY))
    table = pack_table([Segment(Kind.RAW, 100)])
    body = number(1) + number(len(table)) + stream(table) + number(0) + bomb
    with tempfile.TemporaryDirectory() as name:
        try:
            _apply(Path(name), _delta([body], 100), 100, "0" * 64)
        except DeltaError as failure:
            assert "longer than the 100 bytes" in str(failure)
        else:
            raise AssertionError("a bomb was unpacked")
