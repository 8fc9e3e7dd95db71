"""The members of a spec's family, and what one inference of each takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repo_builder.base import validate
from repo_builder.base.artifact import Contents
from repo_builder.base.digest import Json
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem, SpecError, UsageError, did_you_mean
from repo_builder.spec.load import document_of, load
from repo_builder.spec.raw import RawSpec
from repo_builder.spec.raw_family import RawFamily, RawScaled, RawScaling
from repo_builder.spec.types import Spec, TorchSource
from repo_builder.targets import Target
from repo_builder.targets.advise import Workload
from repo_builder.tune.family.scaling import growths, scaled

_PARTS = ("depth", "width", "resolution")


@dataclass(frozen=True)
class Member:
    """One net of a family: its spec's name and the keyword arguments it is made with.

    `changed` are those that the family sets. `phi` None: it was named, not scaled. `growths` are
    the alpha, beta and gamma of a member of `grown`.
    """

    name: str
    kwargs: Mapping[str, Json]
    changed: Mapping[str, Json]
    phi: float | None = None
    growths: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Family:
    """The nets of the spec file `file`, from small to large as it lists them.

    `stem` is the spec's name. `dimensions` is how many dimensions a resolution has: 2 for images, 1
    for signals. `scaling` is None where members are named.
    """

    file: Path
    stem: str
    source: TorchSource
    members: tuple[Member, ...]
    dimensions: int
    scaling: RawScaling | None = None


@dataclass(frozen=True)
class Weighed:
    """A member and what one inference of it takes; `contents` is what its model uses."""

    member: Member
    workload: Workload
    contents: Contents | None


def read(file: Path, targets: Mapping[str, Target]) -> Family:
    """The family that a spec file describes.

    SpecError with all problems of the file; UsageError where it has no family, or no PyTorch
    source.
    """
    spec = load([file], targets)[0]
    document = document_of(file)
    raw, _ = validate.check(RawSpec, document)
    if not isinstance(spec, Spec) or not isinstance(raw, RawSpec) or raw.family is None:
        fix = "write `family: {scale: {width: {argument: ...}}}`, see docs/economics.md"
        raise UsageError(f"{file} has no family; {fix}")
    if not isinstance(spec.source, TorchSource):
        raise UsageError(f"{file}: a family needs `source: {{torch: ...}}`, a net to make anew")
    problems = list(_problems(raw.family, spec.source.kwargs, document))
    if spec.source.weights is not None:
        at, fix = ("source", "torch", "weights"), "leave them out; members are trained by `train:`"
        problems.append(document.problem(at, "fit one size of the net only", fix))
    if problems:
        raise SpecError(f"the family of {file} has problems:", problems)
    members = _members(spec.name, raw.family, spec.source.kwargs)
    shape = spec.source.inputs[0].shape
    dimensions = max(len(shape) - 2, 1)
    return Family(file, spec.name, spec.source, members, dimensions, raw.family.scale)


def _problems(
    family: RawFamily, kwargs: Mapping[str, Json], document: Document
) -> Iterator[Problem]:
    if family.scale is not None:
        for part in _PARTS:
            one: RawScaled | None = getattr(family.scale, part)
            if one is None:
                continue
            at = ("family", "scale", part, "argument")
            if one.argument not in kwargs:
                what = f"'{one.argument}' is none of the source's kwargs"
                yield document.problem(at, what, did_you_mean(one.argument, kwargs))
            elif not _whole(kwargs[one.argument]):
                what = f"'{one.argument}' is no whole number of 1 or more"
                yield document.problem(at, what, "only sizes can be scaled")
    for number, changed in enumerate(family.members or ()):
        for name in changed:
            if name not in kwargs:
                what = f"'{name}' is none of the source's kwargs"
                fix = did_you_mean(name, kwargs)
                yield document.problem(("family", "members", number, name), what, fix)


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _members(name: str, family: RawFamily, kwargs: Mapping[str, Json]) -> tuple[Member, ...]:
    if family.scale is not None:
        made = [_scaled(name, family.scale, kwargs, phi) for phi in sorted(family.scale.phi)]
    else:
        made = [_named(name, changed, kwargs) for changed in family.members or ()]
    return _unique(made)


def _unique(members: Iterable[Member]) -> tuple[Member, ...]:
    """The members whose nets differ, the first of each."""
    found: dict[str, Member] = {}
    for member in members:
        found.setdefault(member.name, member)
    return tuple(found.values())


def _scaled(name: str, scale: RawScaling, kwargs: Mapping[str, Json], phi: float) -> Member:
    changed: dict[str, Json] = {}
    for part, growth in zip(_PARTS, (scale.alpha, scale.beta, scale.gamma), strict=True):
        one: RawScaled | None = getattr(scale, part)
        if one is not None:
            base: Any = kwargs[one.argument]  # a whole number: `_problems` refuses others
            size = scaled(base, growth, phi, one.round_to, up=part == "depth")
            changed[one.argument] = size
    return Member(f"{name}-{_tag(changed)}", {**kwargs, **changed}, changed, phi)


def _named(name: str, changed: Mapping[str, Json], kwargs: Mapping[str, Json]) -> Member:
    return Member(f"{name}-{_tag(changed)}", {**kwargs, **changed}, dict(changed))


def _tag(changed: Mapping[str, Json]) -> str:
    """`depth3_width24`: what a member's name ends with, and its file's."""
    text = "_".join(f"{key}{value}" for key, value in changed.items())
    return "".join(c if c.isalnum() or c == "_" else "_" for c in text).lower()


def grown(family: Family) -> tuple[Member, ...]:
    """Members that take twice the base's work (phi = 1), by all the growths of `scaling.growths`.

    UsageError where the family's members are named.
    """
    scale = family.scaling
    if scale is None:
        what = f"{family.file}: `members` do not grow"
        raise UsageError(f"{what}; a fit needs `family: {{scale: ...}}`")
    parts = {part: getattr(scale, part) is not None for part in _PARTS}
    found = growths(family.dimensions, **parts)
    made = [
        _scaled(
            family.stem,
            scale.model_copy(update=dict(zip(("alpha", "beta", "gamma"), one, strict=True))),
            family.source.kwargs,
            1,
        )
        for one in found
    ]
    return _unique(replace(m, growths=one) for m, one in zip(made, found, strict=True))


def weigh(family: Family, members: Sequence[Member]) -> tuple[Weighed, ...]:
    """Make and export every member, with the weights its function gives, and count its work.

    ModelError where one cannot be made; MissingExtra without torch.
    """
    from repo_builder.introspect import declared
    from repo_builder.nets import imports
    from repo_builder.run import isolated
    from repo_builder.targets import advise

    source = family.source
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in imports.beside(source.file, imports.imports_of):
            (scratch / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.file.parent / name, scratch / "code" / name)
        isolated.call(source.file, _export, scratch, source, [dict(m.kwargs) for m in members])
        found = []
        for number, member in enumerate(members):
            file = scratch / str(number) / "model.onnx"
            workload = replace(advise.read(file), name=member.name)
            found.append(Weighed(member, workload, declared.contents(file)))
    return tuple(found)


def _export(scratch: Path, source: TorchSource, kwargs: Sequence[Mapping[str, Json]]) -> None:
    """Export the net once for each of `kwargs`; for a process of its own."""
    from repo_builder.nets.types import Net
    from repo_builder.propose import torch_net

    for number, given in enumerate(kwargs):
        out = scratch / str(number)
        out.mkdir()
        net = Net(
            source.file.name, source.function, given, source.inputs, source.outputs, source.batch
        )
        torch_net.export(scratch / "code", net, None, out)
