"""Containers of the image tests: started as a device would, asked, and what they should answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import image_kit as kit
import numpy as np
import tritonclient.grpc
import tritonclient.http
from image_kit import World


@dataclass
class Running:
    """A container with a Triton in it."""

    container: Any
    grpc: str
    http: str


def start(world: World, image: str, **options: Any) -> Running:
    """Start a container as a device would: no rights, nothing writable but /tmp."""
    ports = {name: kit.free_port() for name in ("http", "grpc", "metrics")}
    container = world.client.containers.run(
        image,
        [f"--{name}-port={port}" for name, port in ports.items()]
        + [f"--{name}-address=127.0.0.1" for name in ports],
        detach=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": ""},  # noqa: S108 (in the container)
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        shm_size="128m",
        environment={"TRITON_HTTP_PORT": str(ports["http"])},
        **options,
    )
    return Running(container, f"127.0.0.1:{ports['grpc']}", f"127.0.0.1:{ports['http']}")


def ready(one: Running) -> Running:
    """Wait until the container's own health check calls it healthy."""

    def healthy() -> bool:
        one.container.reload()
        assert one.container.status == "running", one.container.logs().decode()[-2000:]
        return bool(one.container.attrs["State"]["Health"]["Status"] == "healthy")

    kit.wait_for(healthy, "the container to be healthy")
    return one


def infer(one: Running, model: str, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The answers of a model through gRPC and through HTTP."""
    answers = []
    for module, url in ((tritonclient.grpc, one.grpc), (tritonclient.http, one.http)):
        client = module.InferenceServerClient(url)
        tensor = module.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answers.append(client.infer(model, [tensor]).as_numpy("y"))
        client.close()
    return answers


def refused(one: Running) -> str:
    """What a container said that refused to start."""
    assert one.container.wait(timeout=60)["StatusCode"] == 14
    text: str = one.container.logs().decode()
    assert "refused" in text
    assert "tritonserver" not in text
    return text


X = np.arange(12, dtype=np.float32).reshape(3, 4)


def expected(seed: int, width: int) -> np.ndarray[Any, Any]:
    return (X @ kit.weights(seed, width)).sum(axis=1, keepdims=True)
