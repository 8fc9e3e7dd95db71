"""Plans: equal recipes are one step; a change reaches what depends on it and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_builder import steps, targets
from repo_builder.base import digest
from repo_builder.base.errors import SpecError
from repo_builder.plan import ArtifactRef, Declaration, Pins, Plan, SourceFiles, plan, why
from repo_builder.spec.types import (
    Calibration,
    Evaluation,
    Fallback,
    Gates,
    OnnxSource,
    Optimize,
    Quantization,
    Serving,
    Spec,
    TensorRt,
    Version,
)

CATALOG = targets.load()
DECLARATIONS = steps.declarations()
TOOLS = sorted({tool for declaration in DECLARATIONS.values() for tool in declaration.tools})
MODEL, CALIBRATION, EVALUATION = Path("/d/m.onnx"), Path("/d/c.npz"), Path("/d/e.npz")
SOURCE = OnnxSource(MODEL)


def spec(target: str = "cpu", name: str = "digits", precision: Any = "int8", **rest: Any) -> Spec:
    base: dict[str, Any] = {
        "name": name,
        "version": Version(1, 0, 0),
        "target": target,
        "source": SOURCE,
        "file": Path("/d/digits.yaml"),
        "calibration": Calibration(CALIBRATION, 100),
        "evaluation": Evaluation(EVALUATION, "accuracy", {"label": "label"}, {"scores": "y"}),
        "optimize": Optimize(precision=precision),
        "gates": Gates(),
        "serving": Serving(),
        "preprocess": None,
    }
    return Spec(**{**base, **rest})


def pins(change: str = "", tools: Mapping[str, str] = {}, folder: str = "/d") -> Pins:
    """The files, with one byte of the file `change` changed."""

    def one(name: str, path: Path) -> dict[str, tuple[Path, str]]:
        content = path.name + ("!" if path.name == change else "")
        return {name: (Path(folder) / path.name, digest.of_bytes(content.encode()))}

    files = {
        SOURCE: {**one("model.onnx", MODEL), **one("weights.bin", Path("weights.bin"))},
        CALIBRATION: one("calibration.npz", CALIBRATION),
        EVALUATION: one("evaluation.npz", EVALUATION),
    }
    return Pins(files, {tool: tools.get(tool, "1.0") for tool in TOOLS})


def planned(
    *specs: Spec,
    pins: Pins = pins(),  # noqa: B008 - frozen
    declarations: Mapping[str, Declaration] = DECLARATIONS,
) -> Plan:
    return plan(specs or [spec()], CATALOG, declarations, pins)


def changed(before: Plan, after: Plan) -> set[str]:
    """The steps of the first variant that have another key."""
    old, new = before.variants[0].steps, after.variants[0].steps
    return {step for step in new if old.get(step) != new[step]}


FP32 = "compile-fp32"
ALL = {
    "import", "simplify", "quantize", "compile-onnxruntime", FP32, "reference", "verify", "profile",
}  # fmt: skip
AFTER_QUANTIZE = {"quantize", "compile-onnxruntime", "verify", "profile"}


def test_a_variant_has_its_steps_in_an_order_in_which_they_can_run() -> None:
    the_plan = planned(spec("cpu"), spec("cpu-openvino"), spec("cpu", "other", "fp32"))
    assert set(the_plan.variants[0].steps) == ALL
    assert the_plan.variants[1].compiled == "compile-openvino"
    assert "quantize" not in the_plan.variants[2].steps
    met: set[str] = set()
    for key, node in the_plan.nodes.items():
        assert key == node.key == digest.of_json(node.recipe)
        assert {
            value.key for value in node.inputs.values() if isinstance(value, ArtifactRef)
        } <= met
        met.add(key)
    for variant in the_plan.variants:
        assert set(variant.steps.values()) <= met
        assert variant in the_plan.users(variant.steps["verify"])


def test_what_targets_and_models_share_is_one_step() -> None:
    the_plan = planned(spec("cpu"), spec("cpu-openvino"), spec("cpu", "twin"))
    one, openvino, twin = (variant.steps for variant in the_plan.variants)
    for step in ("import", "simplify", "reference"):
        assert one[step] == openvino[step]
    assert one["verify"] != openvino["verify"]
    assert one == twin  # names and versions make no other bytes
    assert len(the_plan.users(one["import"])) == 3


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_what_is_not_fp32_is_measured_beside_the_fp32_that_all_share(target: str) -> None:
    precisions = ("int8", "fp16", "fp32")
    the_plan = planned(*(spec(target, precision, precision) for precision in precisions))
    int8, fp16, fp32 = the_plan.variants
    assert int8.steps[FP32] == fp16.steps[FP32] == fp32.compiled_key
    assert FP32 not in fp32.steps
    for variant in (int8, fp16):
        node = the_plan.nodes[variant.steps["profile"]]
        assert node.inputs["fp32"] == ArtifactRef(fp32.compiled_key)
        assert node.inputs["model"] == ArtifactRef(variant.compiled_key)
        if target == "cpu":  # the source's score is that of its fp32 in ONNX Runtime
            assert "score" not in variant.steps
        else:
            scored = the_plan.nodes[variant.steps["score"]]
            assert scored.inputs["model"] == ArtifactRef(fp32.compiled_key)
    assert "fp32" not in the_plan.nodes[fp32.steps["profile"]].inputs
    assert "score" not in fp32.steps


@pytest.mark.parametrize(
    ("target", "shared", "narrow"),
    [
        ("cpu", True, True),
        ("cpu-openvino", False, True),
        ("snapdragon-qcs8275", True, False),
        ("nvidia-gpu", True, False),
    ],
)
def test_mixed_precision_asks_what_int8_harms_before_it_quantizes(
    target: str, shared: bool, narrow: bool
) -> None:
    mixed = Optimize(precision="int8", quantization=Quantization(max_error=0.02))
    before, after = planned(spec(target)), planned(spec(target, optimize=mixed))
    (variant,) = after.variants
    asked = after.nodes[variant.steps["sensitivity"]]
    assert asked.params["max_error"] == 0.02
    assert (asked.params["shared"], asked.params["narrow"]) == (shared, narrow)
    assert asked.params["scheme"] == CATALOG[target].int8
    step = "compile-openvino" if target == "cpu-openvino" else "quantize"
    quantizes = after.nodes[variant.steps[step]]
    assert quantizes.inputs["keep"] == ArtifactRef(asked.key)
    assert quantizes.inputs["model"] == asked.inputs["model"]
    if target == "cpu":  # else weights in 8 bits would be unpacked again
        compiled = after.nodes[variant.steps["compile-onnxruntime"]]
        assert compiled.params["weights_only"] is True
    assert step in changed(before, after)
    assert "import" not in changed(before, after)
    assert "sensitivity" not in before.variants[0].steps


@pytest.mark.parametrize("target", ["nvidia-gpu", "intel-npu", "ethos-u55"])
def test_nothing_is_built_to_be_measured_where_nothing_is_measured(target: str) -> None:
    (variant,) = planned(spec(target, precision="int8")).variants
    assert not {FP32, "profile"} & variant.steps.keys()


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ("m.onnx", ALL),
        ("weights.bin", ALL),
        ("c.npz", AFTER_QUANTIZE),
        ("e.npz", {"reference", "verify", "profile"}),
    ],
)
def test_one_byte_of_a_file_reaches_what_depends_on_it(change: str, reached: set[str]) -> None:
    assert changed(planned(), planned(pins=pins(change))) == reached


@pytest.mark.parametrize(
    ("rest", "reached"),
    [
        ({"optimize": Optimize(precision="int8", simplify=False)}, AFTER_QUANTIZE | {FP32}),
        (
            {"optimize": Optimize(precision="int8", quantization=Quantization("entropy"))},
            AFTER_QUANTIZE,
        ),
        ({"calibration": Calibration(CALIBRATION, 99)}, AFTER_QUANTIZE),
        (
            {
                "evaluation": Evaluation(
                    EVALUATION, "top5", {"label": "label"}, {"scores": "y"}, samples=5
                )
            },
            {"reference", "verify", "profile"},
        ),
        ({"version": Version(2, 0, 0)}, set()),
        ({"gates": Gates(max_size_mb=1)}, set()),
        ({"serving": Serving("throughput", 8)}, set()),
        ({"file": Path("/elsewhere.yaml")}, set()),
    ],
    ids=[
        "simplify",
        "method",
        "samples",
        "metric",
        "version",
        "gates",
        "serving",
        "file",
    ],
)
def test_one_parameter_reaches_what_depends_on_it(rest: dict[str, Any], reached: set[str]) -> None:
    after = planned(spec(**rest))
    assert changed(planned(), after) == reached


@pytest.mark.parametrize("tool", TOOLS)
def test_one_tool_reaches_the_steps_that_use_it_and_their_successors(tool: str) -> None:
    after = planned(pins=pins(tools={tool: "2.0"}))
    kinds = {step: after.nodes[key].step for step, key in after.variants[0].steps.items()}
    users = {step for step, kind in kinds.items() if tool in DECLARATIONS[kind].tools}
    reached = changed(planned(), after)
    assert users <= reached
    for step in reached - users:
        node = after.nodes[after.variants[0].steps[step]]
        made = {value.key for value in node.inputs.values() if isinstance(value, ArtifactRef)}
        assert made & {after.variants[0].steps[other] for other in reached}


def test_the_version_of_a_step_reaches_its_successors() -> None:
    newer = dataclasses.replace(
        DECLARATIONS["quantize"], version=DECLARATIONS["quantize"].version + 1
    )
    after = planned(declarations={**DECLARATIONS, "quantize": newer})
    assert changed(planned(), after) == AFTER_QUANTIZE


@pytest.mark.parametrize(
    ("serving", "dla_core", "batches"),
    [
        (Serving(), None, [1, 1, 16]),
        (Serving("throughput", 8), None, [1, 8, 8]),
        (Serving(config={"dynamic_batching": {"preferred_batch_size": [2, 4]}}), None, [1, 4, 16]),
        (Serving("throughput", 1), 0, [1, 1, 1]),
    ],
)
def test_profiles_come_from_what_is_served(
    serving: Serving, dla_core: int | None, batches: list[int]
) -> None:
    options = TensorRt(64, dla_core, hardware_compatibility="ampere_plus")
    optimize = Optimize(precision="fp16", tensorrt=options)
    the_plan = planned(spec("nvidia-gpu", optimize=optimize, serving=serving))
    (node,) = (n for n in the_plan.nodes.values() if n.step == "compile-tensorrt")
    assert node.resources == {"tensorrt": 1, "nvidia-gpu": 1}
    assert node.params["batches"] == batches
    assert node.params["workspace_mb"] == 64
    assert node.params["dla_core"] == dla_core
    assert node.params["hardware"] == "ampere_plus"


@pytest.mark.parametrize(
    ("target", "asked", "place"),
    [("nvidia-gpu", None, "builder"), ("nvidia-gpu", "image", "image"),
     ("jetson-orin-nx", None, "device"), ("jetson-orin-nx", "image", "image")],
)  # fmt: skip
def test_a_spec_may_say_where_its_plan_is_built(target: str, asked: Any, place: str) -> None:
    optimize = Optimize(precision="fp16", tensorrt=TensorRt(compile_at=asked))
    the_plan = planned(spec(target, optimize=optimize))
    (node,) = (n for n in the_plan.nodes.values() if n.step == "compile-tensorrt")
    assert node.params["at"] == place
    assert bool(node.resources) == (place == "builder")


@pytest.mark.parametrize(
    ("target", "scheme"), [("nvidia-gpu", "s8s8"), ("cpu", "u8s8"), ("ethos-u55", "u8s8")]
)
def test_int8_is_typed_as_the_target_says(target: str, scheme: str) -> None:
    (node,) = (n for n in planned(spec(target)).nodes.values() if n.step == "quantize")
    assert node.params["scheme"] == scheme


def test_places_change_nothing() -> None:
    assert changed(planned(), planned(pins=pins(folder="/elsewhere"))) == set()


def test_a_target_without_a_recipe_is_a_mistake_of_the_spec() -> None:
    unknown = CATALOG["tflite-micro"].model_copy(update={"runtime": "no-such-toolchain"})
    with pytest.raises(SpecError) as caught:
        plan([spec("x")], {"x": unknown}, DECLARATIONS, pins())
    (problem,) = caught.value.problems
    assert str(problem).startswith("/d/digits.yaml: targets: x is compiled by no-such-toolchain")


class TestWhy:
    @staticmethod
    def of(step: str, before: Plan, after: Plan) -> str:
        old, new = before.variants[0], after.variants[0]
        last = before.nodes[old.steps[step]].recipe if step in old.steps else None
        step_of = {key: name for name, key in new.steps.items()}
        return why(after.nodes[new.steps[step]], last, step_of)

    def test_nothing(self) -> None:
        assert self.of("import", planned(), planned()) == ""

    def test_the_first_time(self) -> None:
        the_plan = planned()
        node = next(iter(the_plan.nodes.values()))
        assert why(node, None, {}) == "not built before"

    def test_a_file(self) -> None:
        assert self.of("import", planned(), planned(pins=pins("m.onnx"))) == "m.onnx changed"
        assert self.of("quantize", planned(), planned(pins=pins("c.npz"))) == "c.npz changed"

    def test_files_that_come_and_go(self) -> None:
        with_weights, without = pins(), pins()
        files = {"model.onnx": without.files[SOURCE]["model.onnx"]}
        without = dataclasses.replace(without, files={**without.files, SOURCE: files})
        assert (
            self.of("import", planned(pins=with_weights), planned(pins=without))
            == "weights.bin is gone"
        )
        assert (
            self.of("import", planned(pins=without), planned(pins=with_weights))
            == "weights.bin is new"
        )

    def test_an_input_of_another_key(self) -> None:
        after = planned(pins=pins("m.onnx"))
        assert self.of("simplify", planned(), after) == "import changed"

    def test_an_input_from_another_step(self) -> None:
        after = planned(spec(optimize=Optimize(precision="int8", simplify=False)))
        assert self.of("quantize", planned(), after) == "import changed"

    def test_an_input_that_is_gone(self) -> None:
        after = planned(spec(evaluation=None))
        reason = self.of("reference", planned(), after)
        assert "evaluation is no longer given" in reason

    def test_parameters_and_tools(self) -> None:
        quantization = Quantization("entropy", per_channel=False)
        after = planned(spec(optimize=Optimize(precision="int8", quantization=quantization)))
        reason = self.of("quantize", planned(), after)
        assert "method minmax -> entropy" in reason
        assert "per_channel True -> False" in reason
        tool = DECLARATIONS["quantize"].tools[0]
        after = planned(pins=pins(tools={tool: "2.0"}))
        assert f"{tool} 1.0 -> 2.0" in self.of("quantize", planned(), after)

    def test_the_step_itself(self) -> None:
        newer = dataclasses.replace(DECLARATIONS["import"], version=99)
        after = planned(declarations={**DECLARATIONS, "import": newer})
        old = DECLARATIONS["import"].version
        assert self.of("import", planned(), after) == f"step version {old} -> 99"

    @pytest.mark.parametrize("last", [{}, {"inputs": None}, {"params": None, "tools": None}])
    def test_a_recipe_of_another_format(self, last: dict[str, Any]) -> None:
        the_plan = planned()
        node = the_plan.nodes[the_plan.variants[0].steps["import"]]
        assert "m.onnx is new" in why(node, last, {})


precisions = st.sampled_from(["fp32", "int8"])
quantizations = st.builds(
    Quantization,
    method=st.sampled_from(["minmax", "percentile", "entropy"]),
    percentile=st.floats(50.5, 100),
    per_channel=st.booleans(),
    exclude=st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
)
optimizes = st.builds(Optimize, st.booleans(), precisions, quantizations)


@given(optimizes, optimizes)
def test_equal_recipes_have_equal_keys_and_others_have_not(one: Optimize, two: Optimize) -> None:
    both = planned(spec(optimize=one), spec(optimize=two, name="b"))
    recipes: dict[str, str] = {}
    for node in both.nodes.values():
        text = digest.canonical(node.recipe).decode()
        assert recipes.setdefault(text, node.key) == node.key
    assert len(set(recipes.values())) == len(recipes)
    assert (both.variants[0].steps == both.variants[1].steps) == (
        one == two or (one.precision == two.precision == "fp32" and one.simplify == two.simplify)
    )


def test_sources_keep_their_paths_out_of_the_recipe() -> None:
    the_plan = planned()
    node = the_plan.nodes[the_plan.variants[0].steps["import"]]
    assert isinstance(node.inputs["model"], SourceFiles)
    assert "/d/" not in digest.canonical(node.recipe).decode()


FALLBACK = Fallback("margin", "y", "logits", EVALUATION, "label", max_error=0.02, cloud="big")


def test_a_fallback_is_calibrated_where_triton_serves_the_model() -> None:
    before, after = planned(), planned(spec(fallback=FALLBACK))
    assert changed(before, after) == {"calibrate-confidence"}
    the_plan = planned(spec("ethos-u55", fallback=FALLBACK))
    assert "calibrate-confidence" not in the_plan.variants[0].steps


def test_a_fallback_reaches_its_own_step_only() -> None:
    one = planned(spec(fallback=FALLBACK))
    for rest in (
        {"max_error": 0.03},
        {"policy": "entropy"},
        {"cloud_source": SOURCE},
        {"cloud": ""},
    ):
        other = planned(spec(fallback=dataclasses.replace(FALLBACK, **rest)))
        assert changed(one, other) == {"calibrate-confidence"}


WARMUP = {
    "name": "w",
    "batch_size": 2,
    "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [4], "zero_data": True}},
}


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino", "jetson-orin-nx"])
def test_warm_ups_that_a_spec_brings_are_tried(target: str) -> None:
    serving = Serving(config={"model_warmup": [WARMUP]})
    before, after = planned(spec(target)), planned(spec(target, serving=serving))
    assert changed(before, after) == {"warm-up"}


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"inputs": {"x": {"dims": [-1]}}}])
def test_what_triton_skips_or_lint_refuses_is_not_tried(change: dict[str, Any]) -> None:
    serving = Serving(config={"model_warmup": [{**WARMUP, **change}]})
    assert "warm-up" not in planned(spec(serving=serving)).variants[0].steps
