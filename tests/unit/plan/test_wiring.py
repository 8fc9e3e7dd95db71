"""Pipelines: what does not fit together is told with both ends and the line; configs are golden."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from repo_builder import steps, targets
from repo_builder.base.artifact import TensorType
from repo_builder.base.errors import SpecError
from repo_builder.plan import Plan, plan
from repo_builder.repository import ensemble, render
from repo_builder.run.pin import pin
from repo_builder.run.store import Store
from repo_builder.spec.load import load, select

CATALOG = targets.load()
SPECS = Path(__file__).parents[3] / "model_specs"
GOLDEN = Path(__file__).parents[2] / "golden" / "pipelines"
READ = """\
kind: pipeline
name: read-digit
version: 1.0.0
targets: [cpu]
inputs: [file]
steps:
  decode: {preprocess: digits, inputs: {file: file}}
  read: {model: digits, inputs: {image: decode.image}}
  best: {top_k: {k: 3, labels: digits/labels.txt}, inputs: {scores: read.logits}}
outputs: {label: best.label}
sample: {file: digits/sample.png}
"""


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """The example specs, for the CPU."""
    folder = tmp_path / "specs"
    shutil.copytree(SPECS, folder)
    (folder / "find-shapes.yaml").unlink()
    return folder


def planned(folder: Path) -> Plan:
    declarations = steps.declarations()
    specs = select(load([folder], CATALOG), [], ["cpu", "cpu-openvino"])
    store = Store(folder.parent / "store")
    return plan(specs, CATALOG, declarations, pin(specs, declarations, store))


def said(folder: Path, text: str) -> list[str]:
    """The problems of read-digit.yaml, without its folder."""
    (folder / "read-digit.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        planned(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_pipeline_that_fits_is_planned_behind_its_models(specs: Path) -> None:
    (specs / "read-digit.yaml").write_text(READ)
    the_plan = planned(specs)
    (pipeline,) = the_plan.pipelines
    assert pipeline.order == ("decode", "read", "best")
    assert set(pipeline.steps) == {"stage-python decode", "stage-python best", "run-pipeline"}
    run = the_plan.nodes[pipeline.steps["run-pipeline"]]
    compiled = pipeline.models["digits"].steps["compile-onnxruntime"]
    assert list(the_plan.nodes).index(compiled) < list(the_plan.nodes).index(run.key)


def test_openvino_compiles_what_is_an_onnx_graph() -> None:
    both = {p.spec.id: p for p in planned_examples().pipelines}
    assert "compile-openvino suppress" not in both["find-shapes@cpu"].steps
    assert "compile-openvino suppress" in both["find-shapes@cpu-openvino"].steps


def planned_examples() -> Plan:
    import tempfile

    declarations = steps.declarations()
    specs = select(load([SPECS], CATALOG), ["read-digit", "find-shapes"], ["cpu", "cpu-openvino"])
    with tempfile.TemporaryDirectory() as folder:
        return plan(specs, CATALOG, declarations, pin(specs, declarations, Store(Path(folder))))


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "preprocess: digits", "preprocess: shapes",
            ["read-digit.yaml:8: steps.read.inputs.image: 'decode' (preprocess) has no output "
             "'image'; did you mean 'images'?"],
        ),
        (
            "read.logits}", "read.logit}",
            ["read-digit.yaml:9: steps.best.inputs.scores: 'read' (the model 'digits') has no "
             "output 'logit'; did you mean 'logits'?"],
        ),
        (
            "digits/labels.txt", "shapes/labels.txt",
            ["read-digit.yaml:9: steps.best.inputs.scores: read.logits FP32 [10] -> best.scores "
             "FP32 [3]; make both ends equal"],
        ),
        (
            "model: digits", "model: digit",
            ["read-digit.yaml:8: steps.read.model: there is no model 'digit' for cpu; did you "
             "mean 'digits'?"],
        ),
        (
            "decode.image", "decoed.image",
            ["read-digit.yaml:7: steps.decode: nothing reads what 'decode' makes; remove it, or "
             "give it out",
             "read-digit.yaml:8: steps.read.inputs.image: there is no step 'decoed'; did you mean "
             "'decode'?"],
        ),
        (
            "image: decode.image", "imagery: decode.image",
            ["read-digit.yaml:8: steps.read.inputs: the input 'image' of 'read' comes from "
             "nowhere; write `image: STEP.OUTPUT`",
             "read-digit.yaml:8: steps.read.inputs.imagery: 'read' (the model 'digits') has no "
             "input 'imagery'; did you mean 'image'?"],
        ),
        (
            "{file: file}", "{file: read.logits}",
            ["read-digit.yaml:5: inputs[0]: no step reads 'file'; remove it",
             "read-digit.yaml:7: steps.decode.inputs: these steps wait for each other: "
             "decode, read, decode; cut one wire",
             "read-digit.yaml:7: steps.decode.inputs.file: read.logits FP32 [10] -> decode.file "
             "STRING [1]; make both ends equal"],
        ),
        (
            "label: best.label", "label: best.label, again: best.label, raw: file",
            ["read-digit.yaml:10: outputs.again: 'best.label' is given out as 'label' already; "
             "keep one",
             "read-digit.yaml:10: outputs.raw: 'file' is an input, not what a step makes; write "
             "`STEP.OUTPUT`"],
        ),
        (
            "preprocess: digits", "preprocess: vibration",
            ["read-digit.yaml:7: steps.decode.preprocess: the spec of 'vibration' has no "
             "`preprocess`; write one in vibration.yaml"],
        ),
        (
            "name: read-digit", "name: digits-large",
            ["read-digit.yaml:2: name: 'digits-large' is also the name of the model at "
             "digits-large.yaml:3; rename one of them"],
        ),
        (
            "inputs: [file]", "inputs: [file, a/b, größe]",
            ["read-digit.yaml:5: inputs[1]: 'a/b' is no name of a tensor or step; use letters, "
             "digits, '_' and '-', at most 64",
             "read-digit.yaml:5: inputs[2]: 'größe' is no name of a tensor or step; use letters, "
             "digits, '_' and '-', at most 64",
             "read-digit.yaml:11: sample: has nothing for the input 'a/b'; write `sample: "
             "{a/b: FILE}`",
             "read-digit.yaml:11: sample: has nothing for the input 'größe'; write `sample: "
             "{größe: FILE}`"],
        ),
        (
            "{label: best.label}", "{file: best.label}",
            ["read-digit.yaml:10: outputs.file: 'file' is written twice: it is also on line 5; "
             "rename one"],
        ),
        (
            "k: 3", "k: 11",
            ["read-digit.yaml:9: steps.best.top_k.k: 11, but digits/labels.txt has 10 labels; "
             "write fewer"],
        ),
        (
            "model: digits,", "model: digits, nms: {},",
            ["read-digit.yaml:8: steps.read: is model and nms; write exactly one of: model, "
             "preprocess, nms, top_k"],
        ),
        (
            "[cpu]", "[cpu, ethos-u55]",
            ["read-digit.yaml:4: targets[1]: ethos-u55 runs no Triton, so no pipeline; remove it"],
        ),
        (
            "digits/sample.png", "digits/sampel.png",
            ["read-digit.yaml:11: sample.file: no such file: digits/sampel.png; paths are "
             "relative to "],
        ),
        (
            "name: read-digit", "name: read/dígit",
            ["read-digit.yaml:2: name: 'read/dígit' is no model name; use letters, digits, '_', "
             "'-' and '.', at most 128"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_both_ends_and_the_line(
    specs: Path, old: str, new: str, problems: list[str]
) -> None:
    assert old in READ
    assert said(specs, READ.replace(old, new)) == problems


def test_a_steps_name_is_not_that_of_a_model(specs: Path) -> None:
    twin = (specs / "digits-large.yaml").read_text().replace("digits-large\n", "read-digit.best\n")
    (specs / "twin.yaml").write_text(twin)
    (line,) = said(specs, READ)
    assert line.endswith("steps.best: a model is called 'read-digit.best', as this step would be; "
                         "rename the step")  # fmt: skip


def test_a_pipeline_takes_of_the_folders_defaults_what_it_has(specs: Path) -> None:
    (specs / "defaults.yaml").write_text("targets: [cpu]\noptimize: {precision: fp32}\n")
    (specs / "read-digit.yaml").write_text(READ.replace("targets: [cpu]\n", ""))
    (pipeline,) = planned(specs).pipelines
    assert pipeline.spec.id == "read-digit@cpu"


def test_a_target_may_have_another_budget(specs: Path) -> None:
    more = "latency_budget_ms: 5\noverrides: {cpu-openvino: {latency_budget_ms: 9}}\n"
    (specs / "read-digit.yaml").write_text(READ.replace("[cpu]", "[cpu, cpu-openvino]") + more)
    budgets = [pipeline.spec.latency_budget_ms for pipeline in planned(specs).pipelines]
    assert budgets == [{"total": 5}, {"total": 9}]


def test_a_budget_may_have_parts_and_a_rate(specs: Path) -> None:
    more = "latency_budget_ms: {total: 20, queue: 2, rate: 100}\n"
    (specs / "read-digit.yaml").write_text(READ + more)
    (pipeline,) = planned(specs).pipelines
    assert pipeline.spec.latency_budget_ms == {"total": 20, "queue": 2}
    assert pipeline.spec.budget_rate == 100


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("{queue: 2}", "limits the queue, which only load fills; write a `rate` beside it"),
        ("{rate: 9}", "has no limit; write one of: total, queue, preprocess, infer, postprocess"),
        ("{preproces: 2}", "did you mean 'preprocess'?"),
        ("fast", "is neither a number of ms nor a mapping such as {total: 25}"),
        ("{total: .nan}", "total"),
        ("{total: 5, rate: 0}", "rate"),
    ],
)
def test_budgets_that_are_none(specs: Path, budget: str, said: str) -> None:
    (specs / "read-digit.yaml").write_text(f"{READ}latency_budget_ms: {budget}\n")
    with pytest.raises(SpecError, match=re.escape(said)):
        planned(specs)


def test_selecting_a_pipeline_selects_its_models() -> None:
    chosen = select(load([SPECS], CATALOG), ["read-digit@cpu"])
    assert [spec.id for spec in chosen] == ["digits@cpu", "read-digit@cpu"]


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (("FP32", ("n", 3)), ("FP32", ("rows", 3)), True),
        (("FP32", ("n", 3)), ("FP32", ("n", 4)), False),
        (("FP32", (3,)), ("FP16", (3,)), False),
        (("FP32", (1, 3)), ("FP32", (3,)), False),
        (("FP32", None), ("FP32", (3,)), True),
    ],
)
def test_ends_fit(one: tuple[str, None], other: tuple[str, None], fits: bool) -> None:
    assert TensorType(*one).fits(TensorType(*other)) is fits


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
@pytest.mark.parametrize("name", ["read-digit", "find-shapes"])
def test_the_configs_are_golden(
    golden: Callable[[Path, str], None], name: str, target: str
) -> None:
    (variant,) = [p for p in planned_examples().pipelines if p.spec.id == f"{name}@{target}"]
    openvino = target == "cpu-openvino"
    backends = {
        stage.name: "python" if stage.kind != "nms" else "openvino" if openvino else "onnxruntime"
        for stage in variant.spec.stages.values()
        if stage.kind != "model"
    }
    parts = [ensemble.Part(0 if openvino else 16, 2)]
    configs = ensemble.decide(variant.spec, backends, variant.interfaces, parts)
    texts = [render.text(config) for _, config in sorted(configs.items())]
    GOLDEN.mkdir(exist_ok=True)
    golden(GOLDEN / f"{name}@{target}.pbtxt", "\n".join(texts))


FIND = """\
kind: pipeline
name: read-digit
version: 1.0.0
targets: [cpu]
inputs: [images]
steps:
  find: {model: squares, inputs: {images: images}}
  best: {nms: {layout: ultralytics}, inputs: {detections: find.output0}}
