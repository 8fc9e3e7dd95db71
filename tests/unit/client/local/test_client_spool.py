"""The collector: what is kept, what is not, and what a crash or a full disk leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from client_simulator import Server, World, rows

from repo_builder.client.local.spool import Spool
from repo_builder.client.metrics import Metrics
from repo_builder.client.options import Collector
from repo_builder.client.sample import Sample

ROOT = Path(__file__).parents[4]


def sample(number: int, size: int = 4) -> Sample:
    x = np.random.default_rng(number).random(size).astype(np.float32)
    return Sample("m", "1.0.0", "edge", "unsure", 0.4, {"x": x}, {"y": x[:1]})


def opened(path: Path, **options: Any) -> tuple[Spool, Metrics]:
    metrics = Metrics()
    return Spool(Collector(path, consent=lambda _: True, **options), metrics), metrics


def kept(path: Path) -> list[Path]:
    return sorted(path.glob("[0-9]*.npz"))


def test_a_sample_is_one_file_that_needs_no_pickle(tmp_path):
    spool, _ = opened(tmp_path / "s")
    spool.offer(sample(1))
    spool.close()
    (file,) = kept(tmp_path / "s")
    with np.load(file, allow_pickle=False) as data:
        about = json.loads(str(data["about"]))
        assert about["model"] == "m"
        assert about["reason"] == "unsure"
        assert np.array_equal(data["input:x"], sample(1).inputs["x"])
        assert data["output:y"].shape == (1,)


def test_the_same_content_is_kept_once_and_the_oldest_goes_first(tmp_path):
    spool, metrics = opened(tmp_path / "s", max_bytes=40_000)
    for number in (1, 1, 2, *range(3, 20)):
        spool.offer(sample(number, 1500))
    spool.close()
    files = kept(tmp_path / "s")
    assert sum(file.stat().st_size for file in files) <= 40_000
    snapshot = metrics.snapshot()
    assert snapshot['collected_total{result="duplicate"}'] == 1
    assert snapshot['collected_total{result="evicted"}'] == 19 - len(files)
    with np.load(files[-1]) as data:
        assert np.array_equal(data["input:x"], sample(19, 1500).inputs["x"])


def test_order_is_kept_over_restarts_and_when_the_clock_jumps(tmp_path, monkeypatch):
    for number, jump in enumerate((0.0, -1e9, 1e9)):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
        spool, _ = opened(tmp_path / "s")
        spool.offer(sample(number))
        spool.close()
    for number, file in enumerate(kept(tmp_path / "s")):
        with np.load(file) as data:
            assert np.array_equal(data["input:x"], sample(number).inputs["x"])


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_client_spool import opened, sample
spool, _ = opened(Path(sys.argv[1]))
print("ready", flush=True)
number = int(sys.argv[3])
while True:
    spool.offer(sample(number, 20_000))
    spool.flush()
    number += 1
"""


def test_a_kill_at_any_moment_leaves_only_whole_samples(tmp_path):
    for target in (2, 5, 9):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITER,
                str(tmp_path / "s"),
                str(Path(__file__).parent),
                str(1000 * target),
            ],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )
        assert process.stdout.readline() == b"ready\n"
        end = time.monotonic() + 20
        while len(kept(tmp_path / "s")) < target:
            assert time.monotonic() < end
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    spool, _ = opened(tmp_path / "s")
    spool.offer(sample(10_000))
    spool.close()
    files = kept(tmp_path / "s")
    assert len(files) >= 10
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            assert data["input:x"].dtype == np.float32
    assert not list((tmp_path / "s").glob(".*")), "what was half written is swept up"


def test_unsure_rows_and_a_random_audit_share_are_kept(tmp_path):
    world = World(
        {"e": Server()},
        {"c": Server(who=1.0)},
        collector=Collector(tmp_path / "s", consent=lambda _: True, audit=0.25),
    )
    for number in range(40):
        world.infer(rows(10, unsure=(2,), first_id=number * 10))
    world.core.spool.close()
    reasons = []
    for file in kept(tmp_path / "s"):
        with np.load(file) as data:
            about = json.loads(str(data["about"]))
            reasons.append(about["reason"])
            unsure = data["input:x"][0, 0] < 1
            assert about["source"] == ("cloud" if unsure else "edge")
            assert (about["reason"] == "unsure") == unsure
            assert about["share"] == (1.0 if unsure else 0.25)
    assert reasons.count("unsure") == 40
    # 360 sure rows, a quarter of them: five standard deviations are 41.
    assert abs(reasons.count("audit") - 90) < 42


def test_nothing_is_kept_without_consent_and_redaction_has_the_last_word(tmp_path):
    refused = Collector(tmp_path / "no", consent=lambda model: model != "echo", audit=1.0)
    world = World({"e": Server()}, collector=refused)
    world.infer(rows(3))
    world.core.spool.close()
    assert not kept(tmp_path / "no")

    def redact(one: Sample) -> Sample | None:
        if one.inputs["x"][0, 3] == 1:
            return None
        return replace(one, inputs={"x": one.inputs["x"] * 0})

    careful = Collector(tmp_path / "s", consent=lambda _: True, audit=1.0, redact=redact)
    world = World({"e": Server()}, collector=careful)
    world.infer(rows(2))
    world.core.spool.close()
    (file,) = kept(tmp_path / "s")
    with np.load(file) as data:
        assert not data["input:x"].any()
