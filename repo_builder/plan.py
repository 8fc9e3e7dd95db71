"""Decides what would run: specs x targets -> `Plan`. Pure: reads nothing, writes nothing.

A step's key is the digest of its recipe: step, version, parameters, the content digests or keys of
its inputs, and the versions of the tools that shape its output (see docs/adr/0002). Equal recipes
are one node, so what several targets share runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from repo_builder import digest
from repo_builder.digest import Json
from repo_builder.errors import Problem, SpecError
from repo_builder.spec.types import Spec
from repo_builder.targets import Target


@dataclass(frozen=True)
class Declaration:
    """What a step says of itself, without importing its tools.

    `tools` are the distributions whose versions shape the output and so enter the key; `extra` is
    the extra of this project that installs them. An `exclusive` step runs while no other does,
    since it measures time. `resources` names the hardware a worker must have (`{"tensorrt": 1}`).
    """

    name: str
    version: int
    tools: tuple[str, ...] = ()
    extra: str = "build"
    exclusive: bool = False
    resources: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Source:
    """An input that comes from the user's disk: name in the artifact -> (path, sha256)."""

    files: Mapping[str, tuple[Path, str]]


@dataclass(frozen=True)
class Made:
    """An input that another step makes: that step's key."""

    key: str


Input = Union[Source, Made]


@dataclass(frozen=True)
class Node:
    """One step to run: what it is given, and the key of its result."""

    key: str
    step: str
    params: Mapping[str, Json]
    inputs: Mapping[str, Input]
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A model@target: its steps in order (step name -> key), and which of them makes the model."""

    spec: Spec
    target: Target
    steps: Mapping[str, str]
    compiled: str


@dataclass(frozen=True)
class Plan:
    """All nodes by key, in an order in which they can run, and the variants they serve."""

    nodes: Mapping[str, Node]
    variants: tuple[Variant, ...]

    def users(self, key: str) -> list[Variant]:
        """The variants that a node serves."""
        return [variant for variant in self.variants if key in variant.steps.values()]


@dataclass(frozen=True)
class Pins:
    """What the disk and the environment hold: content digests of files, versions of tools.

    `files` maps a path that a spec names to its files, name in the artifact -> (path, sha256): one
    for data, one or more for a model with external data. A tool that is not installed is None.
    """

    files: Mapping[Path, Mapping[str, tuple[Path, str]]]
    tools: Mapping[str, str | None]


def plan(
    specs: Sequence[Spec],
    targets: Mapping[str, Target],
    declarations: Mapping[str, Declaration],
    pins: Pins,
) -> Plan:
    """The plan that builds `specs`; SpecError where a target's toolchain has no recipe."""
    _refuse_unbuildable(specs, targets)
    nodes: dict[str, Node] = {}
    variants = []
    for spec in specs:
        chain = _Chain(spec, declarations, pins, nodes)
        target = targets[spec.target]
        chain.compiled = _COMPILE[target.runtime](chain, _front(chain))
        _check(chain, target)
        variants.append(Variant(spec, target, chain.steps, chain.compiled))
    return Plan(nodes, tuple(variants))


def _refuse_unbuildable(specs: Sequence[Spec], targets: Mapping[str, Target]) -> None:
    problems = [
        Problem(
            f"{spec.target} is compiled by {targets[spec.target].runtime}, which is not built yet",
            "remove it from `targets`",
            str(spec.file),
            field="targets",
        )
        for spec in specs
        if targets[spec.target].runtime not in _COMPILE
    ]
    if problems:
        raise SpecError("targets that cannot be built:", problems)


@dataclass
class _Chain:
    """The steps of one variant while they are put together."""

    spec: Spec
    declarations: Mapping[str, Declaration]
    pins: Pins
    nodes: dict[str, Node]
    steps: dict[str, str] = field(default_factory=dict)
    compiled: str = ""

    def add(self, step: str, params: Mapping[str, Json], **inputs: Input | None) -> Made:
        """Add a step; an input that is None is left out. Returns its output."""
        declaration = self.declarations[step]
        given = {name: value for name, value in inputs.items() if value is not None}
        recipe: dict[str, Json] = {
            "step": step,
            "version": declaration.version,
            "params": params,
            "inputs": {name: _identity(value) for name, value in given.items()},
            "tools": {tool: self.pins.tools[tool] for tool in declaration.tools},
        }
        key = digest.of_json(recipe)
        self.nodes.setdefault(key, Node(key, step, params, given, recipe))
        self.steps[step] = key
        return Made(key)

    def file(self, path: Path) -> Source:
        """A file that the spec names, as an input."""
        return Source(self.pins.files[path])

    @property
    def calibration(self) -> Source | None:
        """The calibration data, where the spec has some."""
        return self.file(self.spec.calibration.path) if self.spec.calibration else None

    @property
    def evaluation(self) -> Source | None:
        """The evaluation data, where the spec has some."""
        return self.file(self.spec.evaluation.path) if self.spec.evaluation else None


