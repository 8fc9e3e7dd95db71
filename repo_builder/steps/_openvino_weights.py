"""Whether OpenVINO's CPU device may round what products with packed weights read."""

from __future__ import annotations

from typing import Any

from repo_builder.steps._grid import BLOCK

_OPTION = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]


def let_round(model: Any, *, dynamic: bool) -> None:
    """Say in the model whether products with packed weights round what they read to 8 bits.

    OpenVINO's CPU device (2026.4) does so by itself, with a scale for each 32 values of a row,
    unless the model or who compiles it says 0. (A group as long as the row, which its documentation
    allows, rounds nothing.)
    """
    model.set_rt_info(str(BLOCK if dynamic else 0), _OPTION)
