"""For every rule of a backend or of a device, a world that breaks it and one that does not."""

from __future__ import annotations

import dataclasses

from onnx import TensorProto
from onnx import parser as onnx_parser

from tests.unit.repository.lint.cases import (
    IR,
    PLAN,
    TINY,
    for_target,
    ir,
    onnx,
    parameter,
    plan,
)
from tests.unit.repository.lint.world import (
    BATCHED,
    GOOD,
    HEAD,
    MLP,
    SCALAR,
    STATIC,
    TENSORS,
    THREADS,
    World,
)

PARAMETER = b'<net><layer type="Parameter"><port names="x"><dim>4</dim></port></layer></net>'
TRT = "optimization { execution_accelerators { gpu_execution_accelerator { %s } } }\n"

cached = onnx(
    GOOD + TRT % 'name: "tensorrt" parameters { key: "trt_engine_cache_path" value: "/c" }'
)
ragged = HEAD + "g (float[N] x) => (float[M, 2] y) { a = Unsqueeze(x, z) y = Concat<axis=1>(a, a) }"
ragged = ragged.replace("{ a", "<int64[1] z = {1}> { a", 1)

OPS = 'model_operations { op_library_filename: "%s" }\n'
SEQUENCE = """sequence_batching { control_input { name: "START"
  control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } } }
"""
CONTROLLED = (
    HEAD
    + "g (float[N, 4] x, float[N, 1] START) => (float[N, 2] y) { y = Slice(x, a, b, c) }".replace(
        "{ y", "<int64[1] a = {0}, int64[1] b = {2}, int64[1] c = {1}> { y"
    )
)
TWO = HEAD + "g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) { y = Add(x, z) }"
STATE = """sequence_batching { state { input_name: "s_in" output_name: "s_out"
  data_type: TYPE_FP32 dims: [2] } }
"""
STATEFUL = (
    HEAD + "g (float[N, 4] x, float[N, 2] s_in) => (float[N, 2] y, float[N, 2] s_out) "
    "<float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> "
    "{ a = MatMul(x, w) y = Add(a, s_in) s_out = Identity(y) }"
)
WARM = """model_warmup { name: "w" batch_size: 1 count: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } } %s }
"""
CONTROL_SAMPLE = """
  inputs { key: "START" value { data_type: TYPE_FP32 dims: [1] zero_data: true } }"""
IR_TWICE = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\n'
OUTSIDE = "../w.bin"


def external(location: str) -> bytes:
    """The MLP with its weights, 32 bytes, in a file of their own."""
    model = onnx_parser.parse_model(MLP)
    (weights,) = model.graph.initializer
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return bytes(model.SerializeToString())


def external_world(location: str = "w.bin", there: int = 32) -> World:
    return World(GOOD, {"1/model.onnx": external(location), "1/w.bin": bytes(there)})