outputs: {box: best.box}
sample: {images: x.npy}
"""


def with_output(folder: Path, shape: list[int | str]) -> None:
    """A model `squares` whose one output is declared so; planning runs nothing."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["output0"])],
        "g",
        [value("images", 1, shape)],
        [value("output0", 1, shape)],
    )
    onnx.save(onnx.helper.make_model(graph), folder / "squares.onnx")
    spec = "name: squares\nversion: 1.0.0\nsource: {onnx: squares.onnx}\ntargets: [cpu]\n"
    (folder / "squares.yaml").write_text(spec)
    (folder / "x.npy").write_bytes(b"")


@pytest.mark.parametrize("shape", [["n", 6, 64], [1, 84, 8400], ["n", 6, "k"], ["n", "c", "k"]])
def test_one_output_of_a_detector_fits(specs: Path, shape: list[int | str]) -> None:
    with_output(specs, shape)
    (specs / "read-digit.yaml").write_text(FIND)
    (pipeline,) = planned(specs).pipelines
    assert set(pipeline.interfaces["best"].inputs) == {"detections"}


LOOKS = "looks like boxes and scores in one, as of Ultralytics; write `nms: {layout: ultralytics}`"


@pytest.mark.parametrize(
    ("shape", "old", "new", "problem"),
    [
        (
            ["n", 6, 64], "{layout: ultralytics}", "{}",
            f"best.inputs.detections: find.output0 FP32 [6,64] {LOOKS} and `detections: "
            "find.output0`",
        ),
        (
            ["n", 84, "k"], "layout: ultralytics}, inputs: {detections: find.output0}",
            "}, inputs: {scores: find.output0, box: find.output0}",
            f"best.inputs.box: find.output0 FP32 [84,k] {LOOKS} and `detections: find.output0`",
        ),
        (
            ["n", 6, 64], "layout: ultralytics}, inputs: {detections: find.output0}",
            "}, inputs: {scores: find.output0, boxes: find.output0}",
            f"best.inputs.boxes: find.output0 FP32 [6,64] {LOOKS} and `detections: find.output0`",
        ),
        (
            ["n", 8400, 84], "", "",
            "best.inputs.detections: 'find.output0' has 8400 channels for 84 boxes, as if it were "
            "transposed; write the output [n, 4 + classes, boxes] of a detector",
        ),
        (
            ["n", 4, 64], "", "",
            "best.inputs.detections: 'find.output0' has 4 channels, of which no class is left "
            "behind x, y, w, h; write the output [n, 4 + classes, boxes] of a detector",
        ),
        (
            ["n", 64], "", "",
            "best.inputs.detections: find.output0 FP32 [64] -> best.detections FP32 "
            "[4 + classes,boxes]; make both ends equal",
        ),
    ],
)  # fmt: skip
def test_another_layout_of_a_detector_is_told(
    specs: Path, shape: list[int | str], old: str, new: str, problem: str
) -> None:
    with_output(specs, shape)
    assert old in FIND
    assert said(specs, FIND.replace(old, new)) == [f"read-digit.yaml:8: steps.{problem}"]
