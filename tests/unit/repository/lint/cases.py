"""For every rule a world that breaks it and one, as near as can be, that does not."""

from __future__ import annotations

import dataclasses

from repo_builder.targets import load
from repo_builder.targets.types import Cpu, Memory
from tests.unit.repository.lint.world import (
    BATCHED,
    GOOD,
    MLP,
    MODEL_PY,
    PYTHON,
    TENSORS,
    World,
    python,
)

TARGETS = load()
CPU = TARGETS["cpu"].model_copy(update={"cpu": Cpu(title="two cores", cores=2)})
TINY = CPU.model_copy(update={"memory": Memory(title="none to speak of", size_mb=0.0001)})
PLAN = 'backend: "tensorrt"\nmax_batch_size: 8\n' + TENSORS
PLANS = {"1/model.plan": b"plan"}
IR = 'backend: "openvino"\nmax_batch_size: 0\n' + TENSORS
IRS: dict[str, str | bytes | None] = {"1/model.xml": b"<net/>", "1/model.bin": b""}
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input { name: "image" data_type: TYPE_FP32 dims: [4] }
output { name: "scores" data_type: TYPE_FP32 dims: [2] }
"""
STEP = """
ensemble_scheduling {
  step { model_name: "inner" model_version: -1
    input_map { key: "x" value: "image" } output_map { key: "y" value: "scores" } }
}
"""


def io(dims: str = "[4]", more: str = "", batch: int = 8) -> World:
    """A python model whose input is written so."""
    tensor = f'input {{ name: "x" data_type: TYPE_FP32 dims: {dims} {more} }}\n'
    output = 'output { name: "y" data_type: TYPE_FP32 dims: [2] }\n'
    return python(f'backend: "python"\nmax_batch_size: {batch}\n{tensor}{output}')


def more(text: str, base: str = PYTHON) -> World:
    return python(base + text)


def onnx(config: str, model: str | bytes = MLP) -> World:
    return World(config, {"1/model.onnx": model})


def warm(inputs: str, batch: str = "batch_size: 1") -> World:
    entry = f'inputs {{ key: "x" value {{ {inputs} }} }}' if inputs else ""
    return more(f'model_warmup {{ name: "w" {batch} {entry} }}\n')


WARM = "data_type: TYPE_FP32 dims: [4] zero_data: true"


def ensemble(config: str = ENSEMBLE + STEP, **beside: World) -> World:
    return World(config, {"1": None}, beside or {"inner": python()})


def step(maps: str, name: str = "inner") -> World:
    return ensemble(
        ENSEMBLE
        + f'ensemble_scheduling {{ step {{ model_name: "{name}" model_version: -1 {maps} }} }}'
    )


AGAIN = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\n'
IN = 'input_map { key: "x" value: "image" }'
OUT = 'output_map { key: "y" value: "scores" }'


def sequence(text: str) -> World:
    return more(f"sequence_batching {{ {text} }}\n")


def control(text: str, name: str = "c") -> str:
    return f'control_input {{ name: "{name}" control {{ {text} }} }}'


START = "kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]"
END = "kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1]"


def parameter(key: str, value: str, base: str = BATCHED) -> str:
    return base + f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def ir(config: str) -> World:
    return World(config, IRS)


def plan(config: str) -> World:
    return World(config, PLANS)


def for_target(world: World, target=CPU) -> World:
    return dataclasses.replace(world, target=target)


twice = f'}} step {{ model_name: "inner" model_version: -1 {IN} {OUT}'
CORE_CASES: dict[str, tuple[World, World]] = {
    "config-unreadable": (World("name: "), World()),
    "bad-disable": (
        more("# lint: disable=io-nam because\n"),
        more("# lint: disable=io-name because\n"),
    ),
    "name-differs": (more('name: "other"\n'), more('name: "m"\n')),
    "version-none": (python().with_files(), python()),
    "version-ignored": (
        python().with_files(**{"1/model.py": b"", "v2/model.py": b""}),
        python().with_files(**{"1/model.py": b"", "2/model.py": b""}),
    ),
    "poll-name": (
        python().with_files(**{"1/model.py": MODEL_PY, "config": b""}),
        python().with_files(**{"1/model.py": MODEL_PY, "configs/m.pbtxt": PYTHON.encode()}),
    ),
    "poll-unfinished": (
        python().with_files(**{"1/model.py": MODEL_PY, "1/.model.py.x8Kd2a": b""}),
        python().with_files(**{"1/model.py": MODEL_PY, "1/.hidden": b"", "1/a.tmpl": b""}),
    ),
    "version-huge": (
        python().with_files(**{"1/model.py": b"", f"{'9' * 20}/model.py": b""}),
        python().with_files(**{"1/model.py": b"", f"{'9' * 18}/model.py": b""}),
    ),
    "version-odd": (python().with_files(**{"1abc/model.py": b""}), python()),
    "version-missing": (
        more("version_policy { specific { versions: [1, 2] } }\n"),
        more("version_policy { specific { versions: [1] } }\n"),
    ),
    "file-missing": (World(GOOD, {"1/other.onnx": MLP}), World()),
    "file-escapes": (
        more('default_model_filename: "../model.py"\n'),
        more('default_model_filename: "model.py"\n'),
    ),
    "label-missing": (
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "l.txt"')),
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "l.txt"')).with_files(
            **{"1/model.py": b"", "l.txt": b"a\nb\n"}
        ),
    ),
    "label-escapes": (
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "../l.txt"')),
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "l.txt"')),
    ),
    "label-count": (
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "l.txt"')).with_files(
            **{"1/model.py": b"", "l.txt": b"a\n"}
        ),
        python(PYTHON.replace("dims: [2]", 'dims: [2] label_filename: "l.txt"')).with_files(
            **{"1/model.py": b"", "l.txt": b"a\nb\n"}
        ),
    ),
    "backend-unknown": (
        World("max_batch_size: 8" + TENSORS, {"1/weights": b""}),
        World('max_batch_size: 8 backend: "b"' + TENSORS, {"1/weights": b""}),
    ),
    "backend-left-out": (World("max_batch_size: 8" + TENSORS), World()),
    "backend-platform": (
        onnx(GOOD + 'platform: "tensorrt_plan"\n'),
        onnx(GOOD + 'platform: "onnxruntime_onnx"\n'),
    ),
    "backend-foreign": (
        World(PYTHON.replace("python", "mine"), {"1/weights": b""}),
        World(PYTHON.replace("python", "mine"), {"1/libtriton_mine.so": b""}),
    ),
    "runtime-unknown": (
        python(PYTHON + 'runtime: "model.py"\n'),
        onnx(GOOD + 'runtime: "model.py"\n'),
    ),
    "agent-unknown": (
        more('model_repository_agents { agents { name: "x" } }\n'),
        more('model_repository_agents { agents { name: "checksum" } }\n'),
    ),
    "python-syntax": (python().with_files(**{"1/model.py": b"class ("}), python()),
    "python-class": (python().with_files(**{"1/model.py": b"x = 1"}), python()),
    "ensemble-backend": (ensemble('backend: "python"' + ENSEMBLE + STEP), ensemble()),
    "batch-negative": (io(batch=-1), io(batch=0)),
    "batch-left-out": (python('backend: "python"' + TENSORS), python()),
    "cache-conflict": (
        more("response_cache { enable: true } sequence_batching { direct {} }\n"),
        more("response_cache { enable: false } sequence_batching { direct {} }\n"),
    ),
    "cache-needs-flag": (
        more("response_cache { enable: true }\n"),
        more("response_cache { enable: false }\n"),
    ),
    "cache-outlives": (
        more("response_cache { enable: true }\n"),
        more("response_cache { enable: false }\n"),
    ),
    "metrics-incomplete": (
        more("model_metrics { metric_control { metric_identifier { family: 'f' } } }\n"),
        more(
            "model_metrics { metric_control { metric_identifier { family: 'f' } "
            "histogram_options { buckets: [1] } } }\n"
        ),
    ),
    "metric-tags": (
        more('metric_tags { key: "a-b" value: "c" }\n'),
        more('metric_tags { key: "a_b" value: "c" }\n'),
    ),
    "io-name": (python(PYTHON.replace('name: "x"', "")), python()),
    "io-twice": (more(AGAIN), python()),
    "input-twice": (onnx(GOOD + AGAIN), onnx(GOOD)),
    "io-type": (python(PYTHON.replace("data_type: TYPE_FP32 dims: [4]", "dims: [4]")), python()),
    "dims-empty": (io("[]"), io("[1]")),
    "dims-value": (io("[0]"), io("[-1]")),
    "reshape-empty": (io("[1]", "reshape {}", 0), io("[1]", "reshape {}", 8)),
    "reshape-count": (
        io("[2, 4, -1, 6]", "reshape { shape: [8, -1, 5] }"),
        io("[2, 4, -1, 6]", "reshape { shape: [8, -1, 1, 6] }"),
    ),
    "format-dims": (io("[4]", "format: FORMAT_NCHW"), io("[1, 2, 2]", "format: FORMAT_NCHW")),
    "tensorrt-only": (
        io("[4]", "is_shape_tensor: true"),
        plan(PLAN.replace("dims: [4]", "dims: [4] is_shape_tensor: true")),
    ),
    "batch-input": (
        more('batch_input { target_name: "t" data_type: TYPE_FP32 source_input: "z" }\n'),
        more('batch_input { target_name: "t" data_type: TYPE_FP32 source_input: "x" }\n'),
    ),
    "batch-output": (
        more('batch_output { target_name: "y" source_input: "z" }\n'),
        more('batch_output { target_name: "y" source_input: "x" }\n'),
    ),
    "batch-in-dims": (
        python(PYTHON.replace("[4]", "[-1, 4]").replace("[2]", "[-1, 2]")),
        python(PYTHON.replace("[4]", "[-1, 4]")),
    ),
    "preferred-size": (
        more("dynamic_batching { preferred_batch_size: [9] }\n"),
        more("dynamic_batching { preferred_batch_size: [8] }\n"),
    ),
    "preferred-needless": (
        more("dynamic_batching { preferred_batch_size: [8] }\n"),
        more("dynamic_batching {}\n"),
    ),
    "batching-unbatched": (
        python(PYTHON.replace("size: 8", "size: 0") + "dynamic_batching {}\n"),
        more("dynamic_batching {}\n"),
    ),
    "priority-default": (
        more("dynamic_batching { priority_levels: 2 }\n"),
        more("dynamic_batching { priority_levels: 2 default_priority_level: 1 }\n"),
    ),
    "priority-policy": (
        more(
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 3 value {} } }\n"
        ),
        more(
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 2 value {} } }\n"
        ),
    ),
    "preserve-ordering": (
        more(
            "dynamic_batching { preserve_ordering: true default_queue_policy { "
            "timeout_action: DELAY default_timeout_microseconds: 1 } }\n"
        ),
        more(
            "dynamic_batching { preserve_ordering: true default_queue_policy { "
            "timeout_action: REJECT default_timeout_microseconds: 1 } }\n"
        ),
    ),
    "control-name": (
        sequence(control(START) + control(END)),
        sequence(control(START) + control(END, "d")),
    ),
    "control-twice": (
        sequence(control(START) + control(START, "d")),
        sequence(control(START) + control(END, "d")),
    ),
    "control-values": (
        sequence(control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32")),
        sequence(control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64")),
    ),
    "slot-utilization": (
        sequence("direct { minimum_slot_utilization: 1.5 }"),
        sequence("direct { minimum_slot_utilization: 0.5 }"),
    ),
    "initial-state": (
        sequence("state { initial_state {} initial_state {} }"),
        sequence('state { initial_state { name: "i" zero_data: true } }'),
    ),
    "strategy-path": (
        python(
            parameter("TRITON_BATCH_STRATEGY_PATH", "/l.so", PYTHON)
            + "sequence_batching { direct {} }\n"
        ),
        python(parameter("TRITON_BATCH_STRATEGY_PATH", "/l.so", PYTHON)),
    ),
    "strategy-missing": (
        python(parameter("TRITON_BATCH_STRATEGY_PATH", "/nowhere/l.so", PYTHON)),
        python(PYTHON),
    ),
    "gpus-without-gpu": (
        more("instance_group { kind: KIND_CPU gpus: [0] }\n"),
        more("instance_group { kind: KIND_GPU gpus: [0] }\n"),
    ),
    "kind-gpu": (
        for_target(more("instance_group { kind: KIND_GPU }\n")),
        for_target(more("instance_group { kind: KIND_CPU }\n")),
    ),
    "profile": (
        more('instance_group { profile: "0" }\n'),
        plan(PLAN + 'instance_group { profile: "0" }\n'),
    ),
    "secondary-devices": (
        more("instance_group { secondary_devices { kind: KIND_NVDLA } }\n"),
        plan(PLAN + "instance_group { secondary_devices { kind: KIND_NVDLA } }\n"),
    ),
    "rate-limiter": (
        more("instance_group { rate_limiter { priority: 1 } }\n"),
        more("instance_group { count: 1 }\n"),
    ),
    "warmup-skipped": (warm(WARM, ""), warm(WARM)),
    "warmup-variable": (warm("data_type: TYPE_FP32 dims: [-1] zero_data: true"), warm(WARM)),
    "warmup-data": (warm("data_type: TYPE_FP32 dims: [4]"), warm(WARM)),
    "warmup-file": (
        warm('data_type: TYPE_FP32 dims: [4] input_data_file: "d"'),
        warm('data_type: TYPE_FP32 dims: [4] input_data_file: "d"').with_files(
            **{"1/model.py": b"", "warmup/d": b"\0" * 16}
        ),
    ),
    "warmup-untyped": (warm("dims: [4] zero_data: true"), warm(WARM)),
    "warmup-shape": (warm("data_type: TYPE_FP32 dims: [5] zero_data: true"), warm(WARM)),
    "warmup-unknown-input": (
        onnx(GOOD + f'model_warmup {{ batch_size: 1 inputs {{ key: "z" value {{ {WARM} }} }} }}\n'),
        onnx(GOOD + f'model_warmup {{ batch_size: 1 inputs {{ key: "x" value {{ {WARM} }} }} }}\n'),
    ),
    "warmup-batch": (warm(WARM, "batch_size: 9"), warm(WARM, "batch_size: 8")),
    "ensemble-alone": (ensemble(ENSEMBLE + STEP + "instance_group { count: 1 }\n"), ensemble()),
    "ensemble-incomplete": (step(IN), step(IN + OUT)),
    "ensemble-written-twice": (step(IN + OUT + twice), step(IN + OUT)),
    "ensemble-unconnected": (step(IN.replace("image", "picture") + OUT), step(IN + OUT)),
    "ensemble-step-missing": (step(IN + OUT, "iner"), step(IN + OUT)),
    "ensemble-cyclic": (step(IN + OUT, "m"), step(IN + OUT)),
    "ensemble-mapping": (step(IN.replace('"x"', '"z"') + OUT), step(IN + OUT)),
    "ensemble-batch": (ensemble(inner=io(batch=4)), ensemble(inner=io(batch=0, dims="[-1, 4]"))),
    "ensemble-inconsistent": (ensemble(inner=io("[5]")), ensemble(inner=io("[-1]"))),
}
"""Rule -> a world that breaks it, a world that keeps it."""
