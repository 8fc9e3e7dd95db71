"""Rules of the onnxruntime backend: the config against the ONNX file, parameters, accelerators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.onnx_io import Border, Io
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Edit, Hit

_BACKEND = "onnxruntime_backend/src/onnxruntime.cc"
_UTILS = "onnxruntime_backend/src/onnxruntime_utils.cc"

_NUMBERS = (
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
    "cudnn_conv_use_max_workspace",
)
_KNOWN = (
    *_NUMBERS,
    "memory.enable_memory_arena_shrinkage",
    "session.use_device_allocator_for_initializers",
    "TRITON_BATCH_STRATEGY_PATH",
    "EXECUTION_ENV_PATH",
)
_TENSORRT = (
    "precision_mode",
    "max_workspace_size_bytes",
    "int8_calibration_table_name",
    "int8_use_native_calibration_table",
    "trt_max_partition_iterations",
    "trt_min_subgraph_size",
    "trt_dla_enable",
    "trt_dla_core",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_dump_subgraphs",
    "trt_force_sequential_engine_build",
    "trt_context_memory_sharing_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
    "trt_force_timing_cache",
    "trt_detailed_build_log",
    "trt_build_heuristics_enable",
    "trt_sparsity_enable",
    "trt_builder_optimization_level",
    "trt_auxiliary_streams",
    "trt_tactic_sources",
    "trt_extra_plugin_lib_paths",
    "trt_profile_min_shapes",
    "trt_profile_max_shapes",
    "trt_profile_opt_shapes",
    "trt_cuda_graph_enable",
    "trt_dump_ep_context_model",
    "trt_ep_context_file_path",
    "trt_ep_context_embed_mode",
)


def _here(model: Model) -> bool:
    return model.backend == "onnxruntime"


def _ios(model: Model) -> Iterator[tuple[int, Io]]:
    """Version and border of each ONNX file that can be read, for this backend."""
    if _here(model):
        for version, io in model.ios.items():
            if isinstance(io, Io):
                yield version, io


def _pairs(model: Model) -> Iterator[tuple[str, str, Any, Border]]:
    """Path, kind, config's tensor and model's tensor of the same name."""
    for _, io in _ios(model):
        for kind, borders in (("input", io.inputs), ("output", io.outputs)):
            for i, tensor in enumerate(getattr(model.config, kind)):
                if tensor.name in borders:
                    yield f"{kind}[{i}]", kind, tensor, borders[tensor.name]


def unreadable(model: Model) -> Iterator[Hit]:
    """The model's file must be ONNX, and whole."""
    if _here(model):
        for io in model.ios.values():
            if isinstance(io, Hit):
                yield io


def unknown_tensor(model: Model) -> Iterator[Hit]:
    """Inputs and outputs of the config are those of the model."""
    for _, io in _ios(model):
        controls = {c.name for c in model.config.sequence_batching.control_input}
        for kind, borders in (("input", io.inputs), ("output", io.outputs)):
            for i, tensor in enumerate(getattr(model.config, kind)):
                if tensor.name and tensor.name not in borders:
                    fix = did_you_mean(tensor.name, [n for n in borders if n not in controls])
                    yield Hit(f"the model has no {kind} '{tensor.name}'", f"{kind}[{i}].name", fix)


def input_missing(model: Model) -> Iterator[Hit]:
    """The config lists every input of the model that has no initializer."""
    for _, io in _ios(model):
        sequence = model.config.sequence_batching
        given = {t.name for t in model.config.input}
        given |= {c.name for c in sequence.control_input} | {s.input_name for s in sequence.state}
        given |= {name for made in model.config.batch_input for name in made.target_name}
        for name in io.inputs:
            if name not in given and name not in io.initialized:
                yield Hit(f"the model's input '{name}' is not listed", "input")


def untyped_tensor(model: Model) -> Iterator[Hit]:
    """The model's inputs and outputs are tensors of types that Triton has."""
    for path, _, _, border in _pairs(model):
        if border.held or not border.dtype:
            what = border.held or "of a type that Triton does not have"
            yield Hit(f"'{border.name}' is {what} in the model", path)


def type_differs(model: Model) -> Iterator[Hit]:
    """Data types are those of the model."""
    for path, _, tensor, border in _pairs(model):
        numbers = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type
        ours = numbers.values_by_number[tensor.data_type].name
        if border.dtype and tensor.data_type and ours != f"TYPE_{border.dtype}":
            what = f"is {ours}, but TYPE_{border.dtype} in the model"
            edit = Edit(f"{path}.data_type", f"TYPE_{border.dtype}")
            yield Hit(what, f"{path}.data_type", edit=edit)


