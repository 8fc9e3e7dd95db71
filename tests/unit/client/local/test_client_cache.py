"""The cache: right answers, LRU by bytes, several processes, crashes, broken files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_simulator import Server, World, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from repo_builder.client.local.cache import ResponseCache, decode, encode, perceptual_hash
from repo_builder.client.metrics import Metrics
from repo_builder.client.models.tensors import Batch, Signature, Tensor
from repo_builder.client.options import Cache

ROOT = Path(__file__).parents[4]


def opened(path: Path, max_bytes: int = 1 << 20, near: int = 0) -> ResponseCache:
    return ResponseCache(Cache(path, max_bytes, near), Metrics())


def batch(x: Any) -> Batch:
    tensor = Tensor("x", "FP32", tuple(x.shape[1:]))
    return Batch(Signature((tensor,), (x.shape,), len(x), False), [x])


def put(cache: ResponseCache, x: Any, value: float, size: int = 1) -> None:
    for key in cache.keys("m 1", batch(x)):
        cache.store("m 1", key, {"y": np.full(size, value, np.float32)})


def get(cache: ResponseCache, x: Any) -> list[float | None]:
    found = cache.find("m 1", cache.keys("m 1", batch(x)))
    return [None if row is None else float(row["y"][0]) for row in found]


def frame(number: int) -> Any:
    return np.full((1, 4), number, np.float32)


@given(
    st.dictionaries(
        st.text(max_size=8),
        hnp.arrays(
            st.sampled_from([np.float32, np.int64, np.bool_, np.uint8]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=3,
    )
)
@settings(max_examples=100, deadline=None)
def test_answers_survive_being_bytes(row):
    back = decode(encode(row))
    assert back.keys() == row.keys()
    for name, array in row.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array, equal_nan=array.dtype.kind == "f")


def test_what_was_stored_is_found_also_by_another_who_opens_the_file(tmp_path):
    cache = opened(tmp_path / "c")
    assert get(cache, frame(1)) == [None]
    put(cache, frame(1), 7.0)
    cache.flush()
    assert get(cache, np.concatenate([frame(1), frame(2)])) == [7.0, None]
    other = opened(tmp_path / "c")
    assert get(other, frame(1)) == [7.0]
    assert other.find("m 2", other.keys("m 2", batch(frame(1)))) == [None], "another version"
    cache.close()
    other.close()


def test_the_least_recently_used_goes_first_and_the_bound_holds(tmp_path):
    cache = opened(tmp_path / "c", max_bytes=20_000)
    for number in range(10):
        put(cache, frame(number), number, size=400)
        cache.flush()
    assert get(cache, frame(0)) == [0.0], "used: not the oldest any more"
    cache.flush()
    for number in range(10, 16):
        put(cache, frame(number), number, size=400)
    cache.flush()
    held = [n for n in range(16) if get(cache, frame(n)) != [None]]
    assert 0 in held
    assert held == [0, *range(16 - len(held) + 1, 16)]
    cache.close()
    database = sqlite3.connect(tmp_path / "c")
    (total,) = database.execute("SELECT bytes FROM total").fetchone()
    assert total == database.execute("SELECT SUM(size) FROM entry").fetchone()[0] <= 20_000
    database.close()


def test_order_of_use_does_not_depend_on_the_clock(tmp_path, monkeypatch):
    cache = opened(tmp_path / "c", max_bytes=6_000)
    for number, jump in enumerate((0.0, -1e9, 1e9, -5.0)):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
        put(cache, frame(number), number, size=400)
        cache.flush()
    assert [get(cache, frame(n))[0] for n in range(4)] == [None, 1.0, 2.0, 3.0]
    cache.close()


WRITER = """
import sys, numpy as np
sys.path.insert(0, sys.argv[3])
from test_client_cache import opened, put, frame
from pathlib import Path
cache = opened(Path(sys.argv[1]), max_bytes=50_000)
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    put(cache, frame(number % 500), float(number % 500), size=50)
    number += 1
    if number % 50 == 0:
        cache.flush()
