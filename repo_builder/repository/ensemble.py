"""Decides the configs of a pipeline: one for each stage that is no model, and the ensemble's; pure.

Every tensor of the ensemble is written in its config as the model that reads or writes it has it,
so both ends agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder.base.artifact import Interface, TensorType
from repo_builder.spec.serving import ModelConfig
from repo_builder.spec.types import Pipeline


@dataclass(frozen=True)
class Part:
    """What the ensemble takes from a model's config: the largest batch and how many instances."""

    max_batch_size: int
    instances: int

    @classmethod
    def of(cls, config: Any) -> Part:
        """Read Triton's `ModelConfig` message."""
        counts = [group.count for group in config.instance_group]
        return cls(config.max_batch_size, max(sum(counts), 1))


def decide(
    pipeline: Pipeline,
    backends: Mapping[str, str],
    interfaces: Mapping[str, Interface],
    models: Iterable[Part],
) -> dict[str, ModelConfig]:
    """The configs by name: the ensemble's, and those of the stages that `backends` names.

    `interfaces` has the full shapes of all stages. All configs have one max_batch_size: the least
    of the `models`, so 0, with the rows in `dims`, where one of them does not batch by itself. A
    stage has as many instances as the models have, so that it holds nothing up.
    """
    parts = list(models)
    largest = min((part.max_batch_size for part in parts), default=0)
    count = max((part.instances for part in parts), default=1)
    configs = {
        pipeline.part(name): _stage(pipeline, name, backend, interfaces[name], largest, count)
        for name, backend in backends.items()
    }
    return {**configs, pipeline.name: _ensemble(pipeline, interfaces, largest)}


def _stage(
    pipeline: Pipeline, name: str, backend: str, ends: Interface, largest: int, count: int
) -> ModelConfig:
    parameters = {"repo_builder.version": str(pipeline.version), **_one_thread_each(backend, count)}
    return ModelConfig.model_validate(
        {
            "name": pipeline.part(name),
            "backend": backend,
            "max_batch_size": largest,
            "input": [_tensor(n, port, largest) for n, port in ends.inputs.items()],
            "output": [_tensor(n, port, largest) for n, port in ends.outputs.items()],
            "instance_group": [{"kind": "KIND_CPU", "count": count}],
            "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        }
    )


def _one_thread_each(backend: str, count: int) -> dict[str, str]:
    """What lets each instance of a stage run on one thread of the CPU; see `config.decide`."""
    if backend == "onnxruntime":
        return {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}
    if backend == "openvino":
        streams = {"NUM_STREAMS": str(count), "INFERENCE_NUM_THREADS": str(count)}
        return {**streams, "RESHAPE_IO_LAYERS": "YES"}
    return {}


def _ensemble(pipeline: Pipeline, interfaces: Mapping[str, Interface], largest: int) -> ModelConfig:
    given = {wire: name for name, wire in pipeline.outputs.items()}
    given |= {("", name): name for name in pipeline.inputs}
    read = {wire for stage in pipeline.stages.values() for wire in stage.inputs.values()}
    readers = {
        wire: interfaces[stage.name].inputs[tensor]
        for stage in reversed(list(pipeline.stages.values()))
        for tensor, wire in stage.inputs.items()
    }
    inputs = [_tensor(name, readers["", name], largest) for name in pipeline.inputs]
    outputs = [
        _tensor(name, interfaces[stage].outputs[output], largest)
        for name, (stage, output) in pipeline.outputs.items()
    ]

    def tensor(wire: tuple[str, str]) -> str:
        """The ensemble's name of a tensor: that of an input or output, else `step.output`."""
        return given.get(wire, ".".join(wire))

    steps = [
        {
            "model_name": stage.of if stage.kind == "model" else pipeline.part(name),
            "model_version": -1,
            "input_map": {inner: tensor(wire) for inner, wire in stage.inputs.items()},
            "output_map": {
                output: tensor((name, output))
                for output in interfaces[name].outputs
                if (name, output) in read or (name, output) in given
            },
        }
        for name, stage in pipeline.stages.items()
    ]
    return ModelConfig.model_validate(
        {
            "name": pipeline.name,
            "platform": "ensemble",
            "max_batch_size": largest,
            "input": inputs,
            "output": outputs,
            "parameters": {"repo_builder.version": {"string_value": str(pipeline.version)}},
            "ensemble_scheduling": {"step": steps},
        }
    )


def _tensor(name: str, port: TensorType, largest: int) -> dict[str, Any]:
    shape = port.shape or ()
    dims = [size if isinstance(size, int) else -1 for size in shape][bool(largest) :]
    fields: dict[str, Any] = {"name": name, "data_type": f"TYPE_{port.dtype}"}
    if dims:
        return {**fields, "dims": dims}
    return {**fields, "dims": [1]} | ({"reshape": {"shape": []}} if largest else {})
