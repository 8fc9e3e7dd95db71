"""Triton's `openvino` backend in Python, for a Triton that lacks the C++ one.

Reads the same config.pbtxt, with the keys and defaults of the C++ backend; what it cannot do it
refuses at load. Each instance is a process with a compiled model of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import cpp_checks as cpp
import joined_requests as joined
import triton_python_backend_utils as pb_utils

# Importing OpenVINO tells a web service of it, from a process that it forks, unless this package is
# not to be had.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

_OPENVINO_TYPES = {
    "TYPE_BOOL": ov.Type.boolean,
    "TYPE_UINT8": ov.Type.u8,
    "TYPE_UINT16": ov.Type.u16,
    "TYPE_UINT32": ov.Type.u32,
    "TYPE_UINT64": ov.Type.u64,
    "TYPE_INT8": ov.Type.i8,
    "TYPE_INT16": ov.Type.i16,
    "TYPE_INT32": ov.Type.i32,
    "TYPE_INT64": ov.Type.i64,
    "TYPE_FP16": ov.Type.f16,
    "TYPE_FP32": ov.Type.f32,
}
_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")


class TritonPythonModel:
    """One instance of a model; Triton's Python stub makes it and calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model as its config says; raises what Triton then shows as the reason."""
        config = json.loads(args["model_config"])
        cpp.check_config(config)
        if args["model_instance_kind"] != "CPU":
            raise cpp.unable(config, "Triton openVINO backend supports only CPU device")
        if _yes(config, "ENABLE_BATCH_PADDING"):
            raise cpp.refusal("ENABLE_BATCH_PADDING needs Triton's C++ backend")
        path = cpp.model_file(args, config, "model.xml")
        core = ov.Core()
        if extension := cpp.parameter(config, "CPU_EXTENSION_PATH"):
            core.add_extension(extension)
        model = _with_outputs(_with_inputs(core.read_model(path), config), config)
        device = cpp.parameter(config, "TARGET_DEVICE", "CPU").upper()
        compiled = core.compile_model(model, device, _properties(config))
        self._request = compiled.create_infer_request()
        self._runner = joined.Runner(self._run, config)
        self._outputs = {
            name: i for i, port in enumerate(compiled.outputs) for name in port.get_names()
        }
        pb_utils.Logger.log_info(
            f"{args['model_instance_name']}: OpenVINO {ov.__version__}, {device}, "
            + ", ".join(
                f"{key} {compiled.get_property(key)}"
                for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "INFERENCE_PRECISION_HINT")
                if key in compiled.get_property("SUPPORTED_PROPERTIES")
            )
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton's scheduler put together."""
        responses: list[Any] = self._runner.execute(requests)
        return responses

    def _run(self, feeds: joined.Feeds, wanted: Sequence[str]) -> Sequence[joined.Array]:
        # Inputs are shared, outputs copied: the next run of this request overwrites them.
        results = self._request.infer(feeds, share_inputs=True)
        return [results[self._outputs[name]] for name in wanted]


def _yes(config: cpp.Config, key: str) -> bool:
    return str(cpp.parameter(config, key)).lower() == "yes"


def _with_inputs(model: ov.Model, config: cpp.Config) -> ov.Model:
    """The model with the types of config.pbtxt, and the shapes where it says RESHAPE_IO_LAYERS.

    Raises where ValidateInputs in openvino.cc would. A tensor's shape can only fix what the model
    leaves open, or open what it fixes.
    """
    for tensor in config["input"]:
        if tensor["optional"]:
            raise cpp.refusal(
                f"'optional' is set to true for input '{tensor['name']}' while the backend model "
                "doesn't support optional input"
            )
    cpp.check_count(config, len(config["input"]), len(model.inputs))
    ports = {port.get_any_name(): port for port in model.inputs}
    cpp.check_names(config, "input", ports)
    steps = ov.preprocess.PrePostProcessor(model)
    for tensor in config["input"]:
        name, dims = tensor["name"], cpp.dims_of(tensor)
        kept = steps.input(name).tensor()
        kept.set_element_type(_element_type(config, "input", tensor))
        shape = ports[name].get_partial_shape()
        if _yes(config, "RESHAPE_IO_LAYERS"):
            kept.set_shape(_reshaped(shape, dims, config["max_batch_size"] > 0))
        else:
            cpp.check_openvino_shape(config, "input", name, _sizes(shape), dims)
        if config["max_batch_size"]:
            kept.set_layout(ov.Layout("N..."))
    return steps.build()


def _reshaped(shape: ov.PartialShape, dims: Sequence[int], batched: bool) -> ov.PartialShape:
    sizes = _sizes(shape)
    start = int(batched)
    if start + len(dims) > len(sizes):
        raise cpp.refusal("Accessing out-of-range dimension")
    sizes[start : start + len(dims)] = dims
    return ov.PartialShape(sizes)


def _with_outputs(model: ov.Model, config: cpp.Config) -> ov.Model:
    """The model with the types of config.pbtxt; raises where ValidateOutputs would.

    The C++ backend fixes the model's batch at max_batch_size. This one looks whether that is
    possible, and leaves it open.
    """
    fixed = model.clone()
    if config["max_batch_size"]:
        ov.set_batch(fixed, config["max_batch_size"])
    shapes = {port.get_any_name(): _sizes(port.get_partial_shape()) for port in fixed.outputs}
    cpp.check_names(config, "output", shapes)
    steps = ov.preprocess.PrePostProcessor(model)
    for tensor in config["output"]:
        name = tensor["name"]
        steps.output(name).tensor().set_element_type(_element_type(config, "output", tensor))
        cpp.check_openvino_shape(config, "output", name, shapes[name], cpp.dims_of(tensor))
    return steps.build()


def _element_type(config: cpp.Config, kind: str, tensor: Mapping[str, Any]) -> ov.Type:
    name, data_type = tensor["name"], tensor["data_type"]
    if data_type not in _OPENVINO_TYPES:
        what = f"unsupported datatype {data_type} for {kind} '{name}'"
        raise cpp.refusal(f"{what} for model '{config['name']}'")
    return _OPENVINO_TYPES[data_type]


def _sizes(shape: ov.PartialShape) -> list[int]:
    return [dim.get_length() if dim.is_static else -1 for dim in shape]


def _properties(config: cpp.Config) -> dict[str, Any]:
    """The device properties that config.pbtxt sets (ParseParameterHelper in openvino.cc)."""
    properties: dict[str, Any] = {}
    for key in ("INFERENCE_NUM_THREADS", "COMPILATION_NUM_THREADS"):
        if cpp.parameter(config, key):
            properties[key] = cpp.number(config, key)
    if bf16 := cpp.parameter(config, "HINT_BF16").lower():
        if bf16 != "yes":
            raise cpp.refusal(f"expected the parameter 'HINT_BF16' to be YES, got {bf16}")
        properties["INFERENCE_PRECISION_HINT"] = "bf16"
    if streams := cpp.parameter(config, "NUM_STREAMS").upper():
        known = streams in ("AUTO", "NUMA")
        words = "either AUTO/NUMA/<int_value>"
        properties["NUM_STREAMS"] = streams if known else cpp.number(config, "NUM_STREAMS", words)
    if hint := cpp.parameter(config, "PERFORMANCE_HINT").upper():
        if hint not in _HINTS:
            raise cpp.refusal(
                f"expected the parameter 'PERFORMANCE_HINT' to be {'/'.join(_HINTS)}, "
                f"got {hint.lower()}"
            )
        properties["PERFORMANCE_HINT"] = hint
    return properties
