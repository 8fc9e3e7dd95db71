"""What a model is for, told from the shapes of its outputs and from what they held. Pure rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repo_builder.base import detections
from repo_builder.base.artifact import Tensor
from repo_builder.client.models.policies import Activation
from repo_builder.introspect import states
from repo_builder.propose.look import Look, Seen
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName

Kind = Literal[
    "classes", "scores", "one-score", "value", "embedding", "reconstruction", "segmentation",
    "detector", "boxes", "text", "steps", "other",
]  # fmt: skip
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
_UNSEEN = Seen()
_WHOLE = ("INT32", "INT64", "UINT8", "INT8", "UINT32", "UINT64", "INT16", "UINT16")


@dataclass(frozen=True)
class Task:
    """What a model seems to be for.

    `what` says it in words, with what it was told from. `output` is the one that a metric reads,
    `boxes` that of boxes beside it, `classes` how many classes it tells apart (0: unknown).
    `metrics` are those that would judge it, the likeliest first. `label` is an output that holds
    the class itself beside the scores.
    """

    kind: Kind
    what: str
    output: str
    metrics: tuple[MetricName, ...] = ()
    activation: Activation | Literal[""] = ""
    classes: int = 0
    boxes: str = ""
    label: str = ""

    def outputs(self, metric: MetricName) -> dict[str, str]:
        """What `metric` reads -> the output of the model, for `evaluation: {outputs: ...}`."""
        roles = REQUIRES[metric].outputs
        if metric == "map50":
            return {"boxes": self.boxes, "scores": self.output}
        return {roles[0]: self.output} if len(roles) == 1 else {}


def of(look: Look) -> Task:
    """The likeliest task of the model; of kind `other` where nothing speaks for any."""
    signature = look.signature
    kept = set(states.pairs(signature.inputs, signature.outputs).values())
    answers = tuple(t for t in signature.outputs if t.name not in kept) or signature.outputs
    tensors = {t.name: t for t in answers}
    image = image_input(signature.inputs)
    floats = [t for t in tensors.values() if t.dtype in _FLOATS]
    if image is not None and (found := _of_images(look, image, floats)):
        return found
    tables = [t for t in floats if len(t.shape) == 2]
    labels = [
        t for t in tensors.values() if t.dtype in (*_WHOLE, "STRING", "BOOL") and _one_a_row(t)
    ]
    if tables and labels and len(tensors) == 2:
        return _scores(look, tables[0], labels[0].name)
    if len(tables) == len(floats) == 1:
        return _table(look, tables[0])
    if len(floats) == len(tensors) == 1 and len(floats[0].shape) <= 1:
        return Task("value", "one number a row", floats[0].name, ("rmse", "roc_auc"))
    if not floats and len(labels) == 1:
        text = "the class of a row, without scores"
        return Task("classes", text, labels[0].name, ("accuracy", "f1"))
    for tensor in floats:
        if len(tensor.shape) == 3:
            return _steps(look, tensor)
    first = (tables or floats or list(tensors.values()))[0].name
    return Task("other", "", first)


def judged(look: Look, task: Task, metric: str | None) -> Task:
    """The task once labels were tried: a table that classes could be counted in has scores."""
    tables = [t for t in look.signature.outputs if t.name == task.output and len(t.shape) == 2]
    if metric != "accuracy" or task.kind in ("scores", "classes") or not tables:
        return task
    return _scores(look, tables[0], task.label)


def image_input(inputs: tuple[Tensor, ...]) -> Tensor | None:
    """The only input, where it looks like images: [n, 1 or 3, h, w] or [n, h, w, 1 or 3]."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    return inputs[0] if {inputs[0].shape[1], inputs[0].shape[3]} & {1, 3} else None


def channels_last(image: Tensor) -> bool:
    """Whether an image's channels are its last dimension."""
    return image.shape[1] not in (1, 3)


def _one_a_row(tensor: Tensor) -> bool:
    return len(tensor.shape) <= 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1)


def _of_images(look: Look, image: Tensor, floats: list[Tensor]) -> Task | None:
    """The tasks that only models of images have."""
    outputs = look.signature.outputs
    if len(outputs) == 1 and detections.looks_like(outputs[0].shape) and floats:
        found = _detector(look, outputs[0])
        if found is not None:
            return found
    boxes = [t for t in floats if len(t.shape) == 3 and t.shape[2] == 4]
    others = [t for t in floats if len(t.shape) == 3 and t not in boxes]
    if len(boxes) == len(others) == 1 and len(outputs) == 2 and boxes[0].shape[2] != 0:
        what = f"a detector: boxes in {boxes[0].name}, a score for each class in {others[0].name}"
        return Task("boxes", what, others[0].name, ("map50",), boxes=boxes[0].name)
    if len(outputs) != 1:
        return None
    output = outputs[0]
    if output in floats and output.shape == image.shape:
        return _reconstruction(output)
    if output in floats and len(output.shape) == 4 and _like(output.shape[2:], image.shape, image):
        classes = output.shape[1] if isinstance(output.shape[1], int) else 0
        if classes == 1:
            return Task("other", "one score for every pixel", output.name)
        what = f"a score of {classes or 'each'} classes for every pixel"
        return Task("segmentation", what, output.name, ("miou",), classes=classes)
    if (
        output.dtype in _WHOLE
        and len(output.shape) >= 3
        and _like(output.shape[-2:], image.shape, image)
    ):
        return Task("segmentation", "a class for every pixel", output.name, ("miou",))
    if output in floats and len(output.shape) == 3:
        return _many_boxes(output) or _text(output)
    return None


