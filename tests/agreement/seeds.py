"""Good repositories that together use every feature: the example models, and python models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnx.numpy_helper
import onnx.parser

from repo_builder import introspect
from repo_builder.base.artifact import Signature
from repo_builder.repository import config, render
from repo_builder.spec.types import Gates, OnnxSource, Optimize, Serving, Spec, Version
from repo_builder.targets import load
from tests.agreement.repository import MAIN, PYTHON_MODEL, Repository, python

MODELS = Path(__file__).parents[2] / "model_specs"
IO = """
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
"""
HEAD = 'backend: "python"\nmax_batch_size: 8\n' + IO

DYNAMIC = (
    HEAD
    + """
dynamic_batching {
  max_queue_delay_microseconds: 100
  priority_levels: 2
  default_priority_level: 1
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1000 }
  priority_queue_policy { key: 2 value { allow_timeout_override: true max_queue_size: 4 } }
}
instance_group { kind: KIND_CPU count: 1 rate_limiter { resources { name: "r" count: 1 } } }
metric_tags { key: "team" value: "edge" }
"""
)
DIRECT = (
    HEAD
    + """
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  direct { max_queue_delay_microseconds: 10 minimum_slot_utilization: 0.5 }
  control_input { name: "start"
    control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } }
  control_input { name: "end"
    control { kind: CONTROL_SEQUENCE_END bool_false_true: [false, true] } }
  control_input { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
}
"""
)
OLDEST = (
    HEAD
    + """
sequence_batching {
  oldest { max_candidate_sequences: 4 preferred_batch_size: [2, 4] }
  control_input { name: "ready" control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [0, 1] } }
  state { input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [2]
    initial_state { data_type: TYPE_FP32 dims: [2] zero_data: true name: "i" } }
}
"""
)
VERSIONS = (
    HEAD
    + """
version_policy { specific { versions: [1, 3] } }
parameters { key: "mode" value { string_value: "fast" } }
model_transaction_policy { decoupled: false }
"""
)
RESHAPED = """
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [3, 2, -1]
  reshape { shape: [6, -1] } }
input { name: "z" data_type: TYPE_STRING dims: [1] reshape {} optional: true }
input { name: "r" data_type: TYPE_INT32 dims: [-1] allow_ragged_batch: true }
output { name: "y" data_type: TYPE_BF16 dims: [4] label_filename: "labels.txt" }
batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32 source_input: "r" }
batch_output { target_name: "y" source_input: "r" }
"""
WARMED = """
backend: "python"
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
model_warmup { name: "z" batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } } }
model_warmup { name: "f" batch_size: 1 count: 2
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] input_data_file: "data" } } }
optimization { graph { level: 1 } priority: PRIORITY_MAX input_pinned_memory { enable: false } }
response_cache { enable: true }
"""
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 4
input { name: "image" data_type: TYPE_FP32 dims: [4] }
output { name: "scores" data_type: TYPE_FP32 dims: [4] }
ensemble_scheduling {
  step { model_name: "@pre" model_version: -1
    input_map { key: "x" value: "image" } output_map { key: "y" value: "between" } }
  step { model_name: "@post" model_version: 1
    input_map { key: "x" value: "between" } output_map { key: "y" value: "scores" } }
}
"""


