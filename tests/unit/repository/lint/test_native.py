"""Small repositories with the verdict of Triton 2.51 and its C++ backends (ONNX Runtime 1.32,
OpenVINO 2026.4), run with --disable-auto-complete-config: loaded or refused.

Each verdict is what the backends' sources say (r24.10), or what was seen on the genuine server.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder.repository.lint import lint
from tests.unit.repository.lint.backend_cases import (
    CONTROL_SAMPLE,
    CONTROLLED,
    STATE,
    STATEFUL,
    TWO,
    WARM,
    external,
    external_world,
)
from tests.unit.repository.lint.cases import IR, onnx, parameter
from tests.unit.repository.lint.world import GOOD, HEAD, MLP, SCALAR, World

UNBATCHED = GOOD.replace("size: 8", "size: 0")
FULL = UNBATCHED.replace("[4]", "[-1, 4]").replace("[2]", "[-1, 2]")
AGAIN = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\n'
KINDS = ("START", "END", "READY")
VALUES = {
    "FP32": "fp32_false_true: [0, 1]",
    "INT32": "int32_false_true: [0, 1]",
    "BOOL": "bool_false_true: [false, true]",
}
ONNX_TYPES = {"FP32": "float", "INT32": "int32", "BOOL": "bool", "UINT64": "uint64"}


def control(name: str, kind: str, value: str) -> str:
    return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {value} }} }}'


def sequence(*parts: str) -> str:
    return "sequence_batching {\n" + "\n".join(parts) + "\n}\n"


def controls(*inputs: str, batch: str = "N, ") -> str:
    """The MLP with more inputs, which it does not use: `float START` is one of shape [N, 1]."""
    more = "".join(f", {part.split()[0]}[{batch}1] {part.split()[1]}" for part in inputs)
    return MLP.replace("[N, 4] x", f"[N, 4] x{more}")


def state(name: str, more: str = "") -> str:
    return (
        f'state {{ input_name: "{name}_in" output_name: "{name}_out" data_type: TYPE_FP32 '
        f"dims: [2] {more} }}"
    )


INITIAL = 'initial_state { name: "zero" data_type: TYPE_FP32 dims: [2] zero_data: true }'
TWO_STATES = (
    HEAD + "g (float[N, 4] x, float[N, 2] a_in, float[N, 2] b_in)"
    " => (float[N, 2] y, float[N, 2] a_out, float[N, 2] b_out)"
    " <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}>"
    " { m = MatMul(x, w) y = Add(m, a_in) a_out = Identity(y) b_out = Identity(b_in) }"
)
STARTED = sequence(control("START", "START", VALUES["FP32"]))
CORRID = sequence(control("ID", "CORRID", "data_type: TYPE_UINT64"))
INITIALIZED = MLP.replace("(float[N, 4] x)", "(float[N, 4] x, float[4, 2] w)")
LISTED_W = 'input { name: "w" data_type: TYPE_FP32 dims: [4, 2] %s }\n'
UNRANKED = MLP.replace("float[N, 4] x", "float x").replace("float x", "float[] x")
RAGGED_COUNT = (
    'batch_input { kind: BATCH_ELEMENT_COUNT data_type: TYPE_FP32 source_input: "x" %s }\n'
)


def layer(kind: str, names: str, *dims: int) -> str:
    ports = "".join(f"<dim>{dim}</dim>" for dim in dims)
    where = f'output_names="{names}"' if kind == "Result" else ""
    port = f'<port names="{names}">' if kind == "Parameter" else "<port>"
    return f'<layer type="{kind}" {where}>{port}{ports}</port></layer>'


def ir(config: str, *layers: str) -> World:
    content = f"<net>{''.join(layers)}</net>".encode()
    return World(config, {"1/model.xml": content, "1/model.bin": b""})


def plain(config: str = IR) -> World:
    return ir(config, layer("Parameter", "x", 4), layer("Result", "y", 2))


def reshaped(dims: str, *shape: int, batch: int = 0) -> World:
    config = IR.replace("[4]", dims).replace("size: 0", f"size: {batch}")
    return ir(parameter("RESHAPE_IO_LAYERS", "YES", config), layer("Parameter", "x", *shape))


LOADED: dict[str, World] = {
    **{
        f"{kind} as {dtype}": onnx(
            GOOD + sequence(control("C", kind, VALUES[dtype])), controls(f"{ONNX_TYPES[dtype]} C")
        )
        for kind in KINDS
        for dtype in VALUES
    },
    "three controls": onnx(
        GOOD
        + sequence(
            control("START", "START", VALUES["FP32"]),
            control("END", "END", VALUES["INT32"]),
            control("READY", "READY", VALUES["BOOL"]),
            control("ID", "CORRID", "data_type: TYPE_UINT64"),
        ),
        controls("float START", "int32 END", "bool READY", "uint64 ID"),
    ),
    "a control without batching": onnx(FULL + STARTED, controls("float START", batch="")),
    "a control with no kind is not counted": onnx(GOOD + sequence('control_input { name: "n" }')),
    "two states": onnx(GOOD + sequence(state("a"), state("b")), TWO_STATES),
    "an initial state": onnx(GOOD + sequence(state("a", INITIAL), state("b")), TWO_STATES),
    "states are only counted": onnx(GOOD + STATE.replace("s_in", "nowhere"), STATEFUL),
    "dims of states are not looked at": onnx(GOOD + STATE.replace("[2]", "[3]"), STATEFUL),
    "one input twice, another not at all": onnx(
        GOOD.replace("output {", AGAIN + "output {"),
        TWO.replace("float[N, 4] y", "float[N, 2] y").replace("Add(x, z)", "MatMul(x, z)"),
    ),
    "an initializer left out": onnx(GOOD, INITIALIZED),
    "an optional initializer": onnx(FULL + LISTED_W % "optional: true", INITIALIZED),
    "a constant of an old IR left out": onnx(
        GOOD, INITIALIZED.replace("ir_version: 8", "ir_version: 3")
    ),
    "a batch_input that the model has": onnx(
        GOOD + RAGGED_COUNT % 'target_name: "n"', MLP.replace("[N, 4] x", "[N, 4] x, float[N] n")
    ),
    "an output whose size follows from the operators": onnx(
        GOOD, MLP.replace("float[N, 2] y", "float[N, M] y")
    ),
    "an output whose shape follows from the operators": onnx(
        GOOD, MLP.replace("float[N, 2] y", "float[] y")
    ),
    "an output without a type": onnx(GOOD, MLP.replace("float[N, 2] y", "y")),
    "a scalar with batching": onnx(GOOD.replace("[4]", "[1]").replace("[2]", "[1]"), SCALAR),
    **{
        f"enable_mem_arena {text}": onnx(parameter("enable_mem_arena", text))
        for text in ("true", "TRUE", "On", "1", "false", "OFF", "0")
    },
    **{
        f"intra_op_thread_count '{text}'": onnx(parameter("intra_op_thread_count", text))
        for text in ("0", "2", " 2", "-1", "+2", "2 threads", "0x2", "1.9", "2147483647")
    },
    "a GPU's accelerator on a CPU": onnx(
        GOOD + "optimization { execution_accelerators { gpu_execution_accelerator { "
        'name: "nonsense" } } }\n'
    ),
    "a GPU's number on a CPU": onnx(parameter("cudnn_conv_algo_search", "best", GOOD)),
    "weights in a file": external_world(),
    "weights in a folder": World(
        GOOD, {"1/model.onnx": external("data/w.bin"), "1/data/w.bin": bytes(32)}
    ),
    "more in the file than needed": external_world(there=64),
    "an unknown domain": onnx(GOOD, MLP.replace('"" : 17', '"" : 17, "mine" : 99')),
    "openvino: one input twice": ir(
        IR.replace("output {", AGAIN + "output {"),
        layer("Parameter", "x", 4),
        layer("Parameter", "z", 4),
    ),
    "openvino: any size of a fixed batch": ir(
        IR.replace("size: 0", "size: 8"), layer("Parameter", "x", 2, 4), layer("Result", "y", 2, 2)
    ),
    "openvino: an open size in dims, with batching": ir(
        IR.replace("size: 0", "size: 8").replace("[4]", "[-1]"), layer("Parameter", "x", -1, 4)
    ),
    "openvino: fixed sizes opened": reshaped("[-1, 4]", 2, 4),
    "openvino: open sizes fixed": reshaped("[3, 4]", -1, 4),
    "openvino: fewer dims than the model": reshaped("[3]", -1, 4),
    "openvino: threads by no number are none": plain(parameter("INFERENCE_NUM_THREADS", "", IR)),
    "openvino: largest number": plain(parameter("INFERENCE_NUM_THREADS", "2147483647", IR)),
    "openvino: hint in any case": plain(parameter("PERFORMANCE_HINT", "lAtency", IR)),
    "openvino: RESHAPE_IO_LAYERS is YES or nothing": plain(parameter("RESHAPE_IO_LAYERS", "1", IR)),
}

REFUSED: dict[str, World] = {
    "a control listed as input too": onnx(
        GOOD + 'input { name: "START" data_type: TYPE_FP32 dims: [1] }\n' + STARTED, CONTROLLED
    ),
    "a control that the model has not": onnx(GOOD + STARTED),
    "a control of another type": onnx(GOOD + STARTED, controls("int32 START")),
    "a CORRID of another type": onnx(GOOD + CORRID, controls("float ID")),
    "a control of two values": onnx(
        GOOD + STARTED, MLP.replace("[N, 4] x", "[N, 4] x, float[N, 2] START")
    ),
    "a control with a batch where there is none": onnx(FULL + STARTED, CONTROLLED),
    "two kinds in one tensor": onnx(
        GOOD
        + sequence(
            'control_input { name: "START" control { kind: CONTROL_SEQUENCE_START '
            f"{VALUES['FP32']} }} control {{ kind: CONTROL_SEQUENCE_END {VALUES['FP32']} }} }}"
        ),
        CONTROLLED,
    ),
    "a state listed as input too": onnx(
        GOOD + 'input { name: "s_in" data_type: TYPE_FP32 dims: [2] }\n' + STATE, STATEFUL
    ),
    "a state too many": onnx(GOOD + sequence(state("s"), state("t")), STATEFUL),
    "a state too few": onnx(GOOD + sequence(state("a")), TWO_STATES),
    "a state warmed up": onnx(GOOD + STATE + WARM % "", STATEFUL),
    "a control that a sample lacks": onnx(GOOD + STARTED + WARM % "", CONTROLLED),
    "a control of a sample with a batch": onnx(
        GOOD + STARTED + WARM % CONTROL_SAMPLE.replace("[1]", "[1, 1]"), CONTROLLED
    ),
    "an initializer that is not optional": onnx(FULL + LISTED_W % "", INITIALIZED),
    "a constant of an old IR": onnx(
        FULL + LISTED_W % "optional: true", INITIALIZED.replace("ir_version: 8", "ir_version: 3")
    ),
    "the only input is optional": onnx(FULL.replace("[-1, 4]", "[-1, 4] optional: true")),
    "a batch_input without a target": onnx(GOOD + RAGGED_COUNT % ""),
    "an input without a shape": onnx(GOOD, UNRANKED),
    "an output that is open in the file only": onnx(
        GOOD.replace("[2]", "[-1]"), MLP.replace("float[N, 2] y", "float[N, M] y")
    ),
    "an output of another shape than follows": onnx(
        GOOD.replace("[2]", "[3]"), MLP.replace("float[N, 2] y", "float[] y")
    ),
    "dims of a scalar, with batching": onnx(GOOD, SCALAR),
    "BF16 before 26.03": onnx(GOOD.replace("FP32", "BF16"), MLP.replace("float[N", "bfloat16[N")),
    **{
        f"enable_mem_pattern '{text}'": onnx(parameter("enable_mem_pattern", text))
        for text in ("", "2", "yes", "no", "true ", " 1", "enabled")
    },
    **{
        f"inter_op_thread_count '{text}'": onnx(parameter("inter_op_thread_count", text))
        for text in ("", "two", "- 1", "2147483648", "99999999999", "-2147483649")
    },
    **{f"execution_mode '{text}'": onnx(parameter("execution_mode", text)) for text in ("2", "-1")},
    "an IR version of tomorrow": onnx(GOOD, MLP.replace("ir_version: 8", "ir_version: 15")),
    "an opset of tomorrow": onnx(GOOD, MLP.replace('"" : 17', '"" : 29')),
    "an opset of ai.onnx.ml of tomorrow": onnx(
        GOOD, MLP.replace('"" : 17', '"" : 17, "ai.onnx.ml" : 6')
    ),
    "weights missing": onnx(GOOD, external("w.bin")),
    "weights cut short": external_world(there=31),
    "weights by an absolute path": onnx(GOOD, external("/w.bin")),
    "weights outside": World(GOOD, {"1/model.onnx": external("../w.bin"), "w.bin": bytes(32)}),
    "openvino: optional": plain(IR.replace("[4]", "[4] optional: true")),
    "openvino: a control is not counted": ir(
        IR + STARTED, layer("Parameter", "x", 4), layer("Parameter", "START", 1)
    ),
    "openvino: a scalar": ir(IR.replace("[4]", "[1]"), layer("Parameter", "x")),
    "openvino: another of several names": ir(IR, layer("Parameter", "a,x", 4)),
    "openvino: another size": reshaped("[-1, 5]", -1, 4),
    "openvino: more dims than the model": reshaped("[-1, 4, 1]", -1, 4),
    "openvino: rank, with batching": ir(
        IR.replace("size: 0", "size: 8"), layer("Parameter", "x", -1, 4, 4)
    ),
    "openvino: an output's size, with batching": ir(
        IR.replace("size: 0", "size: 8"),
        layer("Parameter", "x", -1, 4),
        layer("Result", "y", -1, 3),
    ),
    "openvino: a warm-up of a batch": ir(
        IR.replace("size: 0", "size: 8") + WARM % "", layer("Parameter", "x", -1, 4)
    ),
    "openvino: a folder": World(IR, {"1/model.xml/model.xml": b"<net/>"}),
    "openvino: compilation threads": plain(parameter("COMPILATION_NUM_THREADS", "1", IR)),
    **{
        f"openvino: {key} '{text}'": plain(parameter(key, text, IR))
        for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")
        for text in ("99999999999", "2.5", "-1", " 2", "2 threads")
    },
}


def _errors(world: World, root: Path) -> list[str]:
    return [str(f) for f in world.lint(root) if f.severity == "error"]


@pytest.mark.parametrize("name", LOADED)
def test_lint_passes_what_triton_loads(tmp_path: Path, name: str) -> None:
    assert _errors(LOADED[name], tmp_path) == []


@pytest.mark.parametrize("name", REFUSED)
def test_lint_refuses_what_triton_refuses(tmp_path: Path, name: str) -> None:
    assert _errors(REFUSED[name], tmp_path) != []


def test_what_loads_and_answers_nothing_is_a_warning(tmp_path: Path) -> None:
    for number, (name, rule) in enumerate(
        {
            "one input twice, another not at all": "onnx-input-unfed",
            "states are only counted": "onnx-state",
            "dims of states are not looked at": "onnx-state",
            "a scalar with batching": "onnx-scalar-batched",
            "openvino: one input twice": "openvino-input-unfed",
        }.items()
    ):
        assert rule in {f.rule for f in LOADED[name].lint(tmp_path / str(number))}


def test_links_of_weights_stay_beside_the_model(tmp_path: Path) -> None:
    """A cache that keeps files elsewhere links both model and weights, or ONNX Runtime refuses."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "w").write_bytes(bytes(32))
    (store / "m").write_bytes(external("w.bin"))
    for name, linked in (("weights", ("w.bin",)), ("both", ("w.bin", "model.onnx"))):
        world = World(GOOD, {"1/model.onnx": external("w.bin"), "1/w.bin": bytes(32)})
        folder = world.write(tmp_path / name) / "m" / "1"
        for file in linked:
            (folder / file).unlink()
            (folder / file).symlink_to(store / ("w" if file == "w.bin" else "m"))
        errors = [str(f) for f in lint([tmp_path / name]) if f.severity == "error"]
        assert bool(errors) == (name == "weights"), errors
