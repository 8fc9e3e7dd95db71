"""Train `shapes`, a one-stage detector in YOLO style: circles, squares, triangles in drawn scenes.

One scale, no anchors: each cell of a 12x12 grid says where the sides of the box around it are and
how sure it is of each class. Boxes leave the graph decoded to pixels, scores in 0..1; suppression
of overlapping boxes is left to the application. Conv and Relu in the body; Mul, Add and Sigmoid in
the tail. Writes shapes.onnx, both data sets, the labels and a sample image beside itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import training  # noqa: E402

CLASSES = ("circle", "square", "triangle")
SIZE = 96
STRIDE = 8
MOST = 4  # shapes in an image
FINE = 4  # drawn this much larger, then scaled down, for smooth edges


class Scenes(NamedTuple):
    """Images [n, 3, 96, 96] in 0..1; boxes [n, 4, 4] as x1, y1, x2, y2 in pixels; classes [n, 4].

    Where an image holds fewer than 4 shapes, its last classes are -1 and their boxes 0.
    """

    images: NDArray[np.float32]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


def outline(random: np.random.Generator, cls: int, radius: float) -> NDArray[Any]:
    """Corners of a shape about the origin, turned by chance; a circle has 64."""
    corners = (64, 4, 3)[cls]
    angles = random.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def colour(random: np.random.Generator, *, unlike: NDArray[Any]) -> tuple[int, int, int]:
    """A colour that stands out: its channels differ from `unlike` by more than 150 in all."""
    while True:
        red, green, blue = (int(value) for value in random.integers(0, 256, 3))
        if np.abs(unlike - (red, green, blue)).sum() > 150:
            return red, green, blue


def background(random: np.random.Generator, base: NDArray[Any]) -> Image.Image:
    """Tiles of about the colour `base`, with a few lines across them."""
    tiles = np.clip(base + random.integers(-24, 25, (6, 6, 3)), 0, 255).astype(np.uint8)
    canvas = Image.fromarray(tiles).resize((SIZE * FINE,) * 2, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    for _ in range(3):
        ends = [float(end) for end in random.uniform(0, SIZE * FINE, 4)]
        draw.line(ends, fill=colour(random, unlike=base), width=FINE)
    return canvas


def scenes(seed: int, count: int) -> Scenes:
    """Draw `count` images with 1 to 4 shapes each, which overlap little."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.float32)
    boxes = np.zeros((count, MOST, 4), dtype=np.float32)
    classes = np.full((count, MOST), -1, dtype=np.int64)
    for i in range(count):
        base = random.integers(40, 216, 3)
        canvas = background(random, base)
        draw = ImageDraw.Draw(canvas)
        drawn = 0
        for _ in range(random.integers(1, MOST + 1)):
            cls = int(random.integers(len(CLASSES)))
            corners = outline(random, cls, random.uniform(9, 24))
            low, high = corners.min(axis=0), corners.max(axis=0)
            corners = corners + random.uniform(-low, SIZE - high)
            box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            if training.box_iou(box[None], boxes[i, :drawn]).max(initial=0) > 0.1:
                continue
            points = [(float(x), float(y)) for x, y in corners * FINE]
            draw.polygon(points, fill=colour(random, unlike=base))
            boxes[i, drawn], classes[i, drawn] = box, cls
            drawn += 1
        pixels = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))
        images[i] = pixels.transpose(2, 0, 1) / np.float32(255)
    return Scenes(images, boxes, classes)


