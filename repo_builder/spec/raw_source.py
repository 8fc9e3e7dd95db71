"""The raw shape of a spec's `source`: see `raw.py`."""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from repo_builder.spec.raw_base import Raw
from repo_builder.spec.types import TorchType


class RawTorchInput(Raw):
    """An input of a PyTorch net, with its type."""

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=8)]
    """Its sizes; with `batch` the first stands for any number of rows."""
    dtype: TorchType = "float32"
    """Its type, by PyTorch's name."""


_AnyTorchInput = Annotated[
    Union[
        Annotated[RawTorchInput, Tag("typed")],
        Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=8), Tag("shape")],
    ],
    Discriminator(lambda given: "shape" if isinstance(given, list) else "typed"),
]


class RawTorch(Raw):
    """A PyTorch net, made by a function of yours. It runs in the build: it is your code."""

    factory: str
    """`nets.py:make`: a Python file, relative to this spec, and its function that returns the net.
    What the file imports from beside it belongs to it."""
    kwargs: dict[str, JsonValue] = Field(default={})
    """What the function is called with."""
    weights: str | None = None
    """The net's state, a .safetensors file; without it the net has what the function gave it, made
    with seed 0."""
    inputs: Annotated[dict[str, _AnyTorchInput], Field(min_length=1)]
    """Input -> its shape, e.g. `{image: [1, 3, 96, 96]}`, or `{shape: [1, 40], dtype: int64}`; in
    the order of forward's parameters, or by their names."""
    outputs: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """Names of what the net returns, in its order; keys, where it returns a dict."""
    batch: bool = True
    """Dimension 0 of every input and output counts rows, and may have any size."""


class RawSource(Raw):
    """Where the model comes from: one of these."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["onnx"], "properties": {"onnx": {"type": "string"}}},
                {"required": ["torch"], "properties": {"torch": {"type": "object"}}},
            ]
        }
    )

    onnx: str | None = None
    """The ONNX file, relative to this spec; its external data is found beside it."""
    torch: RawTorch | None = None
    """A PyTorch net, which is exported to ONNX."""

    @model_validator(mode="after")
    def _one_of_them(self) -> RawSource:
        if (self.onnx is None) == (self.torch is None):
            given = "names two models" if self.onnx is not None else "names no model"
            raise ValueError(f"{given}; write `onnx: FILE` or `torch: {{factory: ...}}`")
        return self
