"""Frozen records of what steps make: blobs, artifacts, store entries, and a model's signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from repo_builder.base.digest import Json, of_json


@dataclass(frozen=True)
class Blob:
    """A file's content: its sha256 in hex and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Artifact:
    """A small tree of files: relative POSIX path -> blob."""

    files: Mapping[str, Blob]

    @cached_property
    def digest(self) -> str:
        """The sha256 over sorted names and contents; equal trees have equal digests."""
        return of_json({name: blob.sha256 for name, blob in self.files.items()})

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(blob.size for blob in self.files.values())


@dataclass(frozen=True)
class Entry:
    """What the store remembers of one step that ran.

    `recipe` is what the key was made from; `facts` is what the step found out (its typed `Facts`
    as JSON); `seconds` is how long it took and is no part of any key.
    """

    key: str
    recipe: Mapping[str, Json]
    artifact: Artifact
    facts: Mapping[str, Json]
    seconds: float


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    `dtype` is Triton's name without the prefix: BOOL, UINT8..UINT64, INT8..INT64, FP16, BF16,
    FP32, FP64, STRING. `shape` is the full shape including the batch dimension: a positive int,
    or a name (or "") for a dimension that may vary.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """A model's interface, as found by looking and by running.

    `batched` says that dimension 0 of every input and output is one batch dimension, proven by
    running several batch sizes that gave the same rows; `why_not_batched` says what spoke against
    it otherwise. `dynamic_axes` maps the names of other varying dimensions to the size that was
    used to run the model. `runs_with_zeros` says that the model ran, at these sizes, with every
    input all zeros (strings empty), as a warmup of Triton sends them. `converted_from` is the opset
    of the file where ONNX Runtime lacks it and the model was run in `opset` instead, else 0.
    `mended` says what the file wrote wrongly and was set right, in words; `may_be_empty` are inputs
    that the file declares with size 0, where the model runs so.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    why_not_batched: str = ""
    opset: int = 0
    dynamic_axes: Mapping[str, int] = field(default_factory=dict)
    runs_with_zeros: bool = False
    converted_from: int = 0
    mended: tuple[str, ...] = ()
    may_be_empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorType:
    """One end of a tensor: its type, and its full shape as in `Tensor`; "" and None if unknown."""

    dtype: str
    shape: tuple[int | str, ...] | None

    def fits(self, other: TensorType) -> bool:
        """Whether what one gives may be what the other takes; what is unknown fits any."""
        if self.dtype and other.dtype and self.dtype != other.dtype:
            return False
        if self.shape is None or other.shape is None:
            return True
        pairs = zip(self.shape, other.shape, strict=False)
        return len(self.shape) == len(other.shape) and all(
            a == b or isinstance(a, str) or isinstance(b, str) for a, b in pairs
        )


@dataclass(frozen=True)
class Operator:
    """An operator that a model uses: `count` nodes that compute on its inputs, the first by name.

    `domain` is "" for ONNX's own operators.
    """

    domain: str
    type: str
    count: int
    first: str


@dataclass(frozen=True)
class Contents:
    """What a runtime must know to take a model: operators, and the types of its ends.

    Nodes on constants and on shapes are left out, since they are computed beforehand. `types` maps
    inputs and outputs to Triton's names of types as in `Tensor`, or "sequence", "map", "optional".
    """

    operators: tuple[Operator, ...]
    types: Mapping[str, str]


@dataclass(frozen=True)
class Interface:
    """What a model declares, without running it: inputs and outputs by name."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
