"""Which steps build a pipeline: one for each stage that is no model, and one that runs it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repo_builder.base.artifact import Interface
from repo_builder.base.digest import Json
from repo_builder.plan import wiring
from repo_builder.plan.chain import node
from repo_builder.plan.types import (
    ArtifactRef,
    Declaration,
    Input,
    Node,
    Pins,
    PipelineVariant,
    SourceFiles,
    Variant,
)
from repo_builder.plan.wiring import KnownModels
from repo_builder.spec.types import Pipeline, Stage
from repo_builder.targets import Target

RUN = "run-pipeline"


def plan(
    pipelines: Sequence[Pipeline],
    targets: Mapping[str, Target],
    variants: Sequence[Variant],
    declarations: Mapping[str, Declaration],
    pins: Pins,
    nodes: dict[str, Node],
) -> tuple[PipelineVariant, ...]:
    """The pipelines' variants, whose steps are added to `nodes`; SpecError where one is wrong."""
    models: dict[str, dict[str, Variant]] = {}
    for variant in variants:
        models.setdefault(variant.spec.target, {})[variant.spec.name] = variant
    known = {
        target: KnownModels({name: v.spec for name, v in found.items()}, pins.interfaces)
        for target, found in models.items()
    }
    nothing = KnownModels({}, {})
    wiring.check((pipeline, known.get(pipeline.target, nothing)) for pipeline in pipelines)
    return tuple(
        _Build(
            pipeline,
            targets[pipeline.target],
            models.get(pipeline.target, {}),
            known.get(pipeline.target, nothing),
            declarations,
            pins,
            nodes,
        ).variant()
        for pipeline in pipelines
    )


class _Build:
    def __init__(
        self,
        spec: Pipeline,
        target: Target,
        models: Mapping[str, Variant],
        known: KnownModels,
        declarations: Mapping[str, Declaration],
        pins: Pins,
        nodes: dict[str, Node],
    ) -> None:
        self.spec = spec
        self.target = target
        self.models = {name: models[name] for name in spec.models}
        self.known = known
        self.declarations = declarations
        self.pins = pins
        self.nodes = nodes
        self.steps: dict[str, str] = {}

    def variant(self) -> PipelineVariant:
        order = wiring.order(self.spec)
        stages = {name: self.spec.stages[name] for name in order if name in self.spec.stages}
        found = {name: wiring.interface(stage, self.known) for name, stage in stages.items()}
        interfaces = {name: ends for name, ends in found.items() if ends is not None}
        made = {
            name: self._stage(stage, interfaces)
            for name, stage in stages.items()
            if stage.kind != "model"
        }
        run = self._run(stages, interfaces, made)
        keys = {name: input_.key for name, input_ in made.items()}
        return PipelineVariant(
            self.spec, self.target, self.steps, self.models, interfaces, tuple(stages), keys, run
        )

    def _stage(self, stage: Stage, interfaces: Mapping[str, Interface]) -> ArtifactRef:
        if stage.kind == "nms":
            params = {**stage.params, "to_image": "to_image" in stage.inputs}
            graph = self._add("stage-nms", stage.name, params)
            if self.target.backend != "openvino":
                return graph
            fp32: dict[str, Json] = {"precision": "fp32"}
            return self._add("compile-openvino", stage.name, fp32, model=graph)
        if stage.kind == "top_k":
            return self._add("stage-python", stage.name, {"kind": "top_k", "params": stage.params})
        preprocess = self.known.models[stage.of].preprocess
        recipe: dict[str, Any] = dict(preprocess.parameters) if preprocess else {}
        dtype = interfaces[stage.name].outputs[recipe["input"]].dtype
        params = {"recipe": recipe, "dtype": dtype}
        return self._add("stage-python", stage.name, {"kind": "preprocess", "params": params})

    def _run(
        self,
        stages: Mapping[str, Stage],
        interfaces: Mapping[str, Interface],
        made: Mapping[str, ArtifactRef],
    ) -> str:
        listed: list[Json] = []
        folders: dict[str, Input] = dict(made)
        for name, stage in stages.items():
            runtime = "openvino" if self.target.backend == "openvino" else "onnxruntime"
            if stage.kind == "model":
                model = self.models[stage.of]
                verify = self.nodes[model.steps["verify"]]
                runtime, folders[name] = str(verify.params["runtime"]), verify.inputs["model"]
            elif stage.kind != "nms":
                runtime = "python"
            inputs: Json = {tensor: list(wire) for tensor, wire in stage.inputs.items()}
            wanted: Json = sorted(interfaces[name].outputs)
            said = {"name": name, "kind": stage.kind, "runtime": runtime, "inputs": inputs}
            listed.append({**said, "outputs": wanted})
        samples = {name: self.pins.files[path] for name, path in self.spec.sample.items()}
        files = {f"{name}/{file}": at for name, pin in samples.items() for file, at in pin.items()}
        params: dict[str, Json] = {
            "stages": listed,
            "outputs": {name: list(wire) for name, wire in self.spec.outputs.items()},
            "threads": self.target.cores,
        }
        folders = {f"stage {name}": folder for name, folder in folders.items()}
        self._add(RUN, "", params, sample=SourceFiles(files), **folders)
        return RUN

    def _add(
        self, step: str, stage: str, params: Mapping[str, Json], **inputs: Input
    ) -> ArtifactRef:
        made = node(step, params, inputs, self.declarations, self.pins)
        self.nodes.setdefault(made.key, made)
        self.steps[f"{step} {stage}".strip()] = made.key
        return ArtifactRef(made.key)
