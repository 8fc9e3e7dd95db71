"""The raw shape of a spec's `family`: see `raw.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from repo_builder.spec.raw_base import Raw

_Growth = Annotated[float, Field(ge=1, le=4)]
_Phi = Annotated[float, Field(ge=-8, le=8)]


class RawScaled(Raw):
    """A keyword argument of the net's function that grows with the family."""

    argument: Annotated[str, Field(min_length=1)]
    """Its name; what the spec's `kwargs` give it is its value at phi = 0."""
    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    """Values are multiples of this. Runtimes work in blocks of channels: 8 or 16 for a width."""


class RawScaling(Raw):
    """Compound scaling: depth grows by alpha ** phi, width by beta, resolution by gamma ** phi.

    Tan and Le: EfficientNet, 2019, arXiv:1905.11946.
    """

    depth: RawScaled | None = None
    """How often a block is repeated; rounded up."""
    width: RawScaled | None = None
    """Channels."""
    resolution: RawScaled | None = None
    """Pixels of a side, or places of a signal. The net must bring its input to this size itself."""
    alpha: _Growth = 1.2
    """Growth of the depth."""
    beta: _Growth = 1.1
    """Growth of the width."""
    gamma: _Growth = 1.15
    """Growth of the resolution."""
    phi: Annotated[list[_Phi], Field(min_length=1, max_length=32)] = [0, 0.5, 1, 1.5, 2, 2.5, 3]
    """The members of the family. Each step of 1 costs about twice the work."""

    @model_validator(mode="after")
    def _scales_something(self) -> RawScaling:
        if not (self.depth or self.width or self.resolution):
            raise ValueError("scales nothing; name a `depth`, `width` or `resolution`")
        return self


class RawFamily(Raw):
    """Nets of several sizes to choose from, by `repo-builder family`; a build does not read it."""

    scale: RawScaling | None = None
    """Members by compound scaling."""
    members: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=32)] | None = None
    """Or the members themselves: what `kwargs` of the source each changes."""

    @model_validator(mode="after")
    def _one_of_them(self) -> RawFamily:
        if (self.scale is None) == (self.members is None):
            raise ValueError("needs one of `scale` and `members`")
        return self