def _identity(value: Input) -> Json:
    if isinstance(value, Made):
        return value.key
    return {name: sha256 for name, (_, sha256) in sorted(value.files.items())}


def _front(chain: _Chain) -> Made:
    """What every target shares: a checked, simplified model in floating point."""
    model = chain.add("import", {}, model=chain.file(chain.spec.onnx))
    if chain.spec.optimize.simplify:
        model = chain.add("simplify", {}, model=model)
    return model


def _quantization(spec: Spec) -> dict[str, Json]:
    quantization = spec.optimize.quantization
    samples = spec.calibration.samples if spec.calibration else 0
    return {
        "method": quantization.method,
        "percentile": quantization.percentile,
        "per_channel": quantization.per_channel,
        "exclude": list(quantization.exclude),
        "samples": samples,
    }


def _onnxruntime(chain: _Chain, model: Made) -> str:
    precision = chain.spec.optimize.precision
    if precision == "int8":
        params = {"scheme": "u8s8", **_quantization(chain.spec)}
        model = chain.add("quantize", params, model=model, calibration=chain.calibration)
    chain.add("compile-onnxruntime", {"precision": precision}, model=model)
    return "compile-onnxruntime"


def _openvino(chain: _Chain, model: Made) -> str:
    precision = chain.spec.optimize.precision
    params: dict[str, Json] = {"precision": precision}
    calibration = None
    if precision == "int8":
        params.update(_quantization(chain.spec))
        calibration = chain.calibration
    chain.add("compile-openvino", params, model=model, calibration=calibration)
    return "compile-openvino"


_COMPILE: Mapping[str, Callable[[_Chain, Made], str]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def _check(chain: _Chain, target: Target) -> None:
    """Prove that the compiled model answers like the source, and measure it."""
    evaluation = chain.spec.evaluation
    judged: dict[str, Json] = {}
    if evaluation is not None:
        judged = {
            "metric": evaluation.metric,
            "labels": dict(evaluation.labels),
            "outputs": dict(evaluation.outputs),
            "samples": evaluation.samples,
        }
    imported, compiled = Made(chain.steps["import"]), Made(chain.steps[chain.compiled])
    reference = chain.add("reference", judged, model=imported, evaluation=chain.evaluation)
    runtime: dict[str, Json] = {"runtime": target.runtime, "threads": target.cores}
    chain.add(
        "verify",
        {**runtime, **judged},
        model=compiled,
        reference=reference,
        evaluation=chain.evaluation,
    )
    chain.add("profile", runtime, model=compiled, reference=reference)


def why(node: Node, last: Mapping[str, Any] | None, step_of: Mapping[str, str]) -> str:
    """Why a step runs again: what differs between its recipe and that of the last good build.

    `last` is the old recipe, `step_of` maps the keys of this plan to step names, so that an input
    that is made again is told by the name of its step. "" where the recipes are equal.
    """
    if last is None:
        return "not built before"
    reasons = []
    if last.get("version") != node.recipe["version"]:
        reasons.append(f"step version {last.get('version')} -> {node.recipe['version']}")
    for kind in ("params", "tools"):
        old, new = last.get(kind) or {}, node.recipe[kind]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                reasons.append(f"{name} {_said(old.get(name))} -> {_said(new.get(name))}")
    old_inputs = last.get("inputs") or {}
    for name, value in node.inputs.items():
        old = old_inputs.get(name)
        if isinstance(value, Made):
            if old != value.key:
                reasons.append(f"{step_of.get(value.key, name)} runs again")
            continue
        before = old if isinstance(old, Mapping) else {}
        for file, (path, sha256) in value.files.items():
            if before.get(file) != sha256:
                reasons.append(f"{path.name} {'changed' if file in before else 'is new'}")
    return ", ".join(reasons)


def _said(value: object) -> str:
    return "none" if value is None else str(value)
