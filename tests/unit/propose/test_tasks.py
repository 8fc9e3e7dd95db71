"""What a model is for, by shapes and by what its outputs held."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.propose import look, recipes, tasks
from repo_builder.propose.look import Look, Seen

IMAGE = Tensor("x", "FP32", ("n", 3, 32, 32))
ROW = Tensor("x", "FP32", ("n", 16))
SHARES = Seen("Softmax", shares=True, least=0, most=1)
SIGMOID = Seen("Sigmoid", least=0.1, most=0.9)
UNIT = Seen("Div", unit=True, least=-0.5, most=0.5)


def of(
    *outputs: tuple[str, str, tuple[int | str, ...]],
    given: Tensor | tuple[Tensor, ...] = ROW,
    seen: Seen | None = None,
    **metadata: str,
) -> tasks.Task:
    inputs = given if isinstance(given, tuple) else (given,)
    tensors = tuple(Tensor(*output) for output in outputs)
    signature = Signature(inputs, tensors, batched=True)
    held = {tensor.name: seen or Seen() for tensor in tensors}
    return tasks.of(Look(signature, {}, None, held, metadata, has_scales=False))


@pytest.mark.parametrize(
    ("task", "kind", "metric"),
    [
        (of(("y", "FP32", ("n", 10)), seen=SHARES), "scores", "accuracy"),
        (of(("y", "FP32", ("n", 10)), seen=SIGMOID), "scores", "accuracy"),
        (of(("y", "FP32", ("n", 1)), seen=SIGMOID), "one-score", "f1"),
        (of(("y", "FP32", ("n", 1))), "value", "rmse"),
        (of(("y", "FP32", ("n",))), "value", "rmse"),
        (of(("y", "FP32", ("n", 128)), seen=UNIT), "embedding", "recall1"),
        (of(("y", "FP32", ("n", 16))), "reconstruction", "auroc"),
        (of(("y", "INT64", ("n",))), "classes", "accuracy"),
        (of(("y", "STRING", ("n",))), "classes", "accuracy"),
        (of(("y", "FP32", ("n", 5, 32, 32)), given=IMAGE), "segmentation", "miou"),
        (of(("y", "INT64", ("n", 32, 32)), given=IMAGE), "segmentation", "miou"),
        (of(("y", "FP32", ("n", 3, 32, 32)), given=IMAGE), "reconstruction", "auroc"),
        (of(("y", "FP32", ("n", 24, 96)), given=IMAGE), "detector", "map50_ultralytics"),
        (of(("y", "FP32", ("n", "t", 97)), given=IMAGE), "text", "cer"),
        (of(("y", "FP32", ("n", 24, 97)), given=IMAGE, seen=SHARES), "text", "cer"),
    ],
)
def test_one_output(task: tasks.Task, kind: str, metric: str) -> None:
    assert (task.kind, task.metrics[0], task.output) == (kind, metric, "y")
    assert len(task.outputs(task.metrics[0])) == 1


def test_activation_follows_from_what_was_held() -> None:
    assert of(("y", "FP32", ("n", 10)), seen=SHARES).activation == "probabilities"
    assert of(("y", "FP32", ("n", 10))).activation == "logits"


def test_the_table_beside_a_label_is_read() -> None:
    found = of(("label", "INT64", ("n",)), ("p", "FP32", ("n", 3)), seen=SHARES)
    assert (found.output, found.label, found.classes) == ("p", "label", 3)


def test_boxes_beside_scores() -> None:
    found = of(("b", "FP32", ("n", 9, 4)), ("s", "FP32", ("n", 9, 7)), given=IMAGE)
    assert found.outputs("map50") == {"boxes": "b", "scores": "s"}


def test_a_layout_that_no_metric_reads_is_said() -> None:
    found = of(("y", "FP32", (1, 3549, 6)), given=IMAGE)
    assert found.metrics == ()
    assert "as YOLOv5, YOLOX" in found.what


def test_a_state_is_no_answer() -> None:
    state = Tensor("state", "FP32", (2, "n", 64))
    found = of(
        ("y", "FP32", ("n", 1)), ("stateN", "FP32", (2, "n", 64)), given=(ROW, state), seen=SIGMOID
    )
    assert (found.output, found.kind) == ("y", "one-score")


def test_notes_of_an_exporter(tmp_path: Path) -> None:
    file = tmp_path / "yolo.onnx"
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        " g (float[n, 3, h, w] images, float[n, 7, 20] output0) => (float[n, 7, 20] output) "
        "{ a = ReduceMax<keepdims = 0>(images) output = Add(output0, a) }"
    )
    onnx.helper.set_model_props(
        net, {"task": "detect", "stride": "32", "imgsz": "[64, 96]", "names": "{0: 'a', 1: 'b'}"}
    )
    onnx.save(net, file)
    found = look.look(file)
    assert recipes.names(found) == ("a", "b")
    alone = Signature(found.signature.inputs[:1], found.signature.outputs, batched=False)
    recipe = recipes.of_shape(Look(alone, {}, None, {}, found.metadata, has_scales=False))
    assert recipe is not None
    assert recipe.certain
    assert recipe.values == {"input": "images", "size": [64, 96], "fit": "letterbox"}
