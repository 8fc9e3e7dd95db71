"""Weights alone in 8 or 4 bits for OpenVINO's CPU device, and whether it may round activations."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from repo_builder.steps._failures import explained
from repo_builder.steps._grid import BLOCK
from repo_builder.targets.types import WeightType

_OPTION = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]


def compress(model: Any, weights: WeightType, symmetric: bool, excluded: Collection[str]) -> Any:
    """`model` with packed weights; StepError where NNCF fails.

    With int4, matrix products get 4 bits with a scale for each block of `BLOCK` inputs, of fewer
    where their number is no multiple of it, else 8 bits. Convolutions get 8 bits in any case: NNCF
    has no 4-bit ones. `excluded` are operators whose weights stay in floating point.
    """
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedCompressionParameters,
        GroupSizeFallbackMode,
    )

    modes = nncf.CompressWeightsMode
    mode, more = modes.INT8_SYM if symmetric else modes.INT8_ASYM, {}
    if weights == "int4":
        mode = modes.INT4_SYM if symmetric else modes.INT4_ASYM
        fallback = AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=4
        )
        more = {
            "group_size": BLOCK,
            "ratio": 1.0,
            "all_layers": True,
            "advanced_parameters": fallback,
        }
    scope = nncf.IgnoredScope(names=sorted(excluded), validate=False)
    with explained("NNCF failed", "write `optimize: {precision: fp16}`"):
        return nncf.compress_weights(model, mode=mode, ignored_scope=scope, **more)


def let_round(model: Any, *, dynamic: bool) -> None:
    """Say in the model whether products with packed weights round what they read to 8 bits.

    OpenVINO's CPU device (2026.4) does so by itself, with a scale for each 32 values of a row,
    unless the model or who compiles it says 0. (A group as long as the row, which its documentation
    allows, rounds nothing.)
    """
    model.set_rt_info(str(BLOCK if dynamic else 0), _OPTION)
