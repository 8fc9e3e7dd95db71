"""Image preprocessing: sizes, colours, layouts, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from repo_builder.client.models.preprocess import Preprocess

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_files_and_pixels_give_the_same_tensor() -> None:
    recipe = Preprocess("x", (4, 4), scale=1.0)
    from_file, from_pixels = recipe.apply(png(PIXELS)), recipe.apply(PIXELS)
    assert from_file.dtype == np.float32
    np.testing.assert_array_equal(from_file, PIXELS.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(from_file, from_pixels)


def test_layout_colour_and_dtype() -> None:
    recipe = Preprocess("x", (4, 4), color="bgr", layout="NHWC", scale=1.0)
    tensor = recipe.apply(PIXELS, np.uint8)
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor, PIXELS[None, ..., ::-1])


def test_scale_comes_before_mean_and_std() -> None:
    recipe = Preprocess("x", (4, 4), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    expected = (PIXELS / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.125]
    tensor = recipe.apply(PIXELS)
    np.testing.assert_allclose(tensor[0], expected.transpose(2, 0, 1), atol=1e-5)


def test_gray_is_luma() -> None:
    green = np.zeros((2, 2, 3), np.uint8)
    green[..., 1] = 255
    tensor = Preprocess("x", (2, 2), color="gray", scale=1.0).apply(green)
    assert tensor.shape == (1, 1, 2, 2)
    assert tensor[0, 0, 0, 0] == 150  # 0.587 * 255, ITU-R 601-2


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("stretch", [[10, 10], [10, 10]]),
        ("crop", [[10, 10], [10, 10]]),
        ("letterbox", [[10, 10], [114, 114]]),
    ],
)
def test_fit(fit: str, expected: list[list[int]]) -> None:
    wide = np.full((2, 4), 10, np.uint8)
    recipe = Preprocess("x", (2, 2), color="gray", scale=1.0, fit=fit, resize="nearest")
    tensor = recipe.apply(wide)[0, 0]
    assert tensor.tolist() == expected or sorted(tensor.ravel()) == sorted(np.ravel(expected))


def test_crop_takes_the_middle() -> None:
    wide = np.repeat(np.arange(6, dtype=np.uint8)[None] * 10, 2, axis=0)
    recipe = Preprocess("x", (2, 2), color="gray", scale=1.0, fit="crop")
    assert recipe.apply(wide)[0, 0].tolist() == [[20, 30], [20, 30]]


def test_json_round_trip() -> None:
    recipe = Preprocess("x", (3, 5), "gray", "NHWC", 2.0, (1.0,), (2.0,), "bicubic", "crop")
    assert Preprocess.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"input": "x"}', "must have input and size"),
        ('{"input": "x", "size": [1, 2], "colour": "rgb"}', "may have: color"),
        ('{"input": "x", "size": [1, 2], "color": "cmyk"}', "color is 'cmyk'; one of: gray, rgb"),
        ('{"input": "x", "size": [1]}', r"size is \(1,\); it must be \(height, width\)"),
        ('{"input": "x", "size": [1, 2], "mean": [0]}', "mean has 1 values; rgb has 3 channels"),
        ('{"input": "x", "size": [1, 2], "std": [0, 1, 1]}', "has a 0, which divides"),
    ],
)
def test_wrong_recipes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess.from_json(text)


def test_what_is_no_image_is_refused() -> None:
    recipe = Preprocess("x", (4, 4))
    with pytest.raises(ValueError, match="not an image that can be read"):
        recipe.apply(b"GIF89a")
    with pytest.raises(ValueError, match=r"pixels are float32\[4, 4\]; they must be uint8"):
        recipe.apply(np.zeros((4, 4), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode I;16; convert it to 8 bits"):
        recipe.apply(png(np.zeros((4, 4), np.uint16)))