def _shapes(model: Model) -> Iterator[tuple[str, str, list[int], tuple[int, ...]]]:
    """Path, kind, the config's full shape and the model's, where both are known and no scalar."""
    scattered = {n for o in model.config.batch_output for n in o.target_name}
    for path, kind, tensor, border in _pairs(model):
        ragged = kind == "input" and tensor.allow_ragged_batch
        if not border.shape or ragged or tensor.name in scattered or not tensor.dims:
            continue
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        yield path, kind, [-1, *dims] if model.batched else list(dims), border.shape


def batch_fixed(model: Model) -> Iterator[Hit]:
    """With max_batch_size, dimension 0 of everything is dynamic in the model."""
    if model.batched:
        for path, _, _, border in _pairs(model):
            if border.shape and border.shape[0] != -1:
                what = f"dimension 0 of '{border.name}' is fixed at {border.shape[0]} in the model"
                yield Hit(what, path, "write max_batch_size: 0, or export it with a dynamic batch")
            elif border.shape == ():
                what = f"'{border.name}' is a scalar in the model, so there is no batch dimension"
                yield Hit(what, path, "write max_batch_size: 0")


def shape_differs(model: Model) -> Iterator[Hit]:
    """Full shapes fit the model's: as many dimensions, and equal where both are fixed."""
    for path, _, ours, theirs in _shapes(model):
        if model.batched and theirs[0] != -1:
            continue
        same = len(ours) == len(theirs) and all(
            -1 in (a, b) or a == b for a, b in zip(ours, theirs, strict=True)
        )
        if not same:
            yield Hit(f"{ours} is the full shape, but {list(theirs)} in the model", f"{path}.dims")


def shape_inexact(model: Model) -> Iterator[Hit]:
    """Where the model fixes a size the config has it too; outputs are equal in every dimension."""
    for path, kind, ours, theirs in _shapes(model):
        if len(ours) != len(theirs):
            continue
        start = int(model.batched)
        for a, b in list(zip(ours, theirs, strict=True))[start:]:
            if a != b and -1 in (a, b) and (kind == "output" or b != -1):
                what = f"{ours} is the full shape, but {list(theirs)} in the model"
                yield Hit(what, f"{path}.dims", "write the model's own dims")
                break


def scalar_dims(model: Model) -> Iterator[Hit]:
    """A scalar of the model is written as dims: [1]."""
    for path, _, tensor, border in _pairs(model):
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        if border.shape == () and not model.batched and any(d != 1 for d in dims):
            edit = Edit(f"{path}.dims", "[1]")
            yield Hit("a scalar of the model is dims: [1]", f"{path}.dims", edit=edit)


def optional_batched(model: Model) -> Iterator[Hit]:
    """Optional inputs need max_batch_size: 0."""
    if _here(model) and model.batched:
        for i, tensor in enumerate(model.config.input):
            if tensor.optional:
                yield Hit("needs max_batch_size: 0", f"input[{i}].optional")


def ragged_shape(model: Model) -> Iterator[Hit]:
    """A ragged input has the shape [-1] in the model."""
    for path, kind, tensor, border in _pairs(model):
        if kind == "input" and tensor.allow_ragged_batch and border.shape != (-1,):
            shape = "an unknown shape" if border.shape is None else list(border.shape)
            yield Hit(f"needs [-1] in the model, which has {shape}", f"{path}.allow_ragged_batch")


def parameter_unknown(model: Model) -> Iterator[Hit]:
    """Parameters that the backend does not read are ignored without a word."""
    if not _here(model):
        return
    for key in sorted(model.config.parameters):
        if key not in _KNOWN and not key.startswith("repo_builder."):
            right = _meant(key)
            edit = Edit(f'parameters["{key}"].key', f'"{right}"') if right else None
            fix = f"it is called {right}" if right else did_you_mean(key, _KNOWN)
            yield Hit("is not read by onnxruntime", f'parameters["{key}"]', fix, edit)


def _meant(key: str) -> str:
    """The backend's name for what ONNX Runtime itself calls otherwise."""
    return {
        "intra_op_num_threads": "intra_op_thread_count",
        "inter_op_num_threads": "inter_op_thread_count",
        "enable_cpu_mem_arena": "enable_mem_arena",
    }.get(key, "")


