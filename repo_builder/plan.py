"""Decides what would run: specs x targets -> `Plan`. Pure: reads nothing, writes nothing.

A step's key is made of its recipe: step, version, parameters, the keys or content digests of its
inputs, and the versions of the tools that shape its output (see docs/adr/0002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from repo_builder.digest import Json


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
    recipe: Mapping[str, Json]
