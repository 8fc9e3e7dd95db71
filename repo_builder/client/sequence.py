"""A run through a recurrent or streaming model: its state is kept here and fed back.

    speech = client.sequence("vad")
    for chunk in microphone:
        result = speech.infer({"input": chunk})

The state travels with every call, so any server may answer the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from repo_builder.client.errors import InvalidInput
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Array, Tensor
from repo_builder.client.result import Result

Described_co = TypeVar("Described_co", covariant=True)
Answered_co = TypeVar("Answered_co", covariant=True)


class _Client(Protocol[Described_co, Answered_co]):
    """What a sequence needs of a client: to ask what a model is like, and what it answers."""

    def describe(self, model: str, *, timeout: float | None, version: str) -> Described_co: ...

    def infer(
        self, model: str, inputs: Mapping[str, Any], *, timeout: float | None, version: str
    ) -> Answered_co: ...


class _State:
    """The values of a model's state inputs. Not for several threads at once."""

    def __init__(
        self, model: str, states: Mapping[str, str] | None, initial: Mapping[str, Any] | None
    ) -> None:
        self._model = model
        self._states = states
        self._initial = {name: np.asarray(array) for name, array in (initial or {}).items()}
        self._values: dict[str, Array] = dict(self._initial)
        self._version = ""

    @property
    def values(self) -> dict[str, Array]:
        """State input -> the array that the next call gives it; empty before the first."""
        return dict(self._values)

    def reset(self) -> None:
        """Begin anew: with the first values, and whatever version of the model is served."""
        self._values = dict(self._initial)
        self._version = ""

    def _with_state(self, described: Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of the next call. InvalidInput where the model has no such state."""
        if self._states is None:
            self._states = described.states
        if not self._states:
            raise InvalidInput(
                f"model '{self._model}': no state is known of it; give states={{input: output}}"
            )
        tensors = {tensor.name: tensor for tensor in described.inputs}
        outputs = {tensor.name for tensor in described.outputs}
        for name, output in self._states.items():
            if name not in tensors or output not in outputs:
                raise InvalidInput(
                    f"model '{self._model}': it has no input '{name}' or no output '{output}'"
                )
        given = dict(inputs)
        for name in self._states:
            if name in self._values:
                given.setdefault(name, self._values[name])
            else:
                given.setdefault(name, _zeros(tensors[name], _rows(tensors, inputs)))
        return given

    def _keep(self, result: Result) -> Result:
        for name, output in (self._states or {}).items():
            self._values[name] = result.outputs[output]
        self._version = result.version
        return result


class SyncSequence(_State):
    """What `EdgeClient.sequence` gives. All calls go to the version that answered the first."""

    def __init__(
        self,
        client: _Client[Model, Result],
        model: str,
        states: Mapping[str, str] | None,
        initial: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(model, states, initial)
        self._client = client

    def infer(self, inputs: Mapping[str, Any], *, timeout: float | None = None) -> Result:
        """The next call, with all inputs but the state, name -> array.

        `timeout` is in seconds. Raises as `EdgeClient.infer`; InvalidInput also where no state is
        known. After an error the state is that of the last call that succeeded.
        """
        described = self._client.describe(self._model, timeout=timeout, version=self._version)
        given = self._with_state(described, inputs)
        return self._keep(
            self._client.infer(self._model, given, timeout=timeout, version=self._version)
        )


class AsyncSequence(_State):
    """What `AsyncEdgeClient.sequence` gives: as `SyncSequence`, awaited."""

    def __init__(
        self,
        client: _Client[Awaitable[Model], Awaitable[Result]],
        model: str,
        states: Mapping[str, str] | None,
        initial: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(model, states, initial)
        self._client = client

    async def infer(self, inputs: Mapping[str, Any], *, timeout: float | None = None) -> Result:
        """As `SyncSequence.infer`."""
        described = await self._client.describe(self._model, timeout=timeout, version=self._version)
        given = self._with_state(described, inputs)
        return self._keep(
            await self._client.infer(self._model, given, timeout=timeout, version=self._version)
        )


def _rows(tensors: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> tuple[int, ...]:
    """The batch axis that the given inputs have, as the beginning of a shape."""
    for name, given in inputs.items():
        shape = np.shape(given)
        if name in tensors and len(shape) == len(tensors[name].dims) + 1:
            return shape[:1]
    return ()


def _zeros(tensor: Tensor, rows: tuple[int, ...]) -> Array:
    """What a state begins with; an open dimension has size 1."""
    return np.zeros((*rows, *(1 if size == -1 else size for size in tensor.dims)), tensor.dtype)
