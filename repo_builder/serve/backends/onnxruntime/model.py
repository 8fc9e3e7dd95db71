"""Triton's `onnxruntime` backend in Python, for a Triton that lacks the C++ one.

Reads the same config.pbtxt with the same defaults as the C++ backend; what it cannot do it refuses
at load. Each instance is a process with a session of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import bfloat16
import cpp_checks as cpp
import joined_requests as joined
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(bfloat16)": "TYPE_BF16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
# optimization.graph.level, as the C++ backend reads it.
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
_DEVICE_INITIALIZERS = "session.use_device_allocator_for_initializers"


class TritonPythonModel:
    """One instance of a model; Triton's Python stub makes it and calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model as its config says; raises what Triton then shows as the reason."""
        self._config = json.loads(args["model_config"])
        cpp.check_config(self._config)
        self._bfloat16 = joined.bfloat16_names(self._config)
        path = cpp.model_file(args, self._config, "model.onnx")
        if path.is_dir():
            path /= "model.onnx"
        self._session = ort.InferenceSession(
            str(path), _session_options(self._config), providers=_providers(args)
        )
        self._check_tensors()
        self._runner = joined.Runner(self._run, self._config, self._bfloat16)
        self._run_options = ort.RunOptions()
        if shrinkage := cpp.parameter(self._config, _SHRINKAGE):
            self._run_options.add_run_config_entry(_SHRINKAGE, shrinkage)
        options = self._session.get_session_options()
        pb_utils.Logger.log_info(
            f"{args['model_instance_name']}: ONNX Runtime {ort.__version__}, "
            f"{self._session.get_providers()[0]}, "
            f"intra_op_num_threads {options.intra_op_num_threads}, "
            f"inter_op_num_threads {options.inter_op_num_threads} (0: as many as cores), "
            f"{options.execution_mode.name}, {options.graph_optimization_level.name}"
        )

    def _check_tensors(self) -> None:
        """Compare the config with the session, as strictly as the C++ backend does."""
        config, session = self._config, self._session
        required, outputs = session.get_inputs(), session.get_outputs()
        overridable = session.get_overridable_initializers()
        inputs = [*required, *overridable]
        self._strings = {tensor.name for tensor in inputs if tensor.type == "tensor(string)"}
        self._scalars = {tensor.name for tensor in [*inputs, *outputs] if not tensor.shape}
        cpp.check_onnx(config, _tensors(required), _tensors(overridable), _tensors(outputs))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton's scheduler put together."""
        responses: list[Any] = self._runner.execute(requests)
        return responses

    def _run(self, feeds: joined.Feeds, wanted: Sequence[str]) -> Sequence[joined.Array]:
        for name in self._strings & feeds.keys():
            feeds = {**feeds, name: _decoded(name, feeds[name])}
        for name in self._scalars & feeds.keys():
            feeds = {**feeds, name: feeds[name].reshape(())}
        # ONNX Runtime takes an empty list for all outputs.
        outputs = self._outputs(feeds, wanted) if wanted else []
        return [np.atleast_1d(output) for output in outputs] if self._scalars else outputs

    def _outputs(self, feeds: joined.Feeds, wanted: Sequence[str]) -> Sequence[joined.Array]:
        if not self._bfloat16:
            arrays: list[joined.Array] = self._session.run(wanted, feeds, self._run_options)
            return arrays
        values = {name: self._value(name, array) for name, array in feeds.items()}
        found = self._session.run_with_ort_values(wanted, values, self._run_options)
        return [
            bfloat16.bits(value) if name in self._bfloat16 else value.numpy()
            for name, value in zip(wanted, found, strict=True)
        ]

    def _value(self, name: str, array: joined.Array) -> ort.OrtValue:
        if name in self._bfloat16:
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
        return ort.OrtValue.ortvalue_from_numpy(array)


def _session_options(config: cpp.Config) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Below 0 it is as if it were not said.
    options.intra_op_num_threads = max(cpp.integer(config, "intra_op_thread_count"), 0)
    options.inter_op_num_threads = max(cpp.integer(config, "inter_op_thread_count"), 0)
    mode = cpp.integer(config, "execution_mode")
    if mode not in (0, 1):
        raise cpp.refusal(
            "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 "
            f"but got {mode} ."
        )
    options.execution_mode = (
        ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    )
    options.enable_cpu_mem_arena = cpp.switch(config, "enable_mem_arena", "1")
    options.enable_mem_pattern = cpp.switch(config, "enable_mem_pattern", "1")
    if use := cpp.parameter(config, _DEVICE_INITIALIZERS):
        options.add_session_config_entry(_DEVICE_INITIALIZERS, use)
    for library in config.get("model_operations", {}).get("op_library_filename", []):
        options.register_custom_ops_library(library)
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    # Any other level means "all", as it does in the C++ backend.
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, _GRAPH_LEVELS[0])
    return options


def _providers(args: Mapping[str, str]) -> list[Any]:
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise cpp.refusal(
            "instance_group KIND_GPU, but this ONNX Runtime has no CUDA; "
            "install onnxruntime-gpu, or use KIND_CPU"
        )
    device = {"device_id": int(args["model_instance_device_id"])}
    return [("CUDAExecutionProvider", device), "CPUExecutionProvider"]


def _tensors(tensors: Sequence[Any]) -> dict[str, cpp.Tensor]:
    """The model's tensors by name; a type that Triton does not have keeps ONNX Runtime's name."""
    return {
        tensor.name: cpp.Tensor(
            _TRITON_TYPES.get(tensor.type, tensor.type),
            [dim if isinstance(dim, int) and dim >= 0 else -1 for dim in tensor.shape or ()],
        )
        for tensor in tensors
    }


def _decoded(name: str, array: joined.Array) -> joined.Array:
    """Triton's strings are bytes; ONNX Runtime takes str, and its tensors are UTF-8."""
    try:
        flat = [item.decode() for item in array.ravel()]
    except UnicodeDecodeError:
        raise ValueError(f"input '{name}' holds bytes that are not UTF-8") from None
    return np.array(flat, dtype=np.object_).reshape(array.shape)
