"""`compile-tensorrt`: an ONNX model checked for TensorRT, and its plan where there is a GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base import digest
from repo_builder.base.errors import ModelError, Problem, StepError
from repo_builder.introspect import quantized
from repo_builder.introspect.static import size_wanted
from repo_builder.spec.types import Place, Precision
from repo_builder.steps import _already, _onnx
from repo_builder.steps._level import Level
from repo_builder.targets.types import HardwareCompatibility
from repo_builder.trt.record import PLAN
from repo_builder.trt.request import Profile, Request

if TYPE_CHECKING:
    from onnx import GraphProto


@dataclass(frozen=True)
class Params:
    """`at`: where the plan is built: on this machine (`builder`), in an `image`, on the `device`.

    `batches` are the least, the best and the largest batch, for inputs whose dimension 0 varies.
    The rest is `repo_builder.trt.request.Request`.
    """

    at: Place
    precision: Precision = "fp32"
    batches: tuple[int, int, int] = (1, 1, 1)
    workspace_mb: int = 0
    dla_core: int | None = None
    version_compatible: bool = False
    hardware: HardwareCompatibility = "none"
    compute_capability: str = ""


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`, in QDQ form for int8, with fp16 types for fp16."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """`at` is where the plan is built; `tensorrt` and `gpu` are those of the builder, and
    `plan_size` is 0, without a plan. `outputs` are the shapes that the model declares.
    """

    at: Place
    profiles: Mapping[str, Profile]
    plan_size: int
    tensorrt: str
    gpu: str
    level: Level
    outputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)


def run(inputs: Inputs, params: Params, out: Path, kept: Path) -> Facts:
    """Write `model.onnx` and `tensorrt.json`; with a plan, `model.plan` and `portability.json`.

    ModelError with everything that TensorRT would refuse; UsageError, MissingExtra or StepError
    where this machine cannot build a plan. TensorRT's timings of layers stay in the folder `kept`.
    """
    from repo_builder.trt import check

    model = _onnx.load(inputs.model)
    already = quantized.find(model)
    if already is not None and params.precision != "int8":
        _already.refuse(already)
    found = check.problems(model, params.precision, dla=params.dla_core is not None)
    profiles, dynamic = _profiles(model.graph, params)
    if found or dynamic:
        raise ModelError("TensorRT cannot take the model", [*found, *dynamic])
    outputs = _onnx.outputs(model)
    _onnx.save(model, out)
    request = Request(
        model=digest.of_file(out / _onnx.MODEL),
        precision=params.precision,
        profiles=profiles,
        workspace_mb=params.workspace_mb,
        dla_core=params.dla_core,
        version_compatible=params.version_compatible,
        hardware=params.hardware,
    )
    request.write(out)
    if params.at != "builder":
        place = "in an image built on such a machine" if params.at == "image" else "on the device"
        reason = f"checked for TensorRT; the plan is built {place}, no GPU of this kind was here"
        return Facts(params.at, profiles, 0, "", "", Level("prepared", reason), outputs)
    facts = _build(request, params, profiles, out, kept)
    return dataclasses.replace(facts, outputs=outputs)


def _build(
    request: Request, params: Params, profiles: Mapping[str, Profile], out: Path, kept: Path
) -> Facts:
    from repo_builder.trt import engine, first_start, probe
    from repo_builder.trt.timings import Timings

    probe.gpu("the plan is built where the build runs; use a worker that has the GPU (--scheduler)")
    here = probe.device(engine.version())
    wanted = params.compute_capability
    if params.hardware == "none" and wanted not in ("", here.compute_capability):
        raise StepError(
            f"this builder's GPU has compute capability {here.compute_capability}, the target "
            f"{wanted}; build on such a machine, or with compile_at: device"
        )
    timings = Timings(kept, here)
    built = engine.build(out / _onnx.MODEL, request, timing_cache=timings.read(), report=_say)
    timings.write(built.timing_cache)
    (out / PLAN).write_bytes(built.plan)
    first_start.describe(out / PLAN, request, here).write(out)
    reason = f"TensorRT {here.tensorrt} built the plan on {here.gpu}; it was not run"
    level = Level("compiled", reason)
    return Facts(params.at, profiles, len(built.plan), here.tensorrt, here.gpu, level)


def _say(progress: object) -> None:
    print(progress, flush=True)


def _profiles(graph: GraphProto, params: Params) -> tuple[dict[str, Profile], list[Problem]]:
    """A profile for each dynamic input, and the dimensions that nobody gave a size."""
    profiles: dict[str, Profile] = {}
    problems: list[Problem] = []
    weights = {weight.name for weight in graph.initializer}
    for port in graph.input:
        dims = port.type.tensor_type.shape.dim
        if port.name in weights or all(dim.dim_value > 0 for dim in dims):
            continue
        shapes: list[list[int]] = [[], [], []]
        unknown = len(problems)
        for number, dim in enumerate(dims):
            if dim.dim_value > 0:
                sizes = [dim.dim_value] * 3
            elif number == 0:
                sizes = list(params.batches)
            else:
                what = f"dimension {number} is dynamic ({dim.dim_param or '?'})"
                fix = size_wanted(port)
                problems.append(Problem(what, fix, field=f"input '{port.name}'"))
                continue
            for shape, size in zip(shapes, sizes, strict=True):
                shape.append(size)
        if len(problems) == unknown:
            profiles[port.name] = Profile(*(tuple(shape) for shape in shapes))
    if params.dla_core is not None and len(set(params.batches)) > 1 and profiles:
        what = f"DLA takes one shape, batches are {params.batches}"
        problems.append(Problem(what, "set max_batch_size to 1, or build without dla_core"))
    return profiles, problems
