"""What a spec's `optimize.train` and `optimize.distill` mean, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Union

from repo_builder.base.errors import did_you_mean
from repo_builder.spec.raw import RawSpec
from repo_builder.spec.raw_training import RawDistill, RawRamp, RawTrain
from repo_builder.spec.training import Distillation, OwnLoss, Ramp, Training
from repo_builder.spec.types import Evaluation, Source, TorchSource

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

_TRAIN, _DISTILL = ("optimize", "train"), ("optimize", "distill")


def resolve(
    raw: RawSpec,
    source: Source,
    evaluation: Evaluation | None,
    file: Callable[[str], Path],
    tell: Tell,
) -> tuple[Training | None, Distillation | None]:
    """The resolved training and distillation; `tell` is told what is wrong with them.

    `file` makes a path of the spec absolute. That the files exist was asked before.
    """
    train, distill = raw.optimize.train, raw.optimize.distill
    for at, asked in ((_TRAIN, train), (_DISTILL, distill)):
        if asked is not None and not isinstance(source, TorchSource):
            what = "an ONNX model cannot be trained: batch norms are folded, no gradients are left"
            fix = "write `source: {torch: ...}` with the net that it was exported from"
            tell(at, what, f"{fix}, or leave it out")
            return None, None
    if not isinstance(source, TorchSource):
        return None, None
    if train is None:
        if distill is not None:
            fix = "add `train: {data: train.npz, epochs: 30}`, which says on what and how"
            tell(_DISTILL, "nothing is trained", fix)
        return None, None
    _check(train, source, evaluation, file, tell)
    optimize = raw.optimize
    in_4_bits = optimize.precision == "int8" and optimize.quantization.weights == "int4"
    if train.quantization_aware and (optimize.auto is not None or not in_4_bits):
        fix = "write `precision: int8, quantization: {weights: int4, ...}`, or leave it out"
        what = "pays for weights of 4 bits; with 8 there is nothing to win back"
        tell((*_TRAIN, "quantization_aware"), what, fix)
    elif train.quantization_aware and not optimize.quantization.per_channel:
        what = "rounds each channel of weights on a scale of its own"
        tell((*_TRAIN, "quantization_aware"), what, "take `per_channel: false` out")
    return _training(train, file), _distillation(raw, train, distill, file, tell)


def _check(
    train: RawTrain,
    source: TorchSource,
    evaluation: Evaluation | None,
    file: Callable[[str], Path],
    tell: Tell,
) -> None:
    if not source.batch:
        what = "the net takes no batches of rows (`batch: false`), which training needs"
        tell(_TRAIN, what, "give it a dimension of rows, or leave `train` out")
    if train.output is not None and train.output not in source.outputs:
        what = f"the net has no output '{train.output}'"
        tell((*_TRAIN, "output"), what, did_you_mean(train.output, source.outputs))
    if train.early_stop is not None and train.validation is None:
        fix = "add `validation: FILE.npz`, or leave it out"
        tell((*_TRAIN, "early_stop"), "needs rows that score each epoch", fix)
    if train.validation is not None and file(train.validation) == file(train.data):
        what = "is what the net is trained on, so it scores nothing"
        tell((*_TRAIN, "validation"), what, "use other rows, or leave it out")
    for key, used in (("data", train.data), ("validation", train.validation)):
        if evaluation is not None and used is not None and file(used) == evaluation.path:
            what = "is the evaluation data too, which the net must not have seen"
            tell((*_TRAIN, key), what, "use other rows")


def _training(raw: RawTrain, file: Callable[[str], Path]) -> Training:
    return Training(
        data=file(raw.data),
        validation=file(raw.validation) if raw.validation is not None else None,
        output=raw.output or "",
        own=OwnLoss(file(raw.own.file), raw.own.function) if raw.own else None,
        **raw.model_dump(exclude={"data", "validation", "output", "own"}),
    )


def _distillation(
    raw: RawSpec,
    train: RawTrain,
    distill: RawDistill | None,
    file: Callable[[str], Path],
    tell: Tell,
) -> Distillation | None:
    if distill is None:
        return None
    if train.own is not None or train.loss != "cross_entropy":
        loss = "a loss of your own" if train.own else train.loss
        what = f"softens the classes of cross_entropy, and the net is trained with {loss}"
        tell(_DISTILL, what, "leave one of them out")
    if distill.teacher == raw.name:
        tell((*_DISTILL, "teacher"), "is this model itself", "name another spec, or an ONNX file")
    suffix = PurePosixPath(distill.teacher).suffix.lower()
    if suffix in (".pt", ".pth", ".pkl", ".pt2", ".safetensors"):
        fix = "name an ONNX file, or a spec with `source: {torch: ...}`"
        tell((*_DISTILL, "teacher"), f"{distill.teacher} is no net that can answer", fix)
    elif suffix == ".onnx" and not file(distill.teacher).is_file():
        what = f"no such file: {distill.teacher}"
        tell((*_DISTILL, "teacher"), what, f"paths are relative to {file('')}/")
    temperature, alpha = _ramp(distill.temperature), _ramp(distill.alpha)
    if min(temperature.start, temperature.end) == 0:
        tell((*_DISTILL, "temperature"), "logits are divided by it, it cannot be 0", "write 1")
    if max(alpha.start, alpha.end) > 1:
        what = "is the teacher's share of the loss, it cannot exceed 1"
        tell((*_DISTILL, "alpha"), what, "write `{start: 0.9, end: 0.5}`")
    return Distillation(
        teacher=distill.teacher,
        onnx=file(distill.teacher) if suffix == ".onnx" else None,
        output=distill.output or "",
        temperature=temperature,
        alpha=alpha,
        features=distill.features,
        feature_weight=distill.feature_weight,
    )


def _ramp(given: Union[float, RawRamp]) -> Ramp:
    if isinstance(given, RawRamp):
        return Ramp(given.start, given.end, given.shape)
    return Ramp(given, given)