CONTROLLED = """
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
sequence_batching {
  direct { }
  control_input { name: "start"
    control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } }
  control_input { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
}
parameters { key: "enable_mem_arena" value { string_value: "off" } }
model_warmup { name: "w" batch_size: 2
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } }
  inputs { key: "start" value { data_type: TYPE_FP32 dims: [1] zero_data: true } }
  inputs { key: "id" value { data_type: TYPE_UINT64 dims: [1] zero_data: true } } }
"""
CONTROLLED_ONNX = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x, float[N, 1] start, uint64[N, 1] id) => (float[N, 4] y) { y = Mul(x, start) }
"""
WEIGHTS = """
backend: "onnxruntime"
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }
input { name: "b" data_type: TYPE_FP32 dims: [4] optional: true }
output { name: "y" data_type: TYPE_FP32 dims: [-1, 4] }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
WEIGHTS_ONNX = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x, float[4] b) => (float[N, M] y)
<float[4] b = {1, 2, 3, 4}, float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
{ z = MatMul(x, w) y = Add(z, b) }
"""


def _spec(name: str, onnx: Path, **serving: object) -> Spec:
    return Spec(
        name=MAIN,
        version=Version(0, 0, 1),
        target="cpu",
        source=OnnxSource(onnx),
        file=Path(f"{name}.yaml"),
        calibration=None,
        evaluation=None,
        optimize=Optimize(),
        gates=Gates(),
        serving=Serving(**serving),  # type: ignore[arg-type]
        preprocess=None,
    )


def _text(name: str, onnx: Path, target: str, signature: Signature, **serving: object) -> bytes:
    spec = _spec(name, onnx, **serving)
    decided = config.decide(spec, load()[target], signature, {}, cores=2)
    return render.text(decided).encode()


def _onnx(name: str, **serving: object) -> Repository:
    """An example model as a build publishes it for ONNX Runtime."""
    onnx = MODELS / name / f"{name}.onnx"
    text = _text(name, onnx, "cpu", introspect.signature(onnx), **serving)
    return Repository({f"{MAIN}/config.pbtxt": text, f"{MAIN}/1/model.onnx": onnx.read_bytes()})


def _openvino(name: str) -> Repository:
    """An example model as a build publishes it for OpenVINO."""
    import openvino

    onnx = MODELS / name / f"{name}.onnx"
    text = _text(name, onnx, "cpu-openvino", introspect.signature(onnx))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(openvino.convert_model(onnx), path)
        xml, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return Repository(
        {
            f"{MAIN}/config.pbtxt": text,
            f"{MAIN}/1/model.xml": xml,
            f"{MAIN}/1/model.bin": weights,
        }
    )


def _controlled() -> Repository:
    """A model with sequence controls, which Triton feeds and a warm-up brings."""
    model = onnx.parser.parse_model(CONTROLLED_ONNX)
    return Repository(
        {
            f"{MAIN}/config.pbtxt": CONTROLLED.encode(),
            f"{MAIN}/1/model.onnx": model.SerializeToString(),
        }
    )


def _weights() -> Repository:
    """A model with weights in a file of their own, an optional input, and a size left open."""
    model = onnx.parser.parse_model(WEIGHTS_ONNX)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    data = onnx.numpy_helper.to_array(weights).tobytes()
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    return Repository(
        {
            f"{MAIN}/config.pbtxt": WEIGHTS.encode(),
            f"{MAIN}/1/model.onnx": model.SerializeToString(),
            f"{MAIN}/1/w.bin": data,
        }
    )


def seeds() -> dict[str, Repository]:
    """All of them, by name."""
    inner = {f"@{n}/config.pbtxt": HEAD.encode() for n in ("pre", "post")}
    inner |= {f"@{n}/1/model.py": PYTHON_MODEL for n in ("pre", "post")}
    return {
        "digits": _onnx("digits"),
        "shapes": _onnx("shapes", objective="throughput"),
        "vibration": _onnx("vibration", max_batch_size=0),
        "digits-openvino": _openvino("digits"),
        "dynamic": python(DYNAMIC),
        "direct": python(DIRECT),
        "oldest": python(OLDEST),
        "versions": python(VERSIONS, **{"2/model.py": PYTHON_MODEL, "3/model.py": PYTHON_MODEL}),
        "reshaped": python(RESHAPED, **{"labels.txt": b"a\nb\nc\nd\n"}),
        "warmed": python(WARMED, **{"warmup/data": b"\0" * 16}),
        "plain": python(HEAD),
        "controlled": _controlled(),
        "weights": _weights(),
        "ensemble": Repository(
            {f"{MAIN}/config.pbtxt": ENSEMBLE.encode(), f"{MAIN}/1": None, **inner}
        ),
    }