"""


def test_processes_that_write_at_once_and_are_killed_leave_a_sound_file(tmp_path):
    path = tmp_path / "c"
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    writers = [
        subprocess.Popen(
            [*command, str(seed), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for seed in (0, 250)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    cache = opened(path, max_bytes=50_000)
    seen = 0
    end = time.monotonic() + 20
    while seen < 300 and time.monotonic() < end:
        for number in range(0, 500, 7):
            (value,) = get(cache, frame(number))
            assert value in (None, float(number)), "never another's answer"
            seen += value is not None
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert seen >= 300
    put(cache, frame(1000), 1.0)
    cache.flush()
    assert get(cache, frame(1000)) == [1.0]
    cache.close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (total,) = database.execute("SELECT bytes FROM total").fetchone()
    assert total == database.execute("SELECT SUM(size) FROM entry").fetchone()[0]
    database.close()


def test_a_file_that_is_no_database_is_made_anew(tmp_path):
    (tmp_path / "c").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    cache = opened(tmp_path / "c")
    assert get(cache, frame(1)) == [None]
    put(cache, frame(1), 3.0)
    cache.flush()
    assert get(cache, frame(1)) == [3.0]
    cache.close()


def test_many_threads_share_one_cache(tmp_path):
    cache = opened(tmp_path / "c")
    wrong = []

    def work(seed: int) -> None:
        for number in range(seed, 200, 4):
            put(cache, frame(number), number)
            if get(cache, frame(number))[0] not in (None, float(number)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    cache.close()


def test_frames_that_look_alike_share_an_answer_only_when_asked_to(tmp_path):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.random((1, 9, 16)), np.ones((1, 20, 20))).astype(np.float32)
    noisy = scene + rng.normal(0, 0.01, scene.shape).astype(np.float32)
    other = np.kron(rng.random((1, 9, 16)), np.ones((1, 20, 20))).astype(np.float32)
    for near, expected in ((0, None), (6, 5.0)):
        cache = opened(tmp_path / f"c{near}", near=near)
        put(cache, scene[None, 0], 5.0)
        cache.flush()
        assert get(cache, scene[None, 0]) == [5.0]
        assert get(cache, noisy[None, 0]) == [expected]
        assert get(cache, other[None, 0]) == [None]
        cache.close()
    assert perceptual_hash(np.zeros((4,))) is None
    chw, hwc = np.repeat(scene, 3, 0), np.repeat(scene[0][..., None], 3, 2)
    assert perceptual_hash(chw) == perceptual_hash(hwc) == perceptual_hash(scene[0])


def test_the_client_answers_known_rows_from_the_cache_and_asks_only_for_the_others(tmp_path):
    edge, cloud = Server(), Server(who=1.0)
    world = World({"e": edge}, {"c": cloud}, cache=Cache(tmp_path / "c"))
    first = world.infer(rows(4, unsure=(1,)))
    assert first.sources == ["edge", "cloud", "edge", "edge"]
    world.core.cache.flush()
    asked = len(edge.seen)
    again = world.infer(rows(4, unsure=(1,)))
    assert again.source == "cache"
    assert len(edge.seen) == asked
    for name in first.outputs:
        assert np.array_equal(first[name], again[name])
    mixed = world.infer(rows(6, unsure=(1, 5)))
    assert mixed.sources == ["cache"] * 4 + ["edge", "cloud"]
    assert mixed["id"].ravel().tolist() == list(range(6))
    assert edge.seen[-1].inputs[0].shape[0] == 2
    # Another version answers: what the old one said is not used for long.
    edge.version = "2000000"
    world.now += 10.0
    assert world.infer(rows(4)).version == "2.0.0"
    snapshot = world.core.metrics.snapshot()
    assert snapshot['cache_lookups_total{result="hit"}'] == 8


def test_what_the_cloud_could_not_verify_is_not_kept(tmp_path):
    gone = pytest.importorskip("client_simulator").GONE
    cloud = Server(who=1.0, fault=lambda _now, _method: (0.001, gone))
    world = World({"e": Server()}, {"c": cloud}, cache=Cache(tmp_path / "c"))
    for _ in range(2):
        world.infer(rows(2, unsure=(0,)))
        world.core.cache.flush()
    assert world.infer(rows(2, unsure=(0,))).sources == ["edge-unverified", "cache"]
