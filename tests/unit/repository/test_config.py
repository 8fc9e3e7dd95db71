"""What a config decides, and that its text says the same to Triton's own protobuf."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.base.errors import SpecError
from repo_builder.client.models.confidence import Policy
from repo_builder.client.models.model import Model
from repo_builder.repository import config, render
from repo_builder.spec.types import Gates, OnnxSource, Optimize, Preprocess, Serving, Spec, Version
from repo_builder.targets import load

TARGETS = load()
IMAGE = Signature(
    inputs=(Tensor("image", "FP32", ("N", 1, "H", 8)),),
    outputs=(Tensor("scores", "FP32", ("N", 10)), Tensor("best", "INT64", ("N",))),
    batched=True,
    dynamic_axes={"H": 32},
    runs_with_zeros=True,
)


def spec(**serving: object) -> Spec:
    return Spec(
        name="digits",
        version=Version(1, 2, 3),
        target="cpu",
        source=OnnxSource(Path("digits.onnx")),
        file=Path("digits.yaml"),
        calibration=None,
        evaluation=None,
        optimize=Optimize(),
        gates=Gates(),
        serving=Serving(**serving),
        preprocess=None,
    )


def decide(target: str = "cpu", signature: Signature = IMAGE, cores: int = 4, **serving: object):
    return config.decide(spec(**serving), TARGETS[target], signature, {}, cores)


def parameters(decided) -> dict[str, str]:
    return {key: value.string_value for key, value in decided.parameters.items()}


def test_latency_uses_one_instance_with_all_cores() -> None:
    decided = decide()
    assert decided.instance_group[0].count == 1
    assert parameters(decided)["intra_op_thread_count"] == "4"
    assert decided.dynamic_batching is None
    assert decided.max_batch_size == config.DEFAULT_MAX_BATCH


def test_callers_may_say_how_long_a_request_waits() -> None:
    """Triton 2.51 reads it only where there is a default that it shortens."""
    for more in ({}, {"config": {"dynamic_batching": {"max_queue_delay_microseconds": 9}}}):
        policy = decide(objective="throughput", **more).dynamic_batching.default_queue_policy
        assert policy.allow_timeout_override
        assert policy.default_timeout_microseconds == 3_600_000_000
    own = {"dynamic_batching": {"default_queue_policy": {"allow_timeout_override": False}}}
    policy = decide(config=own).dynamic_batching.default_queue_policy
    assert not policy.allow_timeout_override


def test_inputs_that_were_empty_when_the_model_ran_may_be_empty() -> None:
    assert "repo_builder.may_be_empty" not in parameters(decide())
    empty = dataclasses.replace(IMAGE, dynamic_axes={"H": 0}, runs_with_zeros=False)
    found = parameters(decide(signature=empty))
    assert found["repo_builder.may_be_empty"] == '["image"]'


def test_throughput_uses_an_instance_per_core_and_batches() -> None:
    decided = decide(objective="throughput")
    assert decided.instance_group[0].count == 4
    assert parameters(decided)["intra_op_thread_count"] == "1"
    assert decided.dynamic_batching is not None


@pytest.mark.parametrize("cores", [1, 2, 6, 8, 12, 64])
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_never_more_threads_than_cores(cores: int, objective: str) -> None:
    decided = decide(cores=cores, objective=objective)
    threads = int(parameters(decided)["intra_op_thread_count"])
    assert decided.instance_group[0].count * threads <= cores


def test_dims_leave_out_a_proven_batch() -> None:
    decided = decide()
    assert decided.input[0].dims == [1, -1, 8]
    assert decided.output[0].dims == [10]
    assert decided.output[1].dims == [1]
    assert decided.output[1].reshape is not None
    assert decided.output[1].reshape.shape == []


def test_dims_are_the_whole_shape_where_no_batch_is_proven() -> None:
    signature = Signature(
        inputs=(Tensor("x", "FP32", (1, 4)), Tensor("s", "FP32", ())),
        outputs=(Tensor("y", "STRING", ("", 4)),),
        batched=False,
        why_not_batched="dimension 0 of input 'x' is fixed at 1",
        runs_with_zeros=True,
    )
    decided = decide(signature=signature, objective="throughput")
    assert decided.max_batch_size == 0
    assert "max_batch_size: 0" in render.text(decided)
    assert [t.dims for t in decided.input] == [[1, 4], [1]]
    assert decided.input[1].reshape is None
    assert decided.output[0].dims == [-1, 4]
    assert decided.dynamic_batching is None
    assert [w.batch_size for w in decided.model_warmup] == [1]
    assert decided.model_warmup[0].inputs["s"].dims == [1]


def test_an_npu_takes_one_row_and_no_settings_of_threads() -> None:
    decided = decide("intel-npu", objective="throughput")
    assert decided.max_batch_size == 1
    assert [group.count for group in decided.instance_group] == [1]
    parameters = {key: value.string_value for key, value in decided.parameters.items()}
    assert parameters["TARGET_DEVICE"] == "NPU"
    assert parameters["PERFORMANCE_HINT"] == "THROUGHPUT"
    assert not parameters.keys() & {"NUM_STREAMS", "INFERENCE_NUM_THREADS", "RESHAPE_IO_LAYERS"}


def test_openvino_keeps_the_batch_in_dims() -> None:
    decided = decide("cpu-openvino", objective="throughput")
    assert decided.max_batch_size == 0
    assert decided.input[0].dims == [-1, 1, -1, 8]
    assert decided.output[1].dims == [-1]
    assert decided.dynamic_batching is None
    assert parameters(decided) == {
        "NUM_STREAMS": "4",
        "INFERENCE_NUM_THREADS": "4",
        "RESHAPE_IO_LAYERS": "YES",
        "repo_builder.version": "1.2.3",
    }
    assert decided.model_warmup[0].inputs["image"].dims == [1, 1, 32, 8]


def test_warmup_has_the_smallest_and_the_largest_batch() -> None:
    decided = decide(max_batch_size=6)
    assert [w.batch_size for w in decided.model_warmup] == [1, 6]
    assert decided.model_warmup[0].inputs["image"].dims == [1, 32, 8]


def test_no_warmup_where_zeros_do_not_run() -> None:
    signature = dataclasses.replace(IMAGE, runs_with_zeros=False)
    assert decide(signature=signature).model_warmup == []


def test_labels_and_preprocessing_reach_the_client() -> None:
    asked = dataclasses.replace(
        spec(labels={"scores": Path("l.txt")}), preprocess=Preprocess({"input": "image"})
    )
    decided = config.decide(asked, TARGETS["cpu"], IMAGE, {"scores": ["zero", "one"]}, 4)
    assert decided.output[0].label_filename == "l.txt"
    assert parameters(decided)["repo_builder.labels"] == '{"scores":["zero","one"]}'
    assert parameters(decided)["repo_builder.preprocess"] == '{"input":"image"}'


def test_the_spec_wins_by_tritons_own_names() -> None:
    decided = decide(
        objective="throughput",
        config={
            "input": [{"name": "image", "format": "FORMAT_NCHW"}],
            "dynamic_batching": {"max_queue_delay_microseconds": 100},
            "instance_group": [{"kind": "KIND_CPU", "count": 2}],
            "parameters": {"execution_mode": {"string_value": "1"}},
            "model_warmup": [],
        },
    )
    assert decided.input[0].format == "FORMAT_NCHW"
    assert decided.input[0].dims == [1, -1, 8]
    assert decided.dynamic_batching is not None
    assert decided.dynamic_batching.max_queue_delay_microseconds == 100
    assert [g.count for g in decided.instance_group] == [2]
    assert parameters(decided)["execution_mode"] == "1"
    assert parameters(decided)["intra_op_thread_count"] == "1"
    assert decided.model_warmup == []


def test_null_removes_and_sequence_batching_replaces() -> None:
    assert (
        decide(objective="throughput", config={"dynamic_batching": None}).dynamic_batching is None
    )
    decided = decide(objective="throughput", config={"sequence_batching": {"direct": {}}})
    assert decided.dynamic_batching is None
    assert decided.sequence_batching is not None


def test_all_problems_at_once() -> None:
    signature = dataclasses.replace(IMAGE, batched=False, why_not_batched="it lies")
    with pytest.raises(SpecError) as refusal:
        decide(
            signature=signature,
            max_batch_size=8,
            labels={"score": Path("l.txt")},
            config={"input": [{"name": "imagine"}], "output": [{"name": "scores"}]},
        )
    found = {problem.field: str(problem) for problem in refusal.value.problems}
    assert "it lies" in found["serving.max_batch_size"]
    assert "did you mean 'scores'" in found["serving.labels.score"]
    assert "did you mean 'image'" in found["serving.input[0].name"]
    assert len(found) == 3


def test_what_triton_would_refuse_is_refused_first() -> None:
    with pytest.raises(SpecError) as refusal:
        decide(
            config={
                "dynamic_batching": {"preferred_batch_size": [99], "priority_levels": 2},
                "parameters": {"execution_mode": {"string_value": "2"}},
                "instance_group": [{"kind": "KIND_GPU"}],
            }
        )
    assert {problem.field for problem in refusal.value.problems} == {
        "serving.dynamic_batching.preferred_batch_size",
        "serving.dynamic_batching.default_priority_level",
        'serving.parameters["execution_mode"]',
        "serving.instance_group[0].kind",
    }
    assert all(problem.file == "digits.yaml" for problem in refusal.value.problems)


def test_a_policy_reaches_the_client_as_it_is() -> None:
    policy = Policy("margin", "scores", "logits", 1.5, 0.1 + 0.2, 0.02, 0.95, 0.9, "d", "big")
    said = {**dataclasses.asdict(policy), "calibration": "c"}
    decided = config.decide(spec(), TARGETS["cpu"], IMAGE, {}, 4, said)
    assert Policy.from_json(parameters(decided)["repo_builder.confidence"]) == policy
    served = Model.of_config(render.parse(render.text(decided)))
    assert served.policy == policy
    assert "repo_builder.confidence" not in parameters(decide())


FED = Signature(
    inputs=tuple(
        Tensor(name, dtype, ("N", size))
        for name, dtype, size in (
            ("x", "FP32", 4),
            ("START", "FP32", 1),
            ("END", "BOOL", 1),
            ("ID", "UINT64", 1),
        )
    ),
    outputs=(Tensor("y", "FP32", ("N", 4)),),
    batched=True,
    dynamic_axes={},
    runs_with_zeros=True,
)
CONTROLS = [
    {
        "name": "START",
        "control": [{"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}],
    },
    {
        "name": "END",
        "control": [{"kind": "CONTROL_SEQUENCE_END", "bool_false_true": [False, True]}],
    },
    {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"}]},
]
KEPT = Signature(
    inputs=(Tensor("x", "FP32", ("N", 4)), Tensor("s", "FP32", ("N", 4))),
    outputs=(Tensor("y", "FP32", ("N", 4)), Tensor("t", "FP32", ("N", 4))),
    batched=True,
    dynamic_axes={},
    runs_with_zeros=True,
)
STATE = {"input_name": "s", "output_name": "t", "data_type": "TYPE_FP32", "dims": [4]}


def test_controls_are_no_inputs_and_are_warmed_up() -> None:
    decided = decide(signature=FED, config={"sequence_batching": {"control_input": CONTROLS}})
    assert [t.name for t in decided.input] == ["x"]
    for sample in decided.model_warmup:
        assert sample.inputs.keys() == {"x", "START", "END", "ID"}
        assert {n: (i.data_type, i.dims) for n, i in sample.inputs.items() if n != "x"} == {
            "START": ("TYPE_FP32", [1]),
            "END": ("TYPE_BOOL", [1]),
            "ID": ("TYPE_UINT64", [1]),
        }


def test_states_are_neither_inputs_nor_outputs() -> None:
    decided = decide(signature=KEPT, config={"sequence_batching": {"state": [STATE]}})
    assert [t.name for t in decided.input] == ["x"]
    assert [t.name for t in decided.output] == ["y"]
    assert decided.model_warmup == []


def test_a_state_that_the_caller_wants_is_an_output_too() -> None:
    serving = {"sequence_batching": {"state": [STATE]}, "output": [{"name": "t"}]}
    assert [t.name for t in decide(signature=KEPT, config=serving).output] == ["y", "t"]


def test_what_triton_makes_of_a_batch_is_no_input() -> None:
    made = {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["s"], "data_type": "TYPE_FP32"}
    serving = {"batch_input": [{**made, "source_input": ["x"]}]}
    assert [t.name for t in decide(signature=KEPT, config=serving).input] == ["x"]


def test_controls_and_states_are_the_models() -> None:
    sequence = {
        "control_input": [{**CONTROLS[0], "name": "STAR"}],
        "state": [{**STATE, "output_name": "T"}],
    }
    serving = {"sequence_batching": sequence, "input": [{"name": "s"}]}
    with pytest.raises(SpecError) as refusal:
        decide(signature=KEPT, config=serving)
    fields = [problem.field for problem in refusal.value.problems]
    assert fields == [
        "serving.sequence_batching.control_input[0].name",
        "serving.sequence_batching.state[0].output_name",
        "serving.input[0].name",
    ]


def test_openvino_has_no_sequences() -> None:
    with pytest.raises(SpecError) as refusal:
        decide("cpu-openvino", KEPT, config={"sequence_batching": {"state": [STATE]}})
    (problem,) = refusal.value.problems
    assert problem.field == "serving.sequence_batching"
    assert "openvino backend cannot feed 's' to a model" in problem.what