BACKEND_CASES: dict[str, tuple[World, World]] = {
    "onnx-unreadable": (onnx(GOOD, b"junk"), onnx(GOOD)),
    "onnx-unknown-tensor": (onnx(GOOD.replace('"x"', '"z"')), onnx(GOOD)),
    "onnx-input-missing": (
        onnx(
            GOOD.replace("input {", "batch_output {").replace(
                'batch_output { name: "x" data_type: TYPE_FP32 dims: [4] }', ""
            )
        ),
        onnx(GOOD),
    ),
    "onnx-no-tensor": (
        onnx(
            GOOD,
            HEAD + "g (float[N, 4] x) => (seq(float[N, 4]) y) { y = SequenceConstruct(x) }",
        ),
        onnx(GOOD),
    ),
    "onnx-type": (onnx(GOOD.replace("FP32", "FP16")), onnx(GOOD)),
    "onnx-batch-fixed": (onnx(GOOD, STATIC), onnx(GOOD)),
    "onnx-shape": (onnx(GOOD.replace("[4]", "[5]")), onnx(GOOD)),
    "onnx-shape-inexact": (
        onnx(GOOD.replace("dims: [2]", "dims: [-1]")),
        onnx(GOOD, MLP.replace("float[N, 4]", "float[N, M]")),
    ),
    "onnx-scalar": (
        onnx('backend: "onnxruntime" max_batch_size: 0' + TENSORS, SCALAR),
        onnx(
            'backend: "onnxruntime" max_batch_size: 0'
            + TENSORS.replace("[4]", "[1]").replace("[2]", "[1]"),
            SCALAR,
        ),
    ),
    "onnx-optional": (
        onnx(GOOD.replace("dims: [4]", "dims: [4] optional: true")),
        onnx(GOOD.replace("dims: [4]", "dims: [4] optional: false")),
    ),
    "onnx-ragged": (
        onnx(GOOD.replace("dims: [4]", "dims: [-1] allow_ragged_batch: true")),
        onnx(GOOD.replace("dims: [4]", "dims: [-1] allow_ragged_batch: true"), ragged),
    ),
    "onnx-parameter-unknown": (
        onnx(parameter("intra_op_num_threads", "1")),
        onnx(parameter("intra_op_thread_count", "1")),
    ),
    "onnx-parameter-number": (
        onnx(parameter("execution_mode", "2")),
        onnx(parameter("execution_mode", "1")),
    ),
    "onnx-accelerator": (
        onnx(BATCHED + TRT % 'name: "tensorrt" parameters { key: "trt_engine_hw_compatible" }'),
        onnx(GOOD + TRT % 'name: "tensorrt" parameters { key: "trt_engine_hw_compatible" }'),
    ),
    "onnx-parameter-switch": (
        onnx(parameter("enable_mem_arena", "2")),
        onnx(parameter("enable_mem_arena", "ON")),
    ),
    "onnx-op-library": (
        onnx(GOOD + OPS % "/nowhere/ops.so"),
        onnx(GOOD),
    ),
    "onnx-too-new": (
        onnx(GOOD, MLP.replace('"" : 17', '"" : 99')),
        onnx(GOOD, MLP.replace('"" : 17', '"" : 17, "mine" : 99')),
    ),
    "onnx-external-data": (onnx(GOOD, external(OUTSIDE)), external_world()),
    "onnx-input-count": (
        onnx(GOOD + SEQUENCE, CONTROLLED.replace(", float[N, 1] START", "")),
        onnx(GOOD + SEQUENCE, CONTROLLED),
    ),
    "onnx-input-unfed": (
        onnx(
            GOOD.replace(
                "output {", 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\noutput {'
            ),
            TWO,
        ),
        onnx(
            GOOD.replace(
                "output {", 'input { name: "z" data_type: TYPE_FP32 dims: [4] }\noutput {'
            ),
            TWO,
        ),
    ),
    "onnx-bf16": (
        onnx(GOOD.replace("FP32", "BF16"), MLP.replace("float[N", "bfloat16[N")),
        for_target(onnx(GOOD.replace("FP32", "BF16"), MLP.replace("float[N", "bfloat16[N"))),
    ),
    "onnx-scalar-batched": (onnx(GOOD, SCALAR), onnx(GOOD)),
    "onnx-control": (
        onnx(GOOD + SEQUENCE.replace("fp32", "int32"), CONTROLLED),
        onnx(GOOD + SEQUENCE, CONTROLLED),
    ),
    "onnx-state": (
        onnx(GOOD + STATE.replace("s_in", "nowhere"), STATEFUL),
        onnx(GOOD + STATE, STATEFUL),
    ),
    "warmup-control": (
        onnx(GOOD + SEQUENCE + WARM % "", CONTROLLED),
        onnx(GOOD + SEQUENCE + WARM % CONTROL_SAMPLE, CONTROLLED),
    ),
    "warmup-state": (onnx(GOOD + STATE + WARM % "", STATEFUL), onnx(GOOD + STATE, STATEFUL)),
    "onnx-graph-level": (
        onnx(GOOD + "optimization { graph { level: 2 } }\n"),
        onnx(GOOD + "optimization { graph { level: 1 } }\n"),
    ),
    "tensorrt-cache-shared": (
        dataclasses.replace(cached, beside={"other": cached}),
        dataclasses.replace(cached, beside={"other": onnx(GOOD)}),
    ),
    "openvino-kind": (
        ir(IR + "instance_group { kind: KIND_GPU }\n"),
        ir(IR + "instance_group { kind: KIND_CPU }\n"),
    ),
    "openvino-weights": (World(IR, {"1/model.xml": b""}), ir(IR)),
    "openvino-broken": (World(IR, {"1/model.xml": b"<net>", "1/model.bin": b""}), ir(IR)),
    "openvino-unknown-tensor": (
        World(IR, {"1/model.xml": PARAMETER.replace(b"x", b"z"), "1/model.bin": b""}),
        World(IR, {"1/model.xml": PARAMETER, "1/model.bin": b""}),
    ),
    "openvino-input-missing": (
        World(IR, {"1/model.xml": PARAMETER + PARAMETER.replace(b"x", b"z"), "1/model.bin": b""}),
        World(IR, {"1/model.xml": PARAMETER.replace(b"x", b"z,x"), "1/model.bin": b""}),
    ),
    "openvino-shape": (
        World(IR, {"1/model.xml": PARAMETER.replace(b"4", b"5"), "1/model.bin": b""}),
        World(IR, {"1/model.xml": PARAMETER.replace(b"4", b"-1"), "1/model.bin": b""}),
    ),
    "openvino-folder": (World(IR, {"1/model.xml/model.xml": b"<net/>"}), ir(IR)),
    "openvino-input-count": (
        World(
            IR.replace("output {", IR_TWICE + "output {"),
            {"1/model.xml": PARAMETER, "1/model.bin": b""},
        ),
        World(IR, {"1/model.xml": PARAMETER, "1/model.bin": b""}),
    ),
    "openvino-input-unfed": (
        World(
            IR.replace("output {", IR_TWICE + "output {"),
            {"1/model.xml": PARAMETER + PARAMETER.replace(b"x", b"z"), "1/model.bin": b""},
        ),
        World(
            IR.replace("output {", IR_TWICE.replace('"x"', '"z"') + "output {"),
            {"1/model.xml": PARAMETER + PARAMETER.replace(b"x", b"z"), "1/model.bin": b""},
        ),
    ),
    "openvino-optional": (ir(IR.replace("[4]", "[4] optional: true")), ir(IR)),
    "openvino-compilation": (
        ir(parameter("COMPILATION_NUM_THREADS", "4", IR)),
        ir(parameter("INFERENCE_NUM_THREADS", "4", IR)),
    ),
    "openvino-device": (
        ir(parameter("TARGET_DEVICE", "NPU", IR)),
        for_target(ir(parameter("TARGET_DEVICE", "NPU", IR))),
    ),
    "openvino-extension": (
        ir(parameter("CPU_EXTENSION_PATH", "/nowhere/ops.so", IR)),
        ir(parameter("CPU_EXTENSION_PATH", "", IR)),
    ),
    "openvino-warmup": (
        ir(IR.replace("size: 0", "size: 8") + WARM % ""),
        ir(IR + WARM % ""),
    ),
    "openvino-type": (ir(IR.replace("FP32", "FP64")), ir(IR)),
    "openvino-parameter-value": (
        ir(parameter("NUM_STREAMS", "many", IR)),
        ir(parameter("NUM_STREAMS", "auto", IR)),
    ),
    "openvino-parameter-unknown": (
        ir(parameter("NUM_STREAM", "1", IR)),
        ir(parameter("NUM_STREAMS", "1", IR)),
    ),
    "openvino-batch": (ir(IR.replace("size: 0", "size: 8")), ir(IR)),
    "openvino-padding": (
        ir(parameter("ENABLE_BATCH_PADDING", "YES", IR)),
        ir(parameter("ENABLE_BATCH_PADDING", "NO", IR)),
    ),
    "tensorrt-capability": (
        plan(PLAN + 'cc_model_filenames { key: "8" value: "model.plan" }\n'),
        plan(PLAN + 'cc_model_filenames { key: "8.7" value: "model.plan" }\n'),
    ),
    "tensorrt-strategy": (
        plan(parameter("execution_context_allocation_strategy", "DYNAMIC", PLAN)),
        plan(parameter("execution_context_allocation_strategy", "STATIC", PLAN)),
    ),
    "tensorrt-kind": (
        plan(PLAN + "instance_group { kind: KIND_CPU }\n"),
        plan(PLAN + "instance_group { kind: KIND_GPU }\n"),
    ),
    "threads-unset": (onnx(BATCHED), onnx(BATCHED + THREADS)),
    "threads-above-cores": (
        for_target(onnx(parameter("intra_op_thread_count", "2"))),
        for_target(onnx(parameter("intra_op_thread_count", "1"))),
    ),
    "memory": (for_target(World(), TINY), for_target(World())),
}
"""Rule -> a world that breaks it, a world that keeps it."""
