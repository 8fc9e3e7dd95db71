"""The checks of Triton's C++ backends at load, in their words, for our Python-based ones.

What these accept the C++ ones accept: a repository may move between them. Lies beside each
backend's model.py, where Triton's Python stub finds it; imports only what the stub has. Sources, of
r24.10: onnxruntime.cc, onnxruntime_utils.cc, openvino.cc, openvino_utils.cc, backend_common.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import triton_python_backend_utils as pb_utils

Config = Mapping[str, Any]
_INT = range(-(2**31), 2**31)
_CONTROLS = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}


class Tensor(NamedTuple):
    """What a model says of one of its tensors: Triton's type, and the full shape, -1 for any size.

    Of a scalar, and of what has no shape, the shape is [].
    """

    data_type: str
    shape: Sequence[int]


def refusal(message: str) -> Exception:
    """The exception that makes Triton refuse the model, with `message` in its log."""
    error: Exception = pb_utils.TritonModelException(message)
    return error


def unable(config: Config, why: str) -> Exception:
    """A refusal as the C++ backends begin most of theirs."""
    return refusal(f"unable to load model '{config['name']}', {why}")


def parameter(config: Config, key: str, default: str = "") -> str:
    """A model-level parameter of config.pbtxt."""
    return str(config["parameters"].get(key, {}).get("string_value", default))


def integer(config: Config, key: str, default: int = 0) -> int:
    """A parameter as std::stoi reads it: what follows the number is not looked at."""
    text = parameter(config, key, str(default))
    found = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", text)
    if not found:
        raise refusal(f"failed to convert '{text}' to integral number")
    if int(found[1]) not in _INT:
        raise refusal(f"parameter '{key}' is '{text}', which does not fit 32 bits")
    return int(found[1])


def switch(config: Config, key: str, default: str) -> bool:
    """A parameter as ParseBoolValue reads it."""
    text = parameter(config, key, default)
    if text.lower() in ("true", "on", "1"):
        return True
    if text.lower() in ("false", "off", "0"):
        return False
    raise refusal(f"failed to convert '{text}' to boolean")


def number(config: Config, key: str, words: str = "a non-negative number") -> int:
    """A parameter of digits only, as openvino.cc wants numbers."""
    text = parameter(config, key).lower()
    if not re.fullmatch("[0-9]+", text):
        raise refusal(f"expected the parameter '{key}' to be {words}, got {text}")
    return integer(config, key)


def model_file(args: Mapping[str, str], config: Config, default: str) -> Path:
    """The model's file in its version folder; raises where it is missing."""
    folder = Path(args["model_repository"]) / args["model_version"]
    path = folder / (config.get("default_model_filename") or default)
    if not path.exists():
        raise refusal(f"unable to find '{path}' for model '{config['name']}'")
    return path


def check_config(config: Config) -> None:
    """Raise for what config.pbtxt asks and no Python-based backend of ours does."""
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise refusal("a decoupled model; this backend answers each request exactly once")
    if config.get("optimization", {}).get("execution_accelerators"):
        raise refusal("execution_accelerators need Triton's C++ backend")
    for field in ("batch_input", "batch_output"):
        if config.get(field):
            raise refusal(f"{field} needs Triton's C++ backend")
    if config.get("sequence_batching", {}).get("state"):
        raise refusal("implicit state (sequence_batching.state) needs Triton's C++ backend")
    for tensor in [*config["input"], *config["output"]]:
        if tensor.get("allow_ragged_batch"):
            raise refusal(f"'{tensor['name']}': ragged batches need Triton's C++ backend")


def dims_of(tensor: Mapping[str, Any]) -> list[int]:
    """The shape of a config's tensor as the model sees it, without a batch dimension."""
    return [int(dim) for dim in tensor.get("reshape", {}).get("shape", tensor["dims"])]


def check_count(config: Config, expected: int, provided: int) -> None:
    """Raise where the config does not make as many inputs as the model has."""
    if expected != provided:
        why = f"configuration expects {expected} inputs, model provides {provided}"
        raise unable(config, why)


def check_names(config: Config, kind: str, allowed: Collection[str]) -> None:
    """Raise where an input or output (`kind`) of the config is none of the model's."""
    for tensor in config[kind]:
        if tensor["name"] not in allowed:
            names = ", ".join(sorted(allowed))
            raise refusal(
                f"unexpected inference {kind} '{tensor['name']}', allowed {kind}s are: {names}"
            )