def parameter_number(model: Model) -> Iterator[Hit]:
    """Thread counts and switches are whole numbers."""
    if not _here(model):
        return
    for key in _NUMBERS:
        value = model.parameter(key)
        path = f'parameters["{key}"]'
        if value is None:
            continue
        if not re.match(r"\s*[+-]?\d+", value):
            yield Hit(f"'{value}' is no whole number", path)
        elif key == "execution_mode" and int(re.findall(r"[+-]?\d+", value)[0]) not in (0, 1):
            yield Hit(f"'{value}' is neither 0 (sequential) nor 1 (parallel)", path)


def accelerator(model: Model) -> Iterator[Hit]:
    """Accelerators, and the parameters of `tensorrt`, are ones that the backend knows."""
    if not _here(model):
        return
    accelerators = model.config.optimization.execution_accelerators
    for kind, known in (("gpu", ("tensorrt", "cuda", "auto")), ("cpu", ("openvino",))):
        for i, used in enumerate(getattr(accelerators, f"{kind}_execution_accelerator")):
            path = f"optimization.execution_accelerators.{kind}_execution_accelerator[{i}]"
            if used.name not in known:
                yield Hit(
                    f"'{used.name}' is unknown", f"{path}.name", did_you_mean(used.name, known)
                )
            yield from _tensorrt(used, path)


def _tensorrt(used: Any, path: str) -> Iterator[Hit]:
    if used.name != "tensorrt":
        return
    for key in sorted(used.parameters):
        if key not in _TENSORRT:
            fix = did_you_mean(key, _TENSORRT)
            yield Hit(f"'{key}' is unknown", f'{path}.parameters["{key}"]', fix)
    modes = ("FP32", "FP16", "BF16", "INT8")
    mode = used.parameters.get("precision_mode", modes[0])
    if mode not in modes:
        what = f"'{mode}' is none of {', '.join(modes)}"
        yield Hit(what, f'{path}.parameters["precision_mode"]')


def graph_level(model: Model) -> Iterator[Hit]:
    """The graph level means something else here than the protocol says: 2 switches all off."""
    level = model.config.optimization.graph.level
    if _here(model) and level not in (-1, 0, 1):
        what = "switches all optimization off" if level == 2 else "means the same as 0: all"
        yield Hit(f"{level} {what}", "optimization.graph.level", "-1 basic, 0 all, 1 extended")


def cache_shared(model: Model) -> Iterator[Hit]:
    """Two models with one TensorRT cache folder have been served one another's engine."""
    if not _here(model):
        return
    for path, folder in _caches(model):
        others = [
            m for n, m in model.repository.items() if n != model.name and m.config is not None
        ]
        shared = [m.name for m in others if folder in (f for _, f in _caches(m))]
        if shared:
            yield Hit(f"'{folder}' is also the cache of '{shared[0]}'", path, "one folder a model")


def _caches(model: Model) -> Sequence[tuple[str, str]]:
    used = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    base = "optimization.execution_accelerators.gpu_execution_accelerator"
    key = "trt_engine_cache_path"
    return [
        (f'{base}[{i}].parameters["{key}"]', a.parameters[key])
        for i, a in enumerate(used)
        if key in a.parameters
    ]


RULES = (
    Rule("onnx-unreadable", "error", "backend", "onnxruntime", unreadable),
    Rule("onnx-unknown-tensor", "error", "backend", _BACKEND, unknown_tensor),
    Rule("onnx-input-missing", "error", "backend", _BACKEND, input_missing),
    Rule("onnx-no-tensor", "error", "backend", _BACKEND, untyped_tensor),
    Rule("onnx-type", "error", "backend", _BACKEND, type_differs),
    Rule("onnx-batch-fixed", "error", "backend", _UTILS, batch_fixed),
    Rule("onnx-shape", "error", "backend", _UTILS, shape_differs),
    Rule("onnx-shape-inexact", "error", "backend", _UTILS, shape_inexact),
    Rule("onnx-scalar", "error", "backend", _BACKEND, scalar_dims),
    Rule("onnx-optional", "error", "backend", _BACKEND, optional_batched),
    Rule("onnx-ragged", "error", "c++", _BACKEND, ragged_shape),
    Rule("onnx-parameter-unknown", "warning", "sense", _BACKEND, parameter_unknown),
    Rule("onnx-parameter-number", "error", "backend", _BACKEND, parameter_number),
    Rule("onnx-accelerator", "error", "c++", _BACKEND, accelerator),
    Rule("onnx-graph-level", "note", "sense", _BACKEND, graph_level),
    Rule("tensorrt-cache-shared", "warning", "sense", "onnxruntime#6455", cache_shared),
)
