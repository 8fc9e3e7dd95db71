"""The wall clock jumps by hours, both ways, while calls are under way: nothing may follow it.

Each test is a process of its own whose clock really jumps, for Python and gRPC alike
(tests/jumping_clock.c); the servers keep theirs, as the cloud does when a device gets the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

TESTS = Path(__file__).parents[1]

PREAMBLE = """
import struct, sys, threading, time
import numpy as np
from faults import Proxy
from repo_builder.client import (
    Breaker, DeadlineExceeded, EdgeClient, Fallback, Limits, Retry, Unavailable)

offset_file, edge, cloud = sys.argv[1:4]
HOURS = [5, -5, 24 * 365, 0]

def jump(hours):
    before = time.time()
    at = struct.unpack("q", open(offset_file, "rb").read())[0]
    with open(offset_file, "r+b") as file:
        file.write(struct.pack("q", hours * 3600))
    assert abs(time.time() - before - (hours * 3600 - at)) < 60, "the clock did not jump"

def rows(n, unsure=()):
    x = np.zeros((n, 4), np.float32)
    x[:, 0] = 10.0
    x[list(unsure), 0] = 0.1
    x[:, 3] = np.random.default_rng().integers(0, 1 << 20, n)
    return x

def timed(call):
    begun = time.monotonic()
    try:
        return call(), time.monotonic() - begun
    except (DeadlineExceeded, Unavailable) as error:
        return error, time.monotonic() - begun
"""

CASES = {
    # Each jump comes in the middle of a call.
    "deadlines": """
with Proxy(edge) as proxy, EdgeClient(proxy.address) as client:
    client.infer("echo", rows(1))
    for hours in HOURS:
        for blackhole in (False, True):
            proxy.blackhole, proxy.delay = blackhole, 0.1
            later = threading.Timer(0.1, jump, (hours,))
            later.start()
            answer, seconds = timed(lambda: client.infer("echo", rows(1), timeout=0.6))
            later.join()
            if blackhole:
                assert isinstance(answer, DeadlineExceeded), answer
                assert 0.55 < seconds < 0.65, seconds
            else:
                assert answer.source == "edge"
                assert 0.1 < answer.timings["total"] < 0.6
        proxy.blackhole, proxy.delay = False, 0.0
        proxy.cut()
        client.infer("echo", rows(1), timeout=5.0)
""",
    # Open for its 2.4 to 3 s: neither shut early nor open for hours.
    "breaker": """
breaker = Breaker(failures=2, cooldown=3.0, max_cooldown=3.0)
for hours in HOURS[:2]:
    with Proxy(edge) as proxy, EdgeClient(proxy.address, cloud, breaker=breaker) as client:
        client.infer("echo", rows(1))
        proxy.blackhole = True  # a connection that comes back would end the wait at once
        opened = client._core.edge.endpoints[0].breaker
        while opened.state != "open":
            assert client.infer("echo", rows(1), timeout=0.5).source == "cloud"
        since = time.monotonic()
        proxy.blackhole = False
        proxy.cut()
        jump(hours)
        while client.infer("echo", rows(1), timeout=2.0).source == "cloud":
            assert time.monotonic() - since < 10, "open for too long"
            time.sleep(0.05)
        assert time.monotonic() - since > 2.0, "closed too early"
""",
    "hedging": """
with Proxy(edge) as one, Proxy(edge) as two, EdgeClient([one.address, two.address]) as client:
    for hours in HOURS:
        one.blackhole = False
        one.cut()
        for _ in range(60):
            client.infer("echo", rows(1), timeout=5.0)
        jump(hours)
        one.blackhole = True
        for _ in range(10):
            answer, seconds = timed(lambda: client.infer("echo", rows(1), timeout=1.0))
            assert answer.source == "edge" and seconds < 0.8, (answer, seconds)
    assert any(key.startswith("hedges_total") for key in client.metrics.snapshot())
""",
    # What was used up comes back with time that passed, not with the clock.
    "limits": """
budget = Fallback(bytes_per_hour=3 * 16)
pace = Fallback(rows_per_second=0.01)
for options, free, why in ((budget, 3, "limit: bytes"), (pace, 1, "limit: rate")):
    with EdgeClient(edge, cloud, fallback=options) as client:
        for hours in [0, *HOURS]:
            jump(hours)
            result = client.infer("echo", rows(8, unsure=range(5)))
            assert result.sources.count("cloud") == free, (hours, result.sources)
            assert why in result.why_unverified
            free = 0
""",
    "retry budget": """
with EdgeClient(edge, limits=Limits(concurrency=4)) as client:
    client.infer("echo", rows(1))
    budget, clock = client._core._retrier._budgets["edge"], client._core.clock
    while budget.take(clock()):
        pass
    for hours in HOURS:
        jump(hours)
        assert sum(budget.take(clock()) for _ in range(4)) <= 1, hours
    end = time.monotonic() + 5.0
    while not budget.take(clock()):
        assert time.monotonic() < end, "a token a second"
        time.sleep(0.05)
""",
}


@pytest.fixture(scope="module")
def jumping(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        unavailable("a C compiler, for a clock that jumps: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    source = TESTS / "jumping_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("case", CASES)
def test_a_clock_that_jumps_changes_nothing(pair, jumping: Path, tmp_path: Path, case: str) -> None:
    offset = tmp_path / "offset"
    offset.write_bytes(bytes(8))
    environment = {
        **os.environ,
        "LD_PRELOAD": str(jumping),
        "WALL_CLOCK_OFFSET": str(offset),
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent))),
    }
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + CASES[case], offset, pair.edge.grpc_url,
         pair.cloud.grpc_url],
        env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
