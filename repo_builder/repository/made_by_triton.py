"""Tensors of a model that Triton itself feeds or keeps: controls, states, and batch inputs.

Triton's C++ backends count them beside the config's inputs (onnxruntime.cc: expected_input_cnt), so
a config lists them once, where a spec's `serving:` says what they are, and not as inputs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.base.errors import Problem, did_you_mean

_KIND = "CONTROL_SEQUENCE_"
_TYPES = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}


@dataclass(frozen=True)
class Made:
    """Names of inputs that Triton feeds, by the field of `serving:` that says so; their controls'
    types; and the outputs that only become states."""

    inputs: Mapping[str, str]
    controls: Mapping[str, str]
    states: Mapping[str, str]

    @classmethod
    def of(cls, serving: Mapping[str, Any]) -> Made:
        """What a spec's `serving:`, which has been validated, makes."""
        sequence: Mapping[str, Any] = serving.get("sequence_batching") or {}
        inputs: dict[str, str] = {}
        controls: dict[str, str] = {}
        for i, control in enumerate(sequence.get("control_input") or ()):
            inputs[control["name"]] = f"sequence_batching.control_input[{i}].name"
            for part in control.get("control") or ():
                controls[control["name"]] = _type(part)
        states: dict[str, str] = {}
        for i, state in enumerate(sequence.get("state") or ()):
            inputs[state["input_name"]] = f"sequence_batching.state[{i}].input_name"
            states[state["output_name"]] = f"sequence_batching.state[{i}].output_name"
        for i, made in enumerate(serving.get("batch_input") or ()):
            for name in made.get("target_name") or ():
                inputs[name] = f"batch_input[{i}].target_name"
        return cls(inputs, controls, states)

    def listed(
        self, signature: Signature, serving: Mapping[str, Any]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The inputs and outputs that a caller sees.

        A state's output is given to the caller too where `serving.output` names it.
        """
        wanted = {tensor.get("name") for tensor in serving.get("output") or ()}
        hidden = self.states.keys() - wanted
        inputs = tuple(t for t in signature.inputs if t.name not in self.inputs)
        return inputs, tuple(t for t in signature.outputs if t.name not in hidden)

    def problems(
        self, signature: Signature, serving: Mapping[str, Any], file: str
    ) -> Iterator[Problem]:
        """Names that the model does not have, and inputs that the spec lists twice over."""
        yield from _unknown(self.inputs, "input", signature.inputs, file)
        yield from _unknown(self.states, "output", signature.outputs, file)
        for position, tensor in enumerate(serving.get("input") or ()):
            name = tensor.get("name", "")
            if name in self.inputs:
                what = f"Triton makes '{name}', as {self.inputs[name]} says"
                field = f"serving.input[{position}].name"
                yield Problem(what, "remove it here", file, field=field)

    def warmup(self) -> dict[str, dict[str, Any]]:
        """The controls that a warm-up's sample must bring: the batcher does not see it."""
        return {
            name: {"data_type": data_type, "dims": [1], "zero_data": True}
            for name, data_type in self.controls.items()
        }


def _type(part: Mapping[str, Any]) -> str:
    """The type of a control: its data_type for CORRID, else what its values say."""
    if part.get("kind") == f"{_KIND}CORRID":
        return str(part.get("data_type", "TYPE_INVALID"))
    return next((t for field, t in _TYPES.items() if part.get(field)), "TYPE_INVALID")


def _unknown(
    names: Mapping[str, str], kind: str, tensors: Iterable[Tensor], file: str
) -> Iterator[Problem]:
    known = [tensor.name for tensor in tensors]
    for name, field in names.items():
        if name not in known:
            what = f"the model has no {kind} '{name}'"
            yield Problem(what, did_you_mean(name, known), file, field=f"serving.{field}")
