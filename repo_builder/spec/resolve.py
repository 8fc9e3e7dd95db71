"""Turns a raw spec into the resolved one for a target, and checks that it hangs together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from repo_builder.base import digest, energy
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem, did_you_mean
from repo_builder.spec import (
    resolve_ends,
    resolve_pruning,
    resolve_release,
    resolve_source,
    resolve_training,
    types,
)
from repo_builder.spec.fallback import fallback
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.quantization import quantization
from repo_builder.spec.raw import (
    RawAuto,
    RawCalibration,
    RawEvaluation,
    RawGates,
    RawOptimize,
    RawSpec,
)
from repo_builder.spec.search import Auto
from repo_builder.targets import Target, support
from repo_builder.targets.types import TensorRt


def resolve(
    raw: RawSpec, whole: Document, path: Path, target: Target
) -> tuple[types.Spec, list[Problem]]:
    """The resolved form of `raw`, read from `whole` in the file `path`, and what is wrong with it.

    Paths become absolute; whether they exist was asked before.
    """
    resolver = _Resolver(path, whole, target)
    return resolver.resolve(raw), resolver.problems


class _Resolver:
    def __init__(self, path: Path, whole: Document, target: Target) -> None:
        self.path = path
        self.whole = whole
        self.target = target
        self.problems: list[Problem] = []

    def resolve(self, raw: RawSpec) -> types.Spec:
        major, minor, patch = (int(part) for part in raw.version.split("."))
        has_calibration = raw.data.calibration is not None
        source = resolve_source.resolve(raw.source, self._file, self._problem)
        quantized = quantization(
            raw.optimize,
            self.target,
            has_calibration=has_calibration,
            problem=self._problem,
        )
        if raw.optimize.auto is not None:
            self._check_auto(raw, raw.optimize.auto, source)
        else:
            stored = has_calibration or not quantized.stored
            self._check_precision(raw.optimize, source, has_calibration=stored)
        if self.target.tensorrt is not None:
            self._check_tensorrt(raw, self.target.tensorrt)
        if raw.gates.max_accuracy_drop is not None and raw.data.evaluation is None:
            fix = "add `data: {evaluation: {path: ..., metric: ...}}`"
            self._problem(("gates", "max_accuracy_drop"), "needs evaluation data", fix)
        if raw.gates.confidence is not None and not raw.gates.max_accuracy_drop:
            fix = "write a `max_accuracy_drop` above 0 beside it"
            self._problem(("gates", "confidence"), "has no limit that could be kept", fix)
        optimize = raw.optimize
        evaluation = self._evaluation(raw.data.evaluation)
        train, distill = resolve_training.resolve(
            raw, source, evaluation, self._file, self._problem
        )
        return types.Spec(
            name=raw.name,
            version=types.Version(major, minor, patch),
            target=self.target.name,
            source=source,
            file=self.path,
            calibration=self._calibration(raw.data.calibration),
            evaluation=evaluation,
            optimize=types.Optimize(
                simplify=optimize.simplify,
                precision=optimize.precision,
                quantization=dataclasses.replace(
                    quantized, max_error=self._max_error(optimize, quantized)
                ),
                tensorrt=types.TensorRt(**optimize.tensorrt.model_dump()),
                auto=Auto(**optimize.auto.model_dump()) if optimize.auto else None,
                train=train,
                distill=distill,
                prune=resolve_pruning.resolve(raw, source, self.target, self._problem),
            ),
            gates=_gates(raw.gates),
            near=resolve_release.near(raw, self.target, self._file, self._problem),
            serving=types.Serving(
                objective=raw.serving.objective,
                max_batch_size=raw.serving.max_batch_size,
                labels=self._labels(raw.serving.labels),
                config=raw.serving.model_dump(
                    mode="json",
                    by_alias=True,
                    exclude_unset=True,
                    exclude={"objective", "max_batch_size", "labels"},
                ),
            ),
            preprocess=resolve_ends.resolve(raw.preprocess, self.target, self._problem),
            postprocess=resolve_ends.answers(raw.postprocess, self.target, self._problem),
            signal=resolve_ends.signal(raw.signal, self.target, self._problem),
            fallback=fallback(raw, evaluation, self._file, self._problem),
            sizes={
                name: said if isinstance(said, int) else tuple(said)
                for name, said in raw.sizes.items()
            },
        )

    def _check_precision(
        self, optimize: RawOptimize, source: types.Source, *, has_calibration: bool
    ) -> None:
        precision, at = optimize.precision, ("optimize", "precision")
        if precision not in self.target.precisions:
            can = ", ".join(self.target.precisions)
            self._problem(at, f"{self.target.name} has no {precision}", f"it has: {can}")
        elif precision == "int8" and not (has_calibration or _is_quantized(source)):
            fix = "add `data: {calibration: {path: ...}}`"
            self._problem(at, "int8 needs calibration data", fix)

    def _max_error(self, optimize: RawOptimize, quantized: types.Quantization) -> float | None:
        """The error up to which layers are kept in floating point; None: none is."""
        asked = optimize.quantization.keep_float
        if asked == "none" or optimize.precision != "int8":
            return None
        table = support.of(self.target.runtime)
        if not table.mixed:
            at = ("optimize", "quantization", "keep_float")
            what = f"{self.target.name} has no mixed precision: {table.why_not_mixed}"
            fix = "write `keep_float: none` for it under `overrides`"
            self._problem(at, what, fix)
        elif quantized.name != "int8":
            at = ("optimize", "quantization", "keep_float")
            what = f"layers are chosen for int8 weights and activations, not for {quantized.name}"
            self._problem(at, what, "leave it out, or name layers under `exclude`")
        return types.AUTO_ERROR if asked == "auto" else float(asked)

    def _check_auto(self, raw: RawSpec, auto: RawAuto, source: types.Source) -> None:
        """What a search needs: something to choose from, to choose by, and to measure."""
        at: tuple[str, ...] = ("optimize", "auto")
        given = raw.optimize.model_fields_set
        if "precision" in given:
            self._problem(("optimize", "precision"), "`auto` finds it", "leave one of both out")
        if "quantization" in given and raw.optimize.quantization.model_fields_set - {"exclude"}:
            fix = "leave all but `exclude` out"
            self._problem(("optimize", "quantization"), "`auto` finds how to quantize", fix)
        if raw.gates.max_accuracy_drop is None:
            fix = "add `gates: {max_accuracy_drop: 0.01}`, in the metric's own unit"
            self._problem(at, "needs to know how much the score may fall", fix)
        if _is_quantized(source):
            fix = "give the floating-point model that it was quantized from"
            self._problem(at, "the source is quantized already", fix)
        elif "int8" in self.target.precisions and raw.data.calibration is None:
            fix = "add `data: {calibration: {path: ...}}`"
            self._problem(at, "tries int8, which needs calibration data", fix)
        if auto.objective != "size" and not self.target.on_cpu:
            what = f"{self.target.name}'s {auto.objective} cannot be measured while building"
            self._problem((*at, "objective"), what, "write `objective: size`")
        elif auto.objective == "energy" and (why := energy.why_not()):
            self._problem((*at, "objective"), why, "or write `objective: latency`")

    def _check_tensorrt(self, raw: RawSpec, device: TensorRt) -> None:
        """What this device's TensorRT cannot do, though others can."""
        asked, at = raw.optimize.tensorrt, ("optimize", "tensorrt")
        if asked.dla_core is not None:
            core, cores = (*at, "dla_core"), device.dla_cores
            if asked.dla_core >= cores:
                has = f"DLA cores 0 to {cores - 1}" if cores else "no DLA"
                self._problem(core, f"{self.target.name} has {has}", "leave it out")
            if raw.optimize.precision != "fp16":
                what = f"DLA takes no explicit {raw.optimize.precision}"
                self._problem(core, what, "write `precision: fp16`, or leave it out")
            if raw.serving.max_batch_size not in (0, 1):
                fix = "write `serving: {max_batch_size: 1}`"
                self._problem(core, "DLA takes one batch size", fix)
        if asked.hardware_compatibility != "none" and not device.hardware_compatibility:
            what = f"plans of {self.target.name} fit its own GPU only"
            self._problem((*at, "hardware_compatibility"), what, "leave it out")

    def _calibration(self, raw: RawCalibration | None) -> types.Calibration | None:
        if raw is None:
            return None
        return types.Calibration(self._file(raw.path), raw.samples)

    def _evaluation(self, raw: RawEvaluation | None) -> types.Evaluation | None:
        if raw is None:
            return None
        own = self._own_metric(raw)
        need = REQUIRES[raw.metric]
        at: tuple[str, ...] = ("data", "evaluation")
        for kind, given, needed in (
            ("labels", raw.labels, (*need.labels, *need.constants)),
            ("outputs", raw.outputs, need.outputs),
        ):
            for name in given:
                if name not in needed:
                    what = f"the metric {raw.metric} has no {kind[:-1]} '{name}'"
                    self._problem((*at, kind, name), what, did_you_mean(name, needed))
        return types.Evaluation(
            path=self._file(raw.path),
            metric=raw.metric,
            own=own,
            labels={name: raw.labels.get(name, name) for name in (*need.labels, *need.constants)},
            outputs={name: raw.outputs.get(name, name) for name in need.outputs},
            samples=raw.samples,
        )

    def _own_metric(self, raw: RawEvaluation) -> types.OwnMetric | None:
        at = ("data", "evaluation")
        if raw.metric != "own":
            if raw.own is not None:
                fix = "write `metric: own`, or leave it out"
                self._problem((*at, "own"), f"the metric is {raw.metric}", fix)
            return None
        if raw.own is None:
            fix = "add `own: {file: score.py, function: score, better: higher}`"
            self._problem((*at, "metric"), "needs the function that measures", fix)
            return None
        better = raw.own.better == "higher"
        return types.OwnMetric(self._file(raw.own.file), raw.own.function, better)

    def _labels(self, raw: Mapping[str, str]) -> dict[str, Path]:
        labels = {output: self._file(path) for output, path in raw.items()}
        taken = {"config.pbtxt": Path()}
        for output, path in labels.items():
            if taken.setdefault(path.name, path) != path:
                what = f"another file called {path.name} lies beside it in the repository"
                self._problem(("serving", "labels", output), what, "rename the file")
        return labels

    def _file(self, name: str) -> Path:
        return _absolute(os.getcwd(), self.path.parent, name)  # noqa: PTH109 - a key, not a path

    def _problem(self, at: tuple[str, ...], what: str, fix: str) -> None:
        self.problems.append(self.whole.problem(at, what, fix))


def _gates(raw: RawGates) -> types.Gates:
    given = raw.max_difference
    limits = given.model_dump(exclude={"reason"}, exclude_none=True) if given else {}
    return types.Gates(
        **raw.model_dump(exclude={"max_difference"}),
        max_difference=types.MaxDifference(limits, given.reason) if given else None,
    )


def _is_quantized(source: types.Source) -> bool:
    """Whether the model has scales of its own; False where it cannot be read: `import` tells why.

    Only asked where a spec gives no data to find scales with. A PyTorch net has none.
    """
    if isinstance(source, types.TorchSource):
        return False
    try:
        return _has_scales(source.file, tuple(digest.stamp(source.file)))
    except OSError:
        return False


@lru_cache(maxsize=1024)  # every target of a spec has the same model
def _has_scales(source: Path, _stamp: tuple[int, ...]) -> bool:
    from repo_builder.introspect import quantized

    return quantized.in_file(source)


@lru_cache(maxsize=1024)  # every target of a spec has the same files
def _absolute(cwd: str, folder: Path, name: str) -> Path:
    return Path(os.path.normpath(cwd / folder / name))  # links stay
