"""The health of a container whose model lost its process, which Triton does not see."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import image_kit as kit
import numpy as np
import yaml
from containers import Running, X, expected, infer, ready
from image_kit import ROOT, WIDTHS


def kill_a_model(one: Running) -> None:
    processes = one.container.top(ps_args="-eo pid,args")["Processes"]
    stub = next(int(pid) for pid, words in processes if "triton_python_backend_stub" in words)
    os.kill(stub, signal.SIGKILL)


def health(one: Running) -> str:
    one.container.reload()
    return str(one.container.attrs["State"]["Health"]["Status"])


def restarts(one: Running) -> int:
    one.container.reload()
    return int(one.container.attrs["RestartCount"])


def test_a_container_whose_model_died_is_unhealthy(
    cpu: tuple[str, Path], run: Callable[..., Running]
) -> None:
    one = ready(run(cpu[0]))
    kill_a_model(one)
    kit.wait_for(lambda: health(one) == "unhealthy", "the container to be unhealthy")
    said = one.container.attrs["State"]["Health"]["Log"][-1]["Output"]
    assert "a process that ran a model of Triton (1) is dead" in said
    assert kit.http_ok(one.http, "/v2/health/ready")


def test_a_container_run_as_compose_runs_it_is_restarted(
    cpu: tuple[str, Path], run: Callable[..., Running]
) -> None:
    check = yaml.safe_load((ROOT / "compose/edge.yaml").read_text())["x-triton"]["healthcheck"]
    seconds = {key: int(check[key].rstrip("s")) * 10**9 for key in ("interval", "timeout")}
    one = ready(
        run(
            cpu[0],
            restart_policy={"Name": "unless-stopped"},
            healthcheck={"test": check["test"], "retries": check["retries"], **seconds},
        )
    )
    kill_a_model(one)
    kit.wait_for(lambda: restarts(one) == 1 and one.container.status == "running", "a restart")
    ready(one)
    for name, seed in (("one", 1), ("two", 2), ("three", 3)):
        for answer in infer(one, name, X):
            np.testing.assert_allclose(answer, expected(seed, WIDTHS[name]), rtol=1e-4, atol=1e-3)
