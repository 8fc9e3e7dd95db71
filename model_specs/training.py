"""What the training scripts of the example models share.

Each `model_specs/*/train.py` makes its data, fits a small torch model, exports it and prints how
good it is, in fp32 and after int8 quantization. One thread and fixed seeds: the same machine and
the versions of `requirements-train.txt` give the same bytes again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

OPSET = 18
Arrays = dict[str, NDArray[Any]]


def make_deterministic(seed: int) -> None:
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


def fit(
    model: nn.Module,
    examples: Sequence[Tensor],
    loss: Callable[..., Tensor],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 1e-2,
) -> None:
    """Train `model` with AdamW and a one-cycle schedule, and leave it in eval mode.

    `examples` are tensors of equal length; `loss(model, *batch)` is what gets smaller.
    """
    steps = -(-len(examples[0]) // batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=weight_decay, foreach=False
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=epochs * steps
    )
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(examples[0])).split(batch_size):
            optimizer.zero_grad()
            loss(model, *(tensor[batch] for tensor in examples)).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def export(model: nn.Module, path: Path, example: Tensor, input_name: str, *outputs: str) -> None:
    """Write `model` as ONNX with a dynamic first dimension named `batch`.

    The file holds the graph and nothing of the machine that made it. Raises `AssertionError` when
    another batch size changes the rows, or when ONNX Runtime and torch disagree.
    """
    program = torch.onnx.export(
        model,
        (example,),
        input_names=[input_name],
        output_names=list(outputs),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)

    with torch.no_grad():
        result = model(example)
    expected = [result] if isinstance(result, Tensor) else list(result)
    for size in (1, 2, 5):
        found = infer(path, **{input_name: example[:size].numpy()})
        for name, want in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(found[name], want[:size].numpy(), rtol=1e-5, atol=1e-5)


def _strip(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    proto.ClearField("producer_version")
    graph.name = "main"
    graph.ClearField("value_info")
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def infer(model: Path | bytes, **inputs: NDArray[Any]) -> Arrays:
    """Run an ONNX model (a file or its bytes) on one thread; the outputs by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, ["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def quantized(path: Path, **calibration: NDArray[Any]) -> bytes:
    """Quantize to int8 as QDQ, weights per channel, activations uint8: the usual form for x86."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            count = len(next(iter(calibration.values())))
            self._rows: Iterator[Arrays] = (
                {name: rows[i : i + 1] for name, rows in calibration.items()} for i in range(count)
            )

        def get_next(self) -> Arrays | None:
            return next(self._rows, None)

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            path,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def write_labels(path: Path, names: Iterable[object]) -> None:
    """One class name a line, in the order of the scores: the form Triton reads."""
    path.write_text("".join(f"{name}\n" for name in names))


class Digits(NamedTuple):
    """Images [n, 1, 8, 8] float32 in 0..1 with their labels [n] int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def digits_splits() -> tuple[Digits, Digits, Digits]:
    """Training (797), calibration (200) and evaluation (800) digits: disjoint, stratified.

    Both digit models use these, so that their figures compare. The evaluation part is large since
    confidence calibration and risk control, which come after training, live on labelled images
    that no model has seen.
    """
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    rest, evaluation = train_test_split(
        np.arange(len(labels)), test_size=800, random_state=0, stratify=labels
    )
    training, calibration = train_test_split(
        rest, test_size=200, random_state=0, stratify=labels[rest]
    )
    parts = [Digits(images[rows], labels[rows]) for rows in (training, calibration, evaluation)]
    return parts[0], parts[1], parts[2]


def report_accuracy(path: Path, calibration: Digits, evaluation: Digits) -> None:
    """Print a digit model's size and its accuracy on the evaluation images, fp32 and int8."""
    for form, model in (
        ("fp32", path.read_bytes()),
        ("int8", quantized(path, image=calibration.images)),
    ):
        logits = infer(model, image=evaluation.images)["logits"]
        accuracy = float(np.mean(logits.argmax(axis=1) == evaluation.labels))
        print(f"{path.stem} {form}: accuracy {accuracy:.4f}, {len(model):,} bytes")


def auroc(negative: NDArray[Any], positive: NDArray[Any]) -> float:
    """The chance that a positive scores above a negative: the Mann-Whitney form, ties as half."""
    above = positive[:, None] > negative[None]
    equal = positive[:, None] == negative[None]
    return float(np.mean(above + equal / 2))


def box_iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union of [n, 4] and [m, 4] boxes (x1, y1, x2, y2), as [n, m]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area, other_area = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others))
    return np.asarray(both / (area[:, None] + other_area[None] - both + 1e-9))


def suppress(boxes: NDArray[Any], scores: NDArray[Any], overlap: float = 0.5) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: the rows to keep, best first."""
    order = np.argsort(-scores, kind="stable")
    overlaps = box_iou(boxes, boxes) > overlap
    kept: list[int] = []
    for row in order:
        if not overlaps[row, kept].any():
            kept.append(int(row))
    return np.array(kept, dtype=np.intp)


def mean_average_precision(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    true_boxes: NDArray[Any],
    true_classes: NDArray[Any],
    overlap: float = 0.5,
) -> float:
    """mAP over all classes: area under the interpolated precision-recall curve, as VOC has it.

    `boxes` [n, N, 4] and `scores` [n, N, classes] are raw; suppression is per class. A class of -1
    in `true_classes` [n, M] is padding.
    """
    precisions = []
    for cls in range(scores.shape[2]):
        hits: list[tuple[float, bool]] = []
        for image in range(len(boxes)):
            truth = true_boxes[image][true_classes[image] == cls]
            sure = scores[image, :, cls] > 0.01
            found, score = boxes[image][sure], scores[image][sure, cls]
            taken = np.zeros(len(truth), dtype=bool)
            for row in suppress(found, score):
                overlaps = box_iou(found[row : row + 1], truth)[0]
                best = int(overlaps.argmax()) if len(truth) else -1
                hit = best >= 0 and overlaps[best] >= overlap and not taken[best]
                if hit:
                    taken[best] = True
                hits.append((float(score[row]), bool(hit)))
        hits.sort(key=lambda entry: -entry[0])
        correct = np.cumsum([hit for _, hit in hits])
        precision = correct / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = correct / np.sum(true_classes == cls)
        precisions.append(np.sum(np.diff(recall, prepend=0) * precision))
    return float(np.mean(precisions))
