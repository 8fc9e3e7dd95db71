"""Turns an image into the tensor that a model was trained on.

The recipe travels in the model's config.pbtxt (parameter `repo_builder.preprocess`), so that the
builder's evaluation, the server's users and the command line all do the same. Needs numpy, and
Pillow where an image has to be decoded or resized.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

PARAMETER = "repo_builder.preprocess"
_CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3}
_CHOICES = {
    "color": tuple(_CHANNELS),
    "layout": ("NCHW", "NHWC"),
    "resize": ("nearest", "bilinear", "bicubic"),
    "fit": ("stretch", "letterbox", "crop"),
    "place": ("outside", "graph"),
}
# What YOLO pads with; a mid grey disturbs a detector less than black edges do.
LETTERBOX_VALUE = 114


@dataclass(frozen=True)
class Preprocess:
    """A recipe: decode, to `color`, resize to `size`, `pixel * scale`, `(x - mean) / std`.

    `size` is (height, width) in pixels. `mean` and `std` apply after `scale`; they have one value
    per channel, in the order of `color`, or none. `fit` says what becomes of another aspect ratio:
    `stretch` distorts, `letterbox` pads with the value 114, `crop` takes the middle.

    With `place` "graph" the model does all that follows decoding itself, and takes uint8 pixels
    [H, W, C]: of any size, or of `source`. Where that is `size`, images are resized before they
    are sent.
    """

    input: str
    size: tuple[int, int]
    color: str = "rgb"
    layout: str = "NCHW"
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str = "bilinear"
    fit: str = "stretch"
    place: str = "outside"
    source: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"preprocess.{field} is {getattr(self, field)!r}; one of: {', '.join(allowed)}"
                )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"preprocess.size is {self.size}; it must be (height, width)")
        if self.source is not None and (len(self.source) != 2 or min(self.source) < 1):
            raise ValueError(f"preprocess.source is {self.source}; it must be (height, width)")
        for field in ("mean", "std"):
            if len(getattr(self, field)) not in (0, self.channels):
                raise ValueError(
                    f"preprocess.{field} has {len(getattr(self, field))} values; "
                    f"{self.color} has {self.channels} channels"
                )
        if 0 in self.std:
            raise ValueError("preprocess.std has a 0, which divides")

    @property
    def channels(self) -> int:
        """1 for gray, else 3."""
        return _CHANNELS[self.color]

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Read the parameter's value; raises ValueError where it is no such recipe."""
        values = json.loads(text)
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or not {"input", "size"} <= set(values) <= known:
            raise ValueError(
                f"{PARAMETER} must have input and size, and may have: {', '.join(sorted(known))}"
            )
        tuples = {
            name for name in ("size", "mean", "std", "source") if values.get(name) is not None
        }
        return cls(**{**values, **{name: tuple(values[name]) for name in tuples}})

    def to_json(self) -> str:
        """The parameter's value; `from_json` reads it back."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)})

    def apply(
        self, image: bytes | npt.NDArray[np.uint8], dtype: npt.DTypeLike = np.float32
    ) -> npt.NDArray[Any]:
        """The tensor of one image: [1, C, H, W] or [1, H, W, C], of `dtype`.

        `image` is the content of an image file, or uint8 pixels as [H, W] or [H, W, 3] in RGB.
        Raises ValueError where it is neither, ModuleNotFoundError where Pillow is needed and
        missing.
        """
        return self.apply_and_locate(image, dtype)[0]

    def apply_and_locate(
        self, image: bytes | npt.NDArray[np.uint8], dtype: npt.DTypeLike = np.float32
    ) -> tuple[npt.NDArray[Any], tuple[float, float, float, float]]:
        """As `apply`, and where the tensor lies in the image: scale x, scale y, offset x, offset y.

        A point of the tensor, in its pixels, is at `point * scale + offset` in the upright image.
        """
        picture = self._picture(image)
        place = self._place(*picture.size)
        pixels = self._pixels(picture)
        return self.normalized(pixels[None], dtype), place

    def sent(
        self, image: bytes | npt.NDArray[np.uint8], dtype: npt.DTypeLike = np.float32
    ) -> tuple[npt.NDArray[Any], tuple[float, float, float, float]]:
        """What the model is sent of one image, [1, ...], and its place as of `apply_and_locate`.

        `dtype` is that of the model's input. ValueError also where the model takes images of
        another size.
        """
        if self.place == "outside":
            return self.apply_and_locate(image, dtype)
        picture = self._picture(image)
        place = self._place(*picture.size)
        picture = picture.convert("L" if self.color == "gray" else "RGB")
        if self.source == self.size:
            picture = self._fitted(picture)
        width, height = picture.size
        if self.source not in (None, (height, width)):
            wanted = "{} x {}".format(*self.source[::-1]) if self.source else ""
            raise ValueError(f"an image of {width} x {height} pixels; the model takes {wanted}")
        pixels = np.asarray(picture, dtype=np.uint8)
        return pixels.reshape(1, height, width, self.channels), place

    def normalized(
        self, pixels: npt.NDArray[np.uint8], dtype: npt.DTypeLike = np.float32
    ) -> npt.NDArray[Any]:
        """Pixels [n, H, W, C] in RGB as the net's input: colours, scale, mean, std and layout."""
        if self.color == "bgr":
            pixels = pixels[..., ::-1]
        tensor = pixels.astype(np.float32) * np.float32(self.scale)
        if self.mean:
            tensor -= np.asarray(self.mean, np.float32)
        if self.std:
            tensor /= np.asarray(self.std, np.float32)
        if self.layout == "NCHW":
            tensor = tensor.transpose(0, 3, 1, 2)
        if np.issubdtype(dtype, np.integer):
            tensor = np.rint(tensor)
        return np.ascontiguousarray(tensor, dtype=dtype)

    def _picture(self, image: bytes | npt.NDArray[np.uint8]) -> Image.Image:
        if isinstance(image, bytes):
            return _decoded(image)
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (1,), (3,)) or image.ndim < 2:
            raise ValueError(
                f"pixels are {image.dtype}{list(image.shape)}; "
                "they must be uint8, [height, width] or [height, width, 3]"
            )
        pixels = image[..., 0] if image.shape[2:] == (1,) else image
        picture: Image.Image = _pillow().fromarray(pixels)
        return picture

    def _pixels(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """Pixels [H, W, C] of this recipe's size, gray or RGB."""
        picture = self._fitted(picture.convert("L" if self.color == "gray" else "RGB"))
        return np.asarray(picture, dtype=np.uint8).reshape(*self.size, self.channels)

    def _place(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Scale and offset from the tensor's pixels to those of an image; as `_fitted` does it."""
        rows, columns = self.size
        if self.fit == "stretch":
            return width / columns, height / rows, 0.0, 0.0
        wider = width * rows > height * columns
        if self.fit == "crop":
            scale = height / rows if wider else width / columns
            return scale, scale, (width - columns * scale) / 2, (height - rows * scale) / 2
        inner_width, inner_height, left, top = self._inner(width, height)
        across, down = width / inner_width, height / inner_height
        return across, down, -left * across, -top * down

    def _inner(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Width, height, left and top of an image inside its letterbox.

        Whole pixels, halves to even as `PIL.ImageOps.pad` rounds, and so the scales differ a
        little; in integers, which models compute alike.
        """
        rows, columns = self.size
        wider = width * rows > height * columns
        inner_width = columns if wider else _quotient(width * rows, height)
        inner_height = _quotient(height * columns, width) if wider else rows
        if not (inner_width and inner_height):
            raise ValueError(f"an image of {width} x {height} pixels is too narrow for {self.size}")
        left, top = _quotient(columns - inner_width, 2), _quotient(rows - inner_height, 2)
        return inner_width, inner_height, left, top

    def _fitted(self, picture: Image.Image) -> Image.Image:
        from PIL import Image, ImageOps

        height, width = self.size
        size = (width, height)
        how = Image.Resampling[self.resize.upper()]
        if picture.size == size:
            return picture
        if self.fit == "stretch":
            return picture.resize(size, how)
        if self.fit == "crop":
            return ImageOps.fit(picture, size, how)
        inner_width, inner_height, left, top = self._inner(*picture.size)
        colour = LETTERBOX_VALUE if self.color == "gray" else (LETTERBOX_VALUE,) * 3
        box = Image.new(picture.mode, size, colour)
        box.paste(picture.resize((inner_width, inner_height), how), (left, top))
        return box


def _quotient(dividend: int, divisor: int) -> int:
    """Rounded, halves to even."""
    floor, rest = divmod(dividend, divisor)
    return floor + (2 * rest > divisor or (2 * rest == divisor and floor % 2 == 1))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError("reading images needs Pillow: pip install pillow") from None
    return Image


def _decoded(content: bytes) -> Image.Image:
    """The picture in a file's content, upright."""
    pillow = _pillow()
    from PIL import ImageOps

    try:
        picture: Image.Image = pillow.open(io.BytesIO(content))
        picture.load()
    except pillow.UnidentifiedImageError:  # its own text names an object's address
        raise ValueError("not an image that can be read: of no known format") from None
    except (OSError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"not an image that can be read: {error}") from None
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"an image of mode {picture.mode}; convert it to 8 bits per channel")
    upright: Image.Image = ImageOps.exif_transpose(picture)
    return upright
