"""What the client knows of a model: read from the server's config, never from the application.

The builder writes `repo_builder.version`, `.labels`, `.preprocess`, `.states` and `.confidence`
into the config's parameters; a model without them works, with no version, labels, image helper,
sequence or fallback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from repo_builder.client.errors import InvalidInput, ServerFailed
from repo_builder.client.models.confidence import Policy
from repo_builder.client.models.tensors import TRITON_TYPES, Array, Batch, Inputs, Signature, Tensor


@dataclass(frozen=True)
class Model:
    """A model as one side serves it.

    name          on the server
    inputs        in the config's order
    outputs       in the config's order
    max_rows      in one request; 0: no batch axis, -1: any
    repeatable    whether a request may be sent twice; not of sequences and decoupled models
    joinable      whether its rows do not depend on each other, so that requests may be joined
    may_be_empty  inputs that may have a dimension of size 0; None: the server decides
    version       "1.2.0"; "" where the builder did not write one
    labels        output -> the names of its classes
    preprocess    how the build wants images prepared, as JSON; "": it does not say
    states        input -> the output that is its value for the next call of a sequence
    policy        when an answer is sure; None: there is no fallback
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_rows: int
    repeatable: bool = True
    joinable: bool = False
    may_be_empty: frozenset[str] | None = None
    version: str = ""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocess: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    policy: Policy | None = None
    signatures: dict[Any, Signature] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_config(cls, config: Any) -> Model:
        """Read Triton's `ModelConfig` message."""
        inputs = [_tensor(item) for item in config.input]
        outputs = [_tensor(item) for item in config.output]
        max_rows = config.max_batch_size
        first = {t.dims[:1] for t in inputs + outputs}
        if max_rows == 0 and first in ({(-1,)}, {(1,)}):
            # The batch axis stands in the dims themselves.
            max_rows = -1 if first == {(-1,)} else 1
            inputs, outputs = _inner(inputs), _inner(outputs)
        own = {
            key.removeprefix("repo_builder."): value.string_value
            for key, value in config.parameters.items()
            if key.startswith("repo_builder.")
        }
        try:
            policy = Policy.from_json(own["confidence"]) if "confidence" in own else None
            labels = json.loads(own.get("labels", "{}"))
            states = json.loads(own.get("states", "{}"))
            may_be_empty = frozenset(json.loads(own.get("may_be_empty", "[]")))
        except (ValueError, TypeError) as broken:
            raise ServerFailed(
                f"model '{config.name}': its repo_builder parameters cannot be read: {broken}"
            ) from broken
        if policy and policy.output not in {tensor.name for tensor in outputs}:
            raise ServerFailed(
                f"model '{config.name}': its confidence policy reads '{policy.output}', which is "
                "not one of its outputs"
            )
        # A sequence's or a decoupled model's call changes state: it must not be sent twice.
        stateful = config.HasField("sequence_batching") or config.model_transaction_policy.decoupled
        return cls(
            name=config.name,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            max_rows=max_rows,
            repeatable=not stateful,
            joinable=max_rows > 1 and config.HasField("dynamic_batching") and not stateful,
            may_be_empty=may_be_empty if "version" in own else None,
            version=own.get("version", ""),
            labels=labels,
            preprocess=own.get("preprocess", ""),
            states=states,
            policy=policy,
        )

    def batch(self, given: Inputs) -> Batch:
        """Check inputs against the model; errors name what was given and what the model takes."""
        if not isinstance(given, Mapping):
            key = (given.dtype, given.shape) if isinstance(given, np.ndarray) else None
            signature = self.signatures.get(key)
            if signature is not None:
                array = given if given.flags.c_contiguous else np.ascontiguousarray(given)
                return Batch(signature, (array,))
            batch = self._checked({self._only_input(): given})
        else:
            batch, key = self._checked(given), None
        if key is not None and len(self.signatures) < 256:
            self.signatures[key] = batch.signature
        return batch

    def _checked(self, given: Mapping[str, Any]) -> Batch:
        for name in given:
            if name not in {t.name for t in self.inputs}:
                raise self._wrong(f"no input '{name}'; its inputs are {self._names()}")
        for tensor in self.inputs:
            if tensor.name not in given and not tensor.optional:
                raise self._wrong(f"input '{tensor.name}' is missing")
        tensors = tuple(tensor for tensor in self.inputs if tensor.name in given)
        arrays = [self._array(tensor, given[tensor.name]) for tensor in tensors]
        shapes = [array.shape for array in arrays]
        if self.max_rows == 0:
            return Batch(Signature(tensors, tuple(shapes), None, True), arrays)
        single = len(shapes[0]) == len(tensors[0].dims)
        if single:
            shapes = [(1, *shape) for shape in shapes]
        rows = shapes[0][0]
        for tensor, shape in zip(tensors, shapes, strict=True):
            if len(shape) != len(tensor.dims) + 1 or shape[0] != rows:
                raise self._wrong(
                    f"input '{tensors[0].name}' has {rows} rows, '{tensor.name}' has shape "
                    f"{list(shape)}"
                )
        if rows == 0:
            raise self._wrong("0 rows given, it takes 1 or more")
        if rows > self.max_rows > 0 and not self.repeatable:
            raise self._wrong(
                f"{rows} rows given, it takes 1 to {self.max_rows} at once; a model that keeps a "
                "state, or gives many answers, takes no parts"
            )
        return Batch(Signature(tensors, tuple(shapes), rows, single), arrays)

    def parts(self, batch: Batch) -> list[Batch]:
        """`batch` in parts of at most `max_rows` rows, in its order; views of its arrays."""
        named = batch.named()
        parts = []
        for begin in range(0, batch.count, self.max_rows):
            arrays = [array[begin : begin + self.max_rows] for array in named.values()]
            shapes = tuple(array.shape for array in arrays)
            key = (tuple(named), shapes)
            # Parts share a signature, and with it the headers and sizes that are kept there.
            signature = self.signatures.get(key)
            if signature is None:
                signature = Signature(batch.signature.tensors, shapes, len(arrays[0]), False)
                if len(self.signatures) < 256:
                    self.signatures[key] = signature
            parts.append(Batch(signature, arrays))
        return parts

    def _only_input(self) -> str:
        required = [tensor for tensor in self.inputs if not tensor.optional]
        if len(required) != 1:
            raise self._wrong(f"one array given, but its inputs are {self._names()}")
        return required[0].name

    def _array(self, tensor: Tensor, given: Any) -> Array:
        array = np.asarray(given)
        if tensor.datatype == "BYTES" and array.dtype.kind in "SU":
            array = array.astype(object)
        if array.dtype != tensor.dtype:
            raise self._wrong(
                f"input '{tensor.name}' is {tensor.datatype} ({tensor.dtype}), "
                f"an array of {array.dtype} was given"
            )
        axes = self.max_rows != 0 and array.ndim == len(tensor.dims) + 1
        if not tensor.fits(array.shape[1:] if axes else array.shape):
            batch = "[rows, " if self.max_rows else "["
            wants = batch + ", ".join("any" if d == -1 else str(d) for d in tensor.dims) + "]"
            raise self._wrong(
                f"input '{tensor.name}' has shape {wants}, {list(array.shape)} was given"
            )
        untried = self.may_be_empty is not None and tensor.name not in self.may_be_empty
        if untried and 0 in array.shape[int(axes) :]:
            raise self._wrong(
                f"input '{tensor.name}' of shape {list(array.shape)} was given; it was not "
                "verified with a dimension of size 0"
            )
        return np.ascontiguousarray(array)

    def check_answer(self, outputs: Mapping[str, Array]) -> None:
        """ServerFailed where an output is missing, as in answers that Triton cached for others."""
        missing = [tensor.name for tensor in self.outputs if tensor.name not in outputs]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            raise ServerFailed(f"model '{self.name}': its answer lacks the output {names}")

    def _names(self) -> str:
        return ", ".join(f"'{tensor.name}'" for tensor in self.inputs)

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"model '{self.name}': {what}")


@lru_cache(maxsize=256)
def version_name(number: str) -> str:
    """Triton's version number as the version it encodes: "1002000" is "1.2.0", "3" is "3"."""
    if not number.isdigit() or int(number) < 1000:
        return number
    major, rest = divmod(int(number), 1_000_000)
    minor, patch = divmod(rest, 1000)
    return f"{major}.{minor}.{patch}"


@lru_cache(maxsize=256)
def version_number(name: str) -> str:
    """The inverse of `version_name`; "" (the latest) stays."""
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        if name and not name.isdigit():
            raise InvalidInput(f"version '{name}': write '1.2.0' or Triton's own number")
        return name
    major, minor, patch = map(int, parts)
    return str(major * 1_000_000 + minor * 1000 + patch)


def _tensor(item: Any) -> Tensor:
    kind = type(item).DESCRIPTOR.fields_by_name["data_type"].enum_type
    datatype, _ = TRITON_TYPES[kind.values_by_number[item.data_type].name]
    return Tensor(item.name, datatype, tuple(item.dims), getattr(item, "optional", False))


def _inner(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor(t.name, t.datatype, t.dims[1:], t.optional) for t in tensors]
