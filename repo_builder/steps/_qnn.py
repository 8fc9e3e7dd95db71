"""Sessions of ONNX Runtime with Qualcomm's QNN plugin: on x86-64 they run its simulator.

The plugin registers with the onnxruntime that is installed anyway, so CPU and QNN share one
environment. All of a model runs on the NPU or the session is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import MissingExtra, ModelError, counted
from repo_builder.introspect import quantized
from repo_builder.steps._already import SOURCE

if TYPE_CHECKING:
    import onnxruntime

MOST_NAMED = 3
"""Kinds of operators that are named before the rest is only counted."""

NO_FALLBACK = "session.disable_cpu_ep_fallback"

_TYPES = {
    "float": "FP32",
    "float16": "FP16",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
}


def compile_context(
    model: bytes, to: Path, *, htp_arch: int, soc_model: int
) -> onnxruntime.InferenceSession:
    """Compile an ONNX model with static shapes for an HTP generation (75: V75) and SoC (0: any).

    Writes `to` (the wrapper that ONNX Runtime loads) and `STEM_qnn.bin` (the context binary)
    beside it. The first compilation of a process gives the same bytes everywhere. ModelError
    names the operators that the NPU cannot run, in one sentence.
    """
    settings = {
        NO_FALLBACK: "1",
        "ep.context_enable": "1",
        "ep.context_file_path": str(to),
        "ep.context_embed_mode": "0",
    }
    device = {"htp_arch": str(htp_arch), "soc_model": str(soc_model)}
    try:
        return _session(model, settings, device)
    except Exception as failure:
        left = _left_to_cpu(model, device)
        if not left:
            raise
        raise ModelError(_refusal(model, left)) from failure


def load(wrapper: Path) -> onnxruntime.InferenceSession:
    """A session that runs a context binary through its wrapper."""
    return _session(str(wrapper), {NO_FALLBACK: "1"}, {})


def tensor(node: onnxruntime.NodeArg) -> Tensor:
    """An input or output of a session; ModelError where QNN cannot take its type."""
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _TYPES:
        raise ModelError(f"'{node.name}' is {kind}, which QNN cannot take; use float or int32")
    return Tensor(node.name, _TYPES[kind], tuple(node.shape))


def _session(
    model: bytes | str, settings: Mapping[str, str], device: Mapping[str, str]
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    try:
        import onnxruntime_qnn as qnn
    except ImportError:
        raise MissingExtra("qualcomm", "compiling for Snapdragon") from None

    name = qnn.get_ep_name()
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        ort.register_execution_provider_library(name, qnn.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    backend = {"backend_path": qnn.get_qnn_htp_path()}
    options.add_provider_for_devices(devices[:1], {**backend, **device})
    return ort.InferenceSession(model, options)


def _left_to_cpu(model: bytes, device: Mapping[str, str]) -> dict[str, list[str]]:
    """The operators that QNN leaves to the CPU where it may, by kind: the names of their nodes."""
    import onnx

    named = onnx.ModelProto.FromString(model)
    for node in named.graph.node:
        node.name = node.name or node.output[0]
    settings = {"session.record_ep_graph_assignment_info": "1"}
    session: Any = _session(named.SerializeToString(), settings, device)
    left: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name == "CPUExecutionProvider":
            for node in part.get_nodes():
                left.setdefault(node.op_type, []).append(node.name)
    return left


def _refusal(model: bytes, left: Mapping[str, list[str]]) -> str:
    """What the NPU does not run, and a way out."""
    import onnx

    kinds = [counted(kind, names) for kind, names in left.items()]
    more = len(kinds) - MOST_NAMED
    rest = f" and {more} other kinds of operator" if more > 0 else ""
    said = f"QNN's HTP backend does not run {', '.join(kinds[:MOST_NAMED])}{rest}"
    already = quantized.find(onnx.ModelProto.FromString(model))
    if already is not None and already.form in ("QOperator", "dynamic"):
        return f"the model {already.what}, and {said}; export it as QDQ, or {SOURCE}"
    if already is not None and left.keys() <= {"QuantizeLinear", "DequantizeLinear"}:
        return f"{said}; quantize every operator, or {SOURCE}"
    one = sum(map(len, left.values())) == 1
    return f"{said}; " + (
        "replace it, or cut the model before it"
        if one
        else "replace them, or cut the model before them"
    )
