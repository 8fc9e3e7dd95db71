"""One repository for two targets: each is served from it by genuine Triton, by its own config."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput
from workplace import SPECS, Workplace


@pytest.mark.parametrize(
    ("target", "backend"), [("cpu", "onnxruntime"), ("cpu-openvino", "openvino"), ("", "")]
)
def test_each_target_is_served_by_its_own_config(
    place: Workplace, triton: StartTriton, target: str, backend: str
) -> None:
    place.build("--together", "edge=cpu,cpu-openvino")
    server = triton(place.out / "edge", config_name=target)
    data = np.load(SPECS / "digits" / "evaluation.npz")
    stream = io.BytesIO()
    pixels = np.rint(data["image"][3, 0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    tensor = InferInput("file", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[stream.getvalue()]], dtype=object))
    with InferenceServerClient(server.grpc_url) as client:
        config = client.get_model_config("digits").config
        assert config.backend == (backend or "onnxruntime")
        answer = client.infer("read-digit", [tensor]).as_numpy("label")
        assert int(answer[0, 0]) == data["label"][3]


def test_a_model_that_is_bad_for_one_target_stays_as_it_was_for_both(place: Workplace) -> None:
    together = ("--together", "edge=cpu,cpu-openvino")
    place.build(*together)
    before = (place.out / "edge" / "manifest.json").read_text()
    place.edit("digits.yaml", "version: 1.0.0", "version: 1.1.0")
    with (place.specs / "digits.yaml").open("a") as spec:
        spec.write("\noverrides: {cpu-openvino: {gates: {max_size_mb: 0.001}}}\n")
    ended = place.run("build", *together)
    assert ended.returncode == 7
    old, new = (json.loads(text)["models"] for text in (before, (
        place.out / "edge" / "manifest.json").read_text()))  # fmt: skip
    assert new["digits"] == old["digits"]
    assert new["read-digit"] == old["read-digit"]
    own = json.loads((place.out / "cpu" / "manifest.json").read_text())["models"]
    assert own["digits"]["version"] == "1.1.0"


@pytest.mark.parametrize(
    ("group", "what"),
    [
        ("edge", "'edge' is no NAME=TARGET,TARGET"),
        ("a/b=cpu,cpu-openvino", "'a/b=cpu,cpu-openvino' is no NAME=TARGET,TARGET"),
        ("cpu=cpu,cpu-openvino", "cpu is a target"),
        ("edge=cpu,nowhere", "no spec is built for nowhere here"),
    ],
)
def test_groups_that_cannot_be_are_told(place: Workplace, group: str, what: str) -> None:
    ended = place.run("build", "--together", group)
    assert ended.returncode == 2
    assert what in ended.stderr
    assert "Traceback" not in ended.stderr
