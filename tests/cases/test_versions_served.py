"""Two versions of a model in one repository, both served by genuine Triton."""

from __future__ import annotations

import json

import numpy as np
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput
from workplace import Workplace

ONLY = ("--only", "digits@cpu", "--keep", "2")


def answers(client: InferenceServerClient, version: str) -> np.ndarray:
    tensor = InferInput("image", [1, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1, 8, 8), np.float32))
    result = client.infer("digits", [tensor], model_version=version)
    assert version in ("", result.get_response().model_version)
    return result.as_numpy("logits")


def test_both_versions_answer_and_going_back_leaves_the_older(
    place: Workplace, triton: StartTriton
) -> None:
    place.build(*ONLY)
    place.edit("digits.yaml", "version: 1.0.0", "version: 1.1.0")
    place.edit("digits.yaml", "precision: int8", "precision: fp32")
    place.build(*ONLY)
    manifest = json.loads((place.out / "cpu" / "manifest.json").read_text())
    assert [v["version"] for v in manifest["models"]["digits"]["earlier"]] == ["1.0.0"]
    server = triton(place.out / "cpu")
    with InferenceServerClient(server.grpc_url) as client:
        old, new = answers(client, "1000000"), answers(client, "1001000")
        assert not np.array_equal(old, new)
        assert np.array_equal(answers(client, ""), new)
    place.edit("digits.yaml", "version: 1.1.0", "version: 1.0.0")
    place.edit("digits.yaml", "precision: fp32", "precision: int8")
    place.build(*ONLY)
    server = triton(place.out / "cpu")
    with InferenceServerClient(server.grpc_url) as client:
        assert np.array_equal(answers(client, ""), old)
        ready = [
            m.version for m in client.get_model_repository_index().models if m.name == "digits"
        ]
        assert ready == ["1000000"]
