"""One small interface to run a built model in the runtimes that serve it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import MissingExtra, ModelError
from repo_builder.introspect import bfloat16
from repo_builder.steps._data import Array
from repo_builder.steps._failures import explained
from repo_builder.steps._onnx import MODEL


@dataclass(frozen=True)
class Options:
    """How a model is run. `threads` 0 leaves the number to the runtime.

    `optimize` False runs an ONNX graph as it is written. OpenVINO computes in the precision that
    it prefers on the device, as Triton's backend does: bf16 on a CPU that has it.

    `spin` lets ONNX Runtime's threads wait for work in a busy loop, as they do where it serves: for
    times alone, since answers are the same without, and other steps need the cores meanwhile.
    """

    threads: int = 0
    optimize: bool = True
    spin: bool = False


FIXES: Mapping[str, str] = {
    "does not support f64": "it computes in float64, which OpenVINO's CPU device has not: export "
    "it in float32 (in PyTorch: `model.float()`), or use target `cpu`"
}
"""What to do about a runtime's failure: a part of its reason -> a way out."""


class Runner(Protocol):
    """A loaded model. Shapes and types are those that the runtime reports.

    `in_bf16`: the runtime computes in bf16 of its own accord. `by_rows`: rows that come together
    are run one after another, so that they cannot change each other.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    in_bf16: bool
    by_rows: bool

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; raises whatever the runtime does."""
        ...


def load(folder: Path, runtime: str, options: Options | None = None) -> Runner:
    """Load the model of an artifact's folder into `runtime`; ModelError where it refuses."""
    what, fix = f"{runtime} cannot load the model", "rebuild it, or update the runtime"
    with explained(what, fix, ModelError, FIXES):
        return _RUNTIMES[runtime](folder, options or Options())


class _OnnxRuntime:
    """ONNX Runtime on the CPU, with the session options of our Triton configs."""

    in_bf16 = False
    by_rows = False

    def __init__(self, folder: Path, options: Options) -> None:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        if not options.spin:
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not options.optimize:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(
            folder / MODEL, settings, providers=["CPUExecutionProvider"]
        )
        self.inputs = tuple(map(_ort_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_ort_tensor, self._session.get_outputs()))
        self._names = [tensor.name for tensor in self.outputs]
        self._narrow = {t.name for t in (*self.inputs, *self.outputs) if t.dtype == "BF16"}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        results = bfloat16.run(self._session, self._names, feeds, self._narrow)
        return dict(zip(self._names, results, strict=True))


class _OpenVino:
    """OpenVINO on the CPU: one stream, tuned for the latency of one request."""

    by_rows = False
    _more: Mapping[str, Any] = {}

    def __init__(self, folder: Path, options: Options) -> None:
        try:
            import openvino as ov
        except ImportError as failure:
            raise MissingExtra("openvino", "running an OpenVINO model") from failure

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        settings |= self._more
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        core = ov.Core()
        model = core.read_model(folder / "model.xml")
        # Once compiled, a port may have names of inner tensors too, and those come first.
        self.inputs = tuple(map(openvino_tensor, model.inputs))
        self.outputs = tuple(map(openvino_tensor, model.outputs))
        self._compiled = core.compile_model(model, "CPU", settings)
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        self.in_bf16 = hint.get_type_name() == "bf16"
        self._request = self._compiled.create_infer_request()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, copied out of the request."""
        results = self._request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        return {tensor.name: results[port] for port, tensor in enumerate(self.outputs)}


class _OpenVinoRows(_OpenVino):
    """A model of one shape, as devices other than the CPU take it; rows one after another.

    The CPU stands in for the device, so it computes in fp32, not in bf16 which is its own choice.
    """

    _more: Mapping[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        self.by_rows = _of_rows((*self.inputs, *self.outputs))
        if self.by_rows:
            self.inputs, self.outputs = (
                tuple(map(_by_rows, side)) for side in (self.inputs, self.outputs)
            )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        return _one_by_one(super().run, feeds) if self.by_rows else super().run(feeds)


class _Qnn:
    """A QNN context binary in QNN's simulator; rows one after another, as its Triton wrapper."""

    in_bf16 = False
    by_rows = False

    def __init__(self, folder: Path, _options: Options) -> None:
        from repo_builder.steps import _qnn

        self._session = _qnn.load(folder / MODEL)
        self.inputs = tuple(map(_ort_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_ort_tensor, self._session.get_outputs()))
        self.by_rows = _of_rows((*self.inputs, *self.outputs))
        if self.by_rows:
            self.inputs, self.outputs = (
                tuple(map(_by_rows, side)) for side in (self.inputs, self.outputs)
            )
        self._names = [tensor.name for tensor in self.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        return _one_by_one(self._run_one, feeds) if self.by_rows else self._run_one(feeds)

    def _run_one(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))