def check_onnx(
    config: Config,
    required: Mapping[str, Tensor],
    overridable: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
) -> None:
    """Raise where the C++ onnxruntime backend would (the constructor of ModelInstanceState).

    `required` are the model's inputs without an initializer, `overridable` those with one.
    """
    controls = list(_controls(config))
    for name, data_type in controls:
        _check_control(config, name, data_type, required)
    listed = [tensor for tensor in config["input"] if not tensor["optional"]]
    check_count(config, len(listed) + len(controls), len(required))
    batched = config["max_batch_size"] > 0
    for tensor in config["input"]:
        if tensor["optional"] and batched:
            why = f"optional input '{tensor['name']}' is not supported for models that support"
            raise unable(config, f"{why} batching")
    for kind, tensors, exact in (
        ("input", {**required, **overridable}, False),
        ("output", outputs, True),
    ):
        check_names(config, kind, tensors)
        for tensor in config[kind]:
            _check_onnx_tensor(config, kind, tensor, tensors[tensor["name"]], exact)


def _controls(config: Config) -> Iterator[tuple[str, str]]:
    """Name and type of each kind of control."""
    for control in config.get("sequence_batching", {}).get("control_input", []):
        for part in control.get("control", []):
            given = (t for field, t in _CONTROLS.items() if part.get(field))
            yield control["name"], next(given, str(part.get("data_type")))


def _check_control(
    config: Config, name: str, data_type: str, required: Mapping[str, Tensor]
) -> None:
    if name not in required:
        what = f"configuration specified sequence control '{name}'"
        raise refusal(f"{what}, but model does not provide that input")
    row = list(required[name].shape)[int(config["max_batch_size"] > 0) :]
    if row != [1]:
        dims = _text(row)
        why = f"sequence control '{name}' in model has dims {dims} but dims [1] is expected"
        raise unable(config, why)
    if data_type != required[name].data_type:
        raise unable(
            config,
            f"sequence control '{name}', the model expects data-type {_onnx_name(required[name])} "
            f"but the model configuration specifies data-type {data_type}",
        )


def _onnx_name(tensor: Tensor) -> str:
    """OnnxDataTypeName in onnxruntime_utils.cc."""
    names = {"FP16": "FLOAT16", "BF16": "BFLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    name = tensor.data_type.removeprefix("TYPE_")
    return names.get(name, name)


def _check_onnx_tensor(
    config: Config, kind: str, tensor: Mapping[str, Any], model: Tensor, exact: bool
) -> None:
    name, given = tensor["name"], tensor["data_type"]
    if given != model.data_type:
        why = f"configuration expects datatype {given} for {kind} '{name}', "
        raise unable(config, f"{why}model provides {model.data_type}")
    dims = dims_of(tensor)
    if model.shape:
        _check_onnx_shape(config, name, model.shape, dims, exact)
    elif any(dim != 1 for dim in dims):
        raise unable(
            config,
            f"scalar tensor '{name}', should only provide 1 in the model configuration when the "
            f"model doesn't support batching. Model configuration provided: {_text(dims)}.",
        )


def _check_onnx_shape(
    config: Config, name: str, shape: Sequence[int], dims: Sequence[int], exact: bool
) -> None:
    """CompareDimsSupported in onnxruntime_utils.cc."""
    batched = config["max_batch_size"] > 0
    if batched and shape[0] != -1:
        raise refusal(
            f"model '{config['name']}', tensor '{name}': for the model to support batching the "
            "shape should have at least 1 dimension and the first dimension must be -1; but shape "
            f"expected by the model is {_text(shape)}"
        )
    full = [-1, *dims] if batched else list(dims)
    _check_match(config, name, shape, full, lambda have: not exact and have == -1)


def check_openvino_shape(
    config: Config, kind: str, name: str, shape: Sequence[int], dims: Sequence[int]
) -> None:
    """CompareDimsSupported in openvino_utils.cc, for a model whose batch is already set."""
    batch = config["max_batch_size"]
    if batch and not shape:
        raise refusal(
            f"model '{config['name']}', tensor '{name}': for the model to support batching the "
            "shape should have at least 1 dimension"
        )
    full = [batch, *dims] if batch else list(dims)
    if batch and kind == "input" and len(shape) == len(full):
        # Dimension 0 gets its size, and -1 in the config fits what the model fixes.
        rest = zip(shape[1:], dims, strict=True)
        shape = [-1, *(-1 if want == -1 else have for have, want in rest)]
    _check_match(config, name, shape, full, lambda have: have == -1)


def _check_match(
    config: Config,
    name: str,
    shape: Sequence[int],
    full: Sequence[int],
    takes_any: Callable[[int], bool],
) -> None:
    """Raise unless the full shapes of model and config have as many dimensions, which fit."""
    pairs = zip(shape, full, strict=False)
    if len(shape) != len(full) or not all(a == b or takes_any(a) for a, b in pairs):
        complete = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor "
            f"shape, making complete shape {_text(full)}"
            if config["max_batch_size"]
            else f"shape {_text(full)}"
        )
        raise refusal(
            f"model '{config['name']}', tensor '{name}': the model expects {len(shape)} dimensions "
            f"(shape {_text(shape)}) but the model configuration specifies {len(full)} dimensions "
            f"({complete})"
        )


def _text(shape: Sequence[int]) -> str:
    """ShapeToString in backend_common.cc."""
    return "[" + ",".join(map(str, shape)) + "]"
