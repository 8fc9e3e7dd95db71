"""Triton's `openvino` backend in Python, for a Triton that lacks the C++ one.

Reads the same config.pbtxt, with the keys and defaults of the C++ backend; what it cannot do it
refuses at load. Each instance is a process with a compiled model of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import joined_requests as joined
import openvino as ov
import triton_python_backend_utils as pb_utils

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
        self._config = config = json.loads(args["model_config"])
        joined.check_config(config)
        if args["model_instance_kind"] != "CPU":
            raise joined.refusal(
                "instance_group must be KIND_CPU; the parameter TARGET_DEVICE chooses the device"
            )
        if _yes(config, "ENABLE_BATCH_PADDING"):
            raise joined.refusal("ENABLE_BATCH_PADDING needs Triton's C++ backend")
        path = joined.model_file(args, config, "model.xml")
        core = ov.Core()
        if extension := joined.parameter(config, "CPU_EXTENSION_PATH"):
            core.add_extension(extension)
        model = core.read_model(path)
        if _yes(config, "RESHAPE_IO_LAYERS"):
            _reshape(model, config)
        model = _with_types(model, config)
        batch = config["max_batch_size"]
        joined.check_tensors(config, "input", _signatures(model.inputs), batch=batch, exact=False)
        joined.check_tensors(config, "output", _signatures(model.outputs), batch=batch, exact=False)
        joined.check_complete(config, [port.get_any_name() for port in model.inputs])
        device = joined.parameter(config, "TARGET_DEVICE", "CPU").upper()
        compiled = core.compile_model(model, device, _properties(config))
        self._request = compiled.create_infer_request()
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
        responses: list[Any] = joined.execute(requests, self._run, self._config)
        return responses

    def _run(self, feeds: joined.Feeds, wanted: Sequence[str]) -> Sequence[joined.Array]:
        # Inputs are shared, outputs copied: the next run of this request overwrites them.
        results = self._request.infer(feeds, share_inputs=True)
        return [results[self._outputs[name]] for name in wanted]


def _yes(config: joined.Config, key: str) -> bool:
    return str(joined.parameter(config, key)).lower() == "yes"


def _reshape(model: ov.Model, config: joined.Config) -> None:
    """Give the model's inputs the dims of config.pbtxt; a batch dimension stays as it is."""
    shapes = {}
    for tensor in config["input"]:
        shape = [int(dim) for dim in tensor.get("reshape", {}).get("shape", tensor["dims"])]
        if config["max_batch_size"]:
            shape.insert(0, -1)
        shapes[tensor["name"]] = ov.PartialShape(shape)
    model.reshape(shapes)


def _with_types(model: ov.Model, config: joined.Config) -> ov.Model:
    """The model, converting where a type in config.pbtxt differs from its own."""
    steps = ov.preprocess.PrePostProcessor(model)
    for kind, ports, convert in (
        ("input", model.inputs, steps.input),
        ("output", model.outputs, steps.output),
    ):
        names = {name for port in ports for name in port.get_names()}
        for tensor in config[kind]:
            if tensor["data_type"] not in _OPENVINO_TYPES:
                raise joined.refusal(f"{kind} '{tensor['name']}' cannot be {tensor['data_type']}")
            if tensor["name"] in names:
                kept = convert(tensor["name"]).tensor()
                kept.set_element_type(_OPENVINO_TYPES[tensor["data_type"]])
    return steps.build()


def _signatures(ports: Sequence[Any]) -> dict[str, joined.Signature]:
    triton_types = {openvino: triton for triton, openvino in _OPENVINO_TYPES.items()}
    return {
        name: (
            triton_types.get(port.get_element_type(), port.get_element_type().get_type_name()),
            [dim.get_length() if dim.is_static else -1 for dim in port.get_partial_shape()],
        )
        for port in ports
        for name in port.get_names()
    }


def _properties(config: joined.Config) -> dict[str, Any]:
    """The device properties that config.pbtxt sets, checked as the C++ backend checks them."""
    properties: dict[str, Any] = {}
    for key in ("INFERENCE_NUM_THREADS", "COMPILATION_NUM_THREADS"):
        if joined.parameter(config, key):
            properties[key] = joined.integer(config, key)
    if streams := joined.parameter(config, "NUM_STREAMS").upper():
        known = streams in ("AUTO", "NUMA")
        properties["NUM_STREAMS"] = streams if known else joined.integer(config, "NUM_STREAMS")
    if hint := joined.parameter(config, "PERFORMANCE_HINT").upper():
        if hint not in _HINTS:
            raise joined.refusal(f"PERFORMANCE_HINT is '{hint}'; one of {', '.join(_HINTS)}")
        properties["PERFORMANCE_HINT"] = hint
    if bf16 := joined.parameter(config, "HINT_BF16"):
        if bf16.lower() != "yes":
            raise joined.refusal(f"HINT_BF16 is '{bf16}'; only YES exists")
        properties["INFERENCE_PRECISION_HINT"] = "bf16"
    return properties