def _many_boxes(output: Tensor) -> Task | None:
    """[n, boxes, 5 or more]: far more boxes than a text has steps."""
    boxes, channels = output.shape[1:]
    if not (isinstance(boxes, int) and isinstance(channels, int) and boxes > 8 * channels > 32):
        return None
    what = f"{boxes} boxes of {channels} values, as YOLOv5, YOLOX or a detector with NMS inside has"
    return Task("other", f"{what}; no metric reads that layout", output.name)


def _like(size: tuple[int | str, ...], shape: tuple[int | str, ...], image: Tensor) -> bool:
    """Whether `size` may be the height and width of an image."""
    pixels = shape[1:3] if channels_last(image) else shape[2:]
    return all(
        a == b or isinstance(a, str) or isinstance(b, str)
        for a, b in zip(size, pixels, strict=True)
    )


def _detector(look: Look, output: Tensor) -> Task | None:
    """A detector in Ultralytics' layout: few channels, of which those behind the box are shares."""
    channels = output.shape[1]
    assert isinstance(channels, int)  # noqa: S101 - `looks_like` asks for it
    noted = look.metadata.get("task", "")
    shares = look.seen.get(output.name, _UNSEEN).shares  # along the last axis: a text's classes
    if shares or (noted and noted != "detect"):
        return None
    told = "its exporter's notes" if noted else "its shape"
    what = f"a detector in Ultralytics' layout, [n, 4 + {channels - 4} classes, boxes], by {told}"
    return Task("detector", what, output.name, ("map50_ultralytics",), classes=channels - 4)


def _text(output: Tensor) -> Task:
    what = "scores at every step, [rows, time, classes]: text read by CTC, if it is an OCR model"
    return Task("text", what, output.name, ("cer", "wer"), classes=_last(output))


def _reconstruction(output: Tensor) -> Task:
    what = "of its input's own shape: a reconstruction, whose error tells anomalies"
    return Task("reconstruction", what, output.name, ("auroc", "rmse"))


def _steps(look: Look, output: Tensor) -> Task:
    inputs = look.signature.inputs
    if any(t.shape == output.shape and t.dtype == output.dtype for t in inputs):
        return _reconstruction(output)
    held = "probabilities" if look.seen.get(output.name, _UNSEEN).shares else "values"
    return Task("steps", f"{held} at every step of a sequence", output.name)


def _table(look: Look, output: Tensor) -> Task:
    """One table of floats, [n, columns]."""
    if output.shape[1] == 1:
        return _one(look, output)
    seen = look.seen.get(output.name, _UNSEEN)
    if seen.unit and seen.least < 0:
        what = "embeddings: rows of length 1"
        return Task("embedding", what, output.name, ("recall1",))
    inputs = look.signature.inputs
    if not seen.shares and len(inputs) == 1 and inputs[0].shape == output.shape:
        return _reconstruction(output)
    return _scores(look, output, "")


def _scores(look: Look, output: Tensor, label: str) -> Task:
    classes = _last(output)
    seen = look.seen.get(output.name, _UNSEEN)
    many = f"{classes} classes" if classes else "the classes"
    if classes == 1:
        return _one(look, output, label)
    if seen.shares:
        what = f"probabilities of {many}: each row sums to 1"
        metrics: tuple[MetricName, ...] = ("accuracy", "f1", "roc_auc")
        return Task("scores", what, output.name, metrics, "probabilities", classes, label=label)
    if seen.made_by == "Sigmoid":
        what = f"a probability for each of {many}, which may go together (Sigmoid)"
        metrics = ("accuracy", "roc_auc", "f1", "rmse")
        return Task("scores", what, output.name, metrics, "probabilities", classes, label=label)
    what = f"scores of {many} that are no probabilities (logits), or values"
    metrics = ("accuracy", "f1", "rmse", "recall1")
    return Task("scores", what, output.name, metrics, "logits", classes, label=label)


def _one(look: Look, output: Tensor, label: str = "") -> Task:
    seen = look.seen.get(output.name, _UNSEEN)
    if seen.made_by == "Sigmoid":
        what = "one probability a row (Sigmoid)"
        return Task("one-score", what, output.name, ("f1", "roc_auc"), label=label)
    metrics: tuple[MetricName, ...] = ("rmse", "roc_auc", "auroc")
    return Task("value", "one number a row", output.name, metrics, label=label)


def _last(output: Tensor) -> int:
    size = output.shape[-1] if output.shape else 0
    return size if isinstance(size, int) else 0
