"""Rules of the onnxruntime backend: parameters, accelerators, libraries of operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint import library, numbers
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Edit, Hit

_BACKEND = "onnxruntime_backend/src/onnxruntime.cc"
_AUTO, _GPU = 0, 1

_NUMBERS = ("intra_op_thread_count", "inter_op_thread_count", "execution_mode")
_SWITCHES = ("enable_mem_arena", "enable_mem_pattern")
_GPU_CHOICES = ("cudnn_conv_algo_search", "arena_extend_strategy")
"""Read for instances on a GPU only."""
_CHOICES = {
    "execution_mode": (0, 1),
    "cudnn_conv_algo_search": (0, 1, 2),
    "arena_extend_strategy": (0, 1),
}
_KNOWN = (
    *_NUMBERS,
    *_SWITCHES,
    *_GPU_CHOICES,
    "gpu_mem_limit",
    "do_copy_in_default_stream",
    "cudnn_conv_use_max_workspace",
    "memory.enable_memory_arena_shrinkage",
    "session.use_device_allocator_for_initializers",
    "TRITON_BATCH_STRATEGY_PATH",
    "EXECUTION_ENV_PATH",
)
_CUDA_SWITCHES = ("do_copy_in_default_stream", "use_ep_level_unified_stream")
_TENSORRT_SIZES = ("max_workspace_size_bytes",)
_TENSORRT_NUMBERS = (
    "trt_max_partition_iterations",
    "trt_min_subgraph_size",
    "trt_dla_core",
    "trt_builder_optimization_level",
    "trt_auxiliary_streams",
    "trt_ep_context_embed_mode",
)
_TENSORRT_SWITCHES = (
    "int8_use_native_calibration_table",
    "trt_dla_enable",
    "trt_engine_cache_enable",
    "trt_dump_subgraphs",
    "trt_force_sequential_engine_build",
    "trt_context_memory_sharing_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_timing_cache_enable",
    "trt_force_timing_cache",
    "trt_detailed_build_log",
    "trt_build_heuristics_enable",
    "trt_sparsity_enable",
    "trt_cuda_graph_enable",
    "trt_dump_ep_context_model",
)
_TENSORRT = (
    *_TENSORRT_SIZES,
    *_TENSORRT_NUMBERS,
    *_TENSORRT_SWITCHES,
    "precision_mode",
    "int8_calibration_table_name",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_timing_cache_path",
    "trt_tactic_sources",
    "trt_extra_plugin_lib_paths",
    "trt_profile_min_shapes",
    "trt_profile_max_shapes",
    "trt_profile_opt_shapes",
    "trt_ep_context_file_path",
)


def _here(model: Model) -> bool:
    return model.backend == "onnxruntime"


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
    """Thread counts, and choices that are numbers, start with one of 32 bits; 0 and 1 are modes."""
    if not _here(model):
        return
    for key in (*_NUMBERS, *(_GPU_CHOICES if may_have_gpu(model) else ())):
        value = model.parameter(key)
        path = f'parameters["{key}"]'
        if value is None:
            continue
        if what := numbers.why_no_number(value):
            yield Hit(what, path)
        elif key in _CHOICES and numbers.leading(value) not in _CHOICES[key]:
            known = ", ".join(map(str, _CHOICES[key]))
            yield Hit(f"'{value}' is none of {known}", path)


def parameter_switch(model: Model) -> Iterator[Hit]:
    """Switches of memory are true, on, 1, false, off or 0, in any case and with nothing around."""
    if not _here(model):
        return
    for key in _SWITCHES:
        value = model.parameter(key)
        if value is not None and not numbers.is_switch(value):
            what = f"'{value}' is none of true, on, 1, false, off, 0"
            yield Hit(what, f'parameters["{key}"]')


def may_have_gpu(model: Model) -> bool:
    """Whether an instance of the model can be on a GPU, as far as config and target say."""
    if model.target is not None and model.target.tensorrt is None:
        return False
    groups = model.config.instance_group
    return not groups or any(group.kind in (_AUTO, _GPU) for group in groups)


def op_library(model: Model) -> Iterator[Hit]:
    """Libraries of custom operators are there, and register operators."""
    if not _here(model):
        return
    for i, name in enumerate(model.config.model_operations.op_library_filename):
        path = f"model_operations.op_library_filename[{i}]"
        if problem := library.problem(name, "RegisterCustomOps"):
            yield Hit(problem, path)


def accelerator(model: Model) -> Iterator[Hit]:
    """Accelerators, and the parameters of `tensorrt`, are ones that the backend knows."""
    if not _here(model):
        return
    accelerators = model.config.optimization.execution_accelerators
    kinds: list[tuple[str, tuple[str, ...]]] = [("cpu", ("openvino",))]
    if may_have_gpu(model):  # elsewhere those of a GPU are not even read
        kinds.append(("gpu", ("tensorrt", "cuda")))
    for kind, known in kinds:
        for i, used in enumerate(getattr(accelerators, f"{kind}_execution_accelerator")):
            path = f"optimization.execution_accelerators.{kind}_execution_accelerator[{i}]"
            if used.name not in known:
                fix = did_you_mean(used.name, known)
                yield Hit(f"'{used.name}' is unknown", f"{path}.name", fix)
            elif used.name == "tensorrt":
                yield from _tensorrt(used, path)
            elif used.name == "cuda":
                yield from _switches(used, _CUDA_SWITCHES, path)


def _tensorrt(used: Any, path: str) -> Iterator[Hit]:
    for key in sorted(used.parameters):
        if key not in _TENSORRT:
            fix = did_you_mean(key, _TENSORRT)
            yield Hit(f"'{key}' is unknown", f'{path}.parameters["{key}"]', fix)
    modes = ("FP32", "FP16", "BF16", "INT8")
    mode = used.parameters.get("precision_mode", modes[0])
    if mode not in modes:
        what = f"'{mode}' is none of {', '.join(modes)}"
        yield Hit(what, f'{path}.parameters["precision_mode"]')
    yield from _switches(used, _TENSORRT_SWITCHES, path)
    for key in (*_TENSORRT_NUMBERS, *_TENSORRT_SIZES):
        fits = numbers.UINT64 if key in _TENSORRT_SIZES else numbers.INT
        if key in used.parameters and (what := numbers.why_no_number(used.parameters[key], fits)):
            yield Hit(what, f'{path}.parameters["{key}"]')


def _switches(used: Any, keys: Sequence[str], path: str) -> Iterator[Hit]:
    for key in keys:
        value = used.parameters.get(key, "true")
        if not numbers.is_switch(value):
            what = f"'{value}' is none of true, on, 1, false, off, 0"
            yield Hit(what, f'{path}.parameters["{key}"]')


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
    Rule("onnx-parameter-unknown", "warning", "sense", _BACKEND, parameter_unknown),
    Rule("onnx-parameter-number", "error", "backend", _BACKEND, parameter_number),
    Rule("onnx-parameter-switch", "error", "backend", _BACKEND, parameter_switch),
    Rule("onnx-accelerator", "error", "c++", _BACKEND, accelerator),
    Rule("onnx-op-library", "error", "backend", _BACKEND, op_library),
    Rule("onnx-graph-level", "note", "sense", _BACKEND, graph_level),
    Rule("tensorrt-cache-shared", "warning", "sense", "onnxruntime#6455", cache_shared),
)