def centres() -> NDArray[np.float32]:
    """The centre of each cell, twice, to be added to the offsets of a box's sides: [1, 144, 4]."""
    ticks = (np.arange(SIZE // STRIDE, dtype=np.float32) + 0.5) * STRIDE
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return np.stack([x, y, x, y], axis=-1).reshape(1, -1, 4)


def assign(boxes: NDArray[np.float32], classes: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """What each cell should say: a box [n, 144, 4] and a class [n, 144], -1 for nothing.

    A shape belongs to the cells around its centre (FCOS, arXiv:1904.01355, section 3.2, with
    centre sampling); where two claim a cell, the smaller one has it.
    """
    cells = centres()[0, :, :2]
    cell_boxes = np.zeros((len(boxes), len(cells), 4), dtype=np.float32)
    cell_classes = np.full((len(boxes), len(cells)), -1, dtype=np.int64)
    for i, shapes in enumerate(boxes):
        areas = np.prod(shapes[:, 2:] - shapes[:, :2], axis=1)
        for j in np.argsort(-areas):
            if classes[i, j] < 0:
                continue
            middle, half = (shapes[j, :2] + shapes[j, 2:]) / 2, (shapes[j, 2:] - shapes[j, :2]) / 2
            near = (np.abs(cells - middle) < np.minimum(half, 1.25 * STRIDE)).all(axis=1)
            cell_boxes[i, near], cell_classes[i, near] = shapes[j], classes[i, j]
    return torch.from_numpy(cell_boxes), torch.from_numpy(cell_classes)


def block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Detector(nn.Module):
    """Three halvings to a 12x12 grid, three more blocks there to see whole shapes, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(3, 16, 2), block(16, 32, 2), block(32, 48, 2), *(block(48, 48) for _ in range(3))
        )
        self.offsets = nn.Conv2d(48, 4, 1)
        self.logits = nn.Conv2d(48, len(CLASSES), 1)
        nn.init.constant_(self.logits.bias, -4.0)  # nearly every cell is empty
        self.centres: Tensor
        self.register_buffer("centres", torch.from_numpy(centres()))

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [n, 144, 4] in pixels and class logits [n, 144, 3]."""
        grid = self.body(images)
        offsets = self.offsets(grid).flatten(2).transpose(1, 2)
        return offsets * (2 * STRIDE) + self.centres, self.logits(grid).flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes as in `predict`, and scores [n, 144, 3] in 0..1."""
        boxes, logits = self.predict(images)
        return boxes, logits.sigmoid()


def generalized_iou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU (arXiv:1902.09630) of boxes row by row."""

    def area(low: Tensor, high: Tensor) -> Tensor:
        return (high - low).clamp(min=0).prod(dim=-1)

    low, high = boxes[..., :2], boxes[..., 2:]
    other_low, other_high = others[..., :2], others[..., 2:]
    both = area(torch.maximum(low, other_low), torch.minimum(high, other_high))
    union = area(low, high) + area(other_low, other_high) - both + 1e-6
    hull = area(torch.minimum(low, other_low), torch.maximum(high, other_high)) + 1e-6
    return both / union, both / union - (hull - union) / hull


def loss(model: nn.Module, images: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Quality focal loss for the scores (arXiv:2006.04388), generalized IoU for the boxes."""
    assert isinstance(model, Detector)
    found, logits = model.predict(images)
    taken = classes >= 0
    iou, generalized = generalized_iou(found[taken], boxes[taken])
    quality = torch.zeros_like(logits)
    quality[taken, classes[taken]] = iou.detach()
    weight = (quality - logits.sigmoid()).abs().square()
    scores = binary_cross_entropy_with_logits(logits, quality, weight.detach(), reduction="sum")
    return (scores + 2 * (1 - generalized).sum()) / taken.sum().clamp(min=1)


def main() -> None:
    training.make_deterministic(seed=0)
    train, calibration, evaluation = scenes(1, 2400), scenes(2, 100), scenes(3, 200)
    np.savez_compressed(HERE / "calibration.npz", images=calibration.images)
    np.savez_compressed(
        HERE / "evaluation.npz",
        images=evaluation.images,
        true_boxes=evaluation.boxes,
        true_classes=evaluation.classes,
    )
    training.write_labels(HERE / "labels.txt", CLASSES)
    sample = np.rint(evaluation.images[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    Image.fromarray(sample).save(HERE / "sample.png")

    model = Detector()
    examples = (torch.from_numpy(train.images), *assign(train.boxes, train.classes))
    training.fit(model, examples, loss, epochs=24, batch_size=32, learning_rate=4e-3)
    path = HERE / "shapes.onnx"
    example = torch.from_numpy(evaluation.images[:5])
    training.export(model, path, example, "images", "boxes", "scores")

    int8 = training.quantized(path, images=calibration.images)
    for form, onnx_model in (("fp32", path.read_bytes()), ("int8", int8)):
        out = training.infer(onnx_model, images=evaluation.images)
        found = (out["boxes"], out["scores"], evaluation.boxes, evaluation.classes)
        half, strict = (training.mean_average_precision(*found, overlap=o) for o in (0.5, 0.75))
        print(
            f"shapes {form}: mAP@0.5 {half:.4f}, mAP@0.75 {strict:.4f}, {len(onnx_model):,} bytes"
        )


if __name__ == "__main__":
    main()
