"""Small models for the client's tests, served by Triton's own python backend.

Every row of `x` [4] says what its answer must be, so that a row given for another is seen:
`logits` are x[:3], `id` is x[3], and `who` is what the model was written with (0 edge, 1 cloud).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ECHO = """
import json, time
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        text = lambda key: config["parameters"].get(key, {}).get("string_value", "")
        self.who = float(text("who") or 0)
        self.wait = float(text("wait") or 0)
        self.log = text("log")

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            end = time.monotonic() + self.wait
            cancelled = request.is_cancelled()
            while time.monotonic() < end and not cancelled:
                time.sleep(0.005)
                cancelled = request.is_cancelled()
            if self.log:
                with open(self.log, "a") as log:
                    log.write(json.dumps({"rows": len(x), "cancelled": cancelled}) + "\\n")
            if np.isnan(x).any():
                error = pb.TritonError("the model does not take NaN")
                responses.append(pb.InferenceResponse(error=error))
                continue
            who = np.full((len(x), 1), self.who, np.float32)
            responses.append(pb.InferenceResponse([
                pb.Tensor("logits", np.ascontiguousarray(x[:, :3])),
                pb.Tensor("id", np.ascontiguousarray(x[:, 3:4])),
                pb.Tensor("who", who),
            ]))
        return responses
"""

BIG = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            responses.append(pb.InferenceResponse([pb.Tensor("y", x)]))
        return responses
"""

_HEAD = '"y" data_type: TYPE_FP32 dims: [10]'

POLICY = {
    "policy": "max_probability",
    "output": "logits",
    "activation": "logits",
    "temperature": 1.0,
    "threshold": 0.85,
    "digest": "sha256:0",
}


def echo(
    models: Path,
    name: str = "echo",
    *,
    version: str = "1.0.0",
    who: int = 0,
    wait: float = 0.0,
    log: Path | None = None,
    policy: dict[str, Any] | None = POLICY,
    max_rows: int = 64,
    extra: str = "",
    config_version: str | None = None,
) -> Path:
    """Write the echo model into the repository `models`; returns its folder."""
    parameters = {
        "who": str(who),
        "wait": str(wait),
        "log": str(log or ""),
        "repo_builder.version": config_version or version,
        "repo_builder.labels": json.dumps({"logits": ["cat", "dog", "owl"]}),
    }
    if policy:
        parameters["repo_builder.confidence"] = json.dumps(policy)
    config = f"""
name: "{name}"
backend: "python"
max_batch_size: {max_rows}
input [{{ name: "x" data_type: TYPE_FP32 dims: [4] }}]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [3] }},
  {{ name: "id" data_type: TYPE_FP32 dims: [1] }},
  {{ name: "who" data_type: TYPE_FP32 dims: [1] }}
]
instance_group [{{ count: 1 kind: KIND_CPU }}]
{extra}
""" + "".join(
        f"parameters {{ key: {json.dumps(k)} value {{ string_value: {json.dumps(v)} }} }}\n"
        for k, v in parameters.items()
    )
    return _write(models / name, config, number(version), ECHO)


def big(models: Path, name: str = "big") -> Path:
    """A model that gives back what it gets: `y` [n, -1] is `x`."""
    config = f"""
name: "{name}"
backend: "python"
max_batch_size: 8
input [{{ name: "x" data_type: TYPE_FP32 dims: [-1] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [-1] }}]
instance_group [{{ count: 2 kind: KIND_CPU }}]
dynamic_batching {{ }}
"""
    return _write(models / name, config, 1, BIG)


def head(models: Path, name: str = "head") -> Path:
    """A model that gives back the first ten values: large in, small out."""
    folder = big(models, name)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace('"y" data_type: TYPE_FP32 dims: [-1]', _HEAD))
    code = folder / "1/model.py"
    code.write_text(BIG.replace('"y", x)', '"y", np.ascontiguousarray(x[:, :10]))'))
    return folder


def number(version: str) -> int:
    """Triton's number for a version."""
    major, minor, patch = map(int, version.split("."))
    return major * 1_000_000 + minor * 1000 + patch


def _write(folder: Path, config: str, version: int, code: str) -> Path:
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / str(version) / "model.py").write_text(code)
    return folder
