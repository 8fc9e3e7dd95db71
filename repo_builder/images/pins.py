"""What images are made of: base images, packages, budgets, read from `pins.yaml` and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repo_builder.base import document
from repo_builder.base.errors import Problem, SpecError, UsageError, did_you_mean

SHIPPED = Path(__file__).parent / "pins.yaml"
OWN = Path("pins.yaml")
TOOLS = ("pip", "pyelftools")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Shape):
    """The most an image without models may take, in MB of 1e6 bytes: on disk, and to pull."""

    disk_mb: float = Field(gt=0)
    pull_mb: float = Field(gt=0)


class Family(_Shape):
    """One Dockerfile template and what it starts from.

    `base` is an image reference, `@sha256:` where it is pinned, "" where a user must name one;
    `packages` are wheels of
    `Pins.packages`; `backends` are ours that the image needs; `layers` are the folders that the
    template fills, lowest first; `compiler` are wheels for the stage that compiles models, which
    families without the key do not have.
    """

    base: str = ""
    python: str = ""
    packages: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    compiler: tuple[str, ...] | None = None
    layers: tuple[str, ...] = Field(min_length=1)
    budget: Budget

    @property
    def large(self) -> bool:
        """Whether the base is NVIDIA's, which brings the server: 10 GB and more to pull."""
        return not self.packages


class Package(_Shape):
    """A wheel: its version and its sha256 per OCI architecture."""

    version: str
    sha256: Mapping[str, Sha256]


class TargetImage(_Shape):
    """Which family serves a target, and on which OCI platforms."""

    family: str
    platforms: tuple[str, ...] = Field(min_length=1)


class Pins(_Shape):
    """The whole table."""

    families: Mapping[str, Family]
    targets: Mapping[str, TargetImage]
    packages: Mapping[str, Package]

    def family(self, target: str) -> tuple[str, Family]:
        """The family that serves `target`; UsageError where it has no image."""
        if target not in self.targets:
            hint = did_you_mean(target, self.targets)
            raise UsageError(
                f"the target '{target}' has no image; {hint}; one of your own needs a line below "
                "`targets` in pins.yaml (docs/images.md)"
            )
        name = self.targets[target].family
        return name, self.families[name]

    def platform(self, target: str, wanted: str | None) -> str:
        """`wanted`, or the target's first platform; UsageError where the target has it not."""
        platforms = self.targets[target].platforms
        if wanted is not None and wanted not in platforms:
            raise UsageError(
                f"the target '{target}' is not made for {wanted}; {did_you_mean(wanted, platforms)}"
            )
        return wanted or platforms[0]


def load(own: Path | None = None) -> Pins:
    """The shipped table with `own` (by default ./pins.yaml, where it exists) laid over it."""
    table, problems = document.read(SHIPPED)
    path = own or OWN
    if table is not None and (own is not None or path.exists()):
        above, found = document.read(path)
        problems = problems + found
        if above is not None:
            table = document.overlay(table, above)
    if table is None or problems:
        raise SpecError("the pins cannot be read:", problems)
    try:
        pins = Pins.model_validate(table.value)
    except ValidationError as failure:
        raise SpecError(
            "the pins have problems:",
            [table.problem(error["loc"], error["msg"]) for error in failure.errors()],
        ) from None
    problems = list(_dangling(pins, table))
    if problems:
        raise SpecError("the pins have problems:", problems)
    return pins


def _dangling(pins: Pins, table: document.Document) -> list[Problem]:
    """Names in the table that point to nothing."""
    problems = []
    for name, target in pins.targets.items():
        if target.family not in pins.families:
            hint = did_you_mean(target.family, pins.families)
            what = f"no family '{target.family}'"
            problems.append(table.problem(("targets", name, "family"), what, hint))
    for name, family in pins.families.items():
        for package in (*family.packages, *(family.compiler or ()), *TOOLS):
            if package not in pins.packages:
                hint = did_you_mean(package, pins.packages)
                what = f"no package '{package}'"
                problems.append(table.problem(("families", name, "packages"), what, hint))
    return problems


def write_bases(path: Path, bases: Mapping[str, str]) -> None:
    """Write the base of each family into a pins file, keeping what else it says."""
    import yaml

    value: dict[str, Any] = {}
    if path.exists():
        table, problems = document.read(path)
        if table is None or problems:
            raise SpecError("the pins cannot be read:", problems)
        value = table.value
    for family, base in bases.items():
        value.setdefault("families", {}).setdefault(family, {})["base"] = base
    path.write_text(yaml.safe_dump(value, sort_keys=True), encoding="utf-8")
