"""Which targets can take a model, in which precision, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from repo_builder.base.artifact import Contents
from repo_builder.base.errors import DataError, ModelError, UsageError, did_you_mean
from repo_builder.spec.types import Precision
from repo_builder.steps._quantizable import HEAVY
from repo_builder.targets import Target, support

_ORDER: tuple[Precision, ...] = ("fp32", "fp16", "int8")


NOTHING = "int8 would find no convolution or matrix product to quantize; the spec says fp32"
"""Said where int8 is asked of a model of other operators, such as scikit-learn's classifiers."""


@dataclass(frozen=True)
class Chosen:
    """Targets of a spec, the precision that it writes, and those that need another."""

    targets: Sequence[str]
    precision: Precision
    others: Mapping[str, Precision]


@dataclass(frozen=True)
class Fits:
    """What the tables of support say of every target, by name.

    `able` need no more than the model, `after_data` take int8 only and so need calibration data.
    `not_able` maps reasons to targets.
    """

    able: tuple[str, ...]
    after_data: tuple[str, ...]
    not_able: Mapping[str, tuple[str, ...]]


def quantizable(contents: Contents | None) -> bool:
    """Whether int8 finds anything to quantize; True where the file's contents are not known."""
    return contents is None or any(
        not use.domain and use.type in HEAVY for use in contents.operators
    )


def fits(contents: Contents | None, targets: Mapping[str, Target], *, int8: bool) -> Fits:
    """`int8`: whether the model can be built in int8, by its data or by scales of its own."""
    able, after, refused = [], [], dict[str, list[str]]()
    for name, target in sorted(targets.items()):
        problems = support.of(target.runtime).problems(contents) if contents else []
        only_int8 = _best(target, "fp32") == "int8"
        if problems:
            refused.setdefault(problems[0].what, []).append(name)
        elif only_int8 and not int8 and not quantizable(contents):
            refused.setdefault("nothing in it can be quantized", []).append(name)
        elif int8 or not only_int8:
            able.append(name)
        else:
            after.append(name)
    reasons = {reason: tuple(names) for reason, names in refused.items()}
    return Fits(tuple(able), tuple(after), reasons)


def choose(
    asked: Sequence[str], found: Fits, targets: Mapping[str, Target], precision: Precision
) -> Chosen:
    """The targets that match `asked`: names, or globs, which take those that can.

    UsageError for one that is unknown, ModelError for one by name that cannot take the model,
    DataError for one that needs calibration data.
    """
    chosen: list[str] = []
    for pattern in asked:
        if pattern in targets:
            _refuse(pattern, found)
            chosen.append(pattern)
            continue
        matching = [name for name in found.able if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(
                f"--target {pattern}: no such target; {did_you_mean(pattern, targets)}"
            )
        chosen += matching
    names = list(dict.fromkeys(chosen))
    best = {name: _best(targets[name], precision) for name in names}
    base = precision if precision in best.values() else min(best.values(), key=_ORDER.index)
    return Chosen(names, base, {name: p for name, p in best.items() if p != base})


def _refuse(name: str, found: Fits) -> None:
    for reason, names in found.not_able.items():
        if name in names:
            raise ModelError(f"--target {name}: {reason}; choose another target")
    if name in found.after_data:
        raise DataError(
            f"--target {name}: it takes int8 only, which needs calibration data; bring some with"
            " --data, or put calibration.npz beside the model"
        )


def _best(target: Target, wanted: Precision) -> Precision:
    """`wanted` where the target has it, else the widest that it has."""
    has: Iterable[str] = target.precisions
    return wanted if wanted in has else next((p for p in _ORDER if p in has), "fp32")
