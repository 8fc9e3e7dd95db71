"""What all raw types of a spec file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Raw(BaseModel):
    """Base of all raw types: unknown keys are errors, "3" is no number, and neither is NaN."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
    )
