"""Sessions of ONNX Runtime with Qualcomm's QNN plugin: on x86-64 they run its simulator.

The plugin registers with the onnxruntime that is installed anyway, so CPU and QNN share one
environment. All of a model runs on the NPU or the session is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import MissingExtra, ModelError, Problem

if TYPE_CHECKING:
    import onnxruntime

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
    names the operators that the NPU cannot run.
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
        raise ModelError("not all of the model can run on the NPU", left) from failure


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


def _left_to_cpu(model: bytes, device: Mapping[str, str]) -> list[Problem]:
    """The operators that QNN leaves to the CPU where it may."""
    session: Any = _session(model, {"session.record_ep_graph_assignment_info": "1"}, device)
    return [
        Problem(
            "QNN's HTP backend does not run it",
            "replace it, or cut the model before it",
            field=f"{node.op_type} node '{node.name}'",
        )
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    ]
