"""Memory, threads, descriptors over thousands of calls; benchmarks/client.py --soak does more."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import numpy as np

from repo_builder.client import ClientError, EdgeClient


def measured() -> tuple[float, int, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return pages * resource.getpagesize() / 1e6, threading.active_count(), descriptors


def test_thousands_of_calls_leave_no_trace(pair):
    rng = np.random.default_rng(0)
    wrong = np.full((1, 4), np.nan, np.float32)
    with EdgeClient(pair.edge.grpc_url, pair.cloud.grpc_url) as client:

        def some(calls: int) -> None:
            for number in range(calls):
                x = rng.random((3, 4)).astype(np.float32)
                result = client.infer("echo", x)
                assert np.array_equal(result["id"], x[:, 3:])
                if number % 20 == 0:
                    big = rng.random((1, 40_000)).astype(np.float32)
                    assert np.array_equal(client.infer("big", big)["y"], big)
                if number % 100 == 0:
                    client.infer_many("echo", [x] * 8)
                    try:
                        client.infer("echo", wrong)
                    except ClientError:
                        pass
                    else:
                        raise AssertionError("the model does not take NaN")

        some(600)
        before = measured()
        some(1800)
        after = measured()
    assert after[0] - before[0] < 4.0, f"{before[0]:.1f} MB became {after[0]:.1f} MB"
    assert after[1:] == before[1:]