class _LiteRt:
    """A TFLite model in LiteRT, rows one after another.

    Its reference kernels give what TensorFlow Lite Micro and Ethos-U give, bit for bit by their
    makers' word; LiteRT's own round otherwise, and no device here runs them.
    """

    in_bf16 = False
    by_rows = True

    def __init__(self, folder: Path, _options: Options) -> None:
        from repo_builder.tflite.ports import Ports
        from repo_builder.tflite.runner import Runner as TfliteRunner

        ports = Ports.read(folder)
        data = (folder / "model.tflite").read_bytes()
        self._runner = TfliteRunner(data, ports, reference=True)
        self.inputs, self.outputs = (
            tuple(_by_rows(Tensor(port.name, "FP32", port.shape)) for port in side)
            for side in (ports.inputs, ports.outputs)
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        return self._runner.run(feeds)


def _one_by_one(
    run: Callable[[Mapping[str, Array]], dict[str, Array]], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    """Run the rows of `feeds` one after another, and join the outputs along rows."""
    rows = max(len(array) for array in feeds.values())
    runs = [run({name: a[i : i + 1] for name, a in feeds.items()}) for i in range(rows)]
    return {name: np.concatenate([one[name] for one in runs]) for name in runs[0]}


def _of_rows(tensors: Iterable[Tensor]) -> bool:
    """Whether dimension 0 of all these is one row: not of a recurrent state, say."""
    return all(tensor.shape[:1] == (1,) for tensor in tensors)


def _by_rows(tensor: Tensor) -> Tensor:
    """The tensor of a model with one static row, as a caller who gives it many sees it."""
    shape = ("", *tensor.shape[1:]) if tensor.shape[:1] == (1,) else tensor.shape
    return Tensor(tensor.name, tensor.dtype, shape)


_RUNTIMES: Mapping[str, Callable[[Path, Options], Runner]] = {
    "onnxruntime": _OnnxRuntime,
    "openvino": _OpenVino,
    "openvino-rows": _OpenVinoRows,
    "qnn": _Qnn,
    "litert": _LiteRt,
}

_ORT_TYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "string": "STRING",
    **{f"{u}int{bits}": f"{u.upper()}INT{bits}" for u in ("u", "") for bits in (8, 16, 32, 64)},
}
_OV_TYPES = {
    "boolean": "BOOL",
    "f16": "FP16",
    "bf16": "BF16",
    "f32": "FP32",
    "f64": "FP64",
    "string": "STRING",
    **{
        f"{u}{bits}": f"{'U' * (u == 'u')}INT{bits}" for u in ("u", "i") for bits in (8, 16, 32, 64)
    },
}


def _ort_tensor(node: Any) -> Tensor:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _ORT_TYPES:
        raise ModelError(f"'{node.name}' is {node.type}; Triton serves tensors only")
    shape = tuple(size if isinstance(size, int) else size or "" for size in node.shape)
    return Tensor(node.name, _ORT_TYPES[kind], shape)


def openvino_tensor(port: Any) -> Tensor:
    shape = tuple(size.get_length() if size.is_static else "" for size in port.get_partial_shape())
    return Tensor(port.get_any_name(), _OV_TYPES[port.get_element_type().get_type_name()], shape)
