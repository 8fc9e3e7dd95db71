"""Mixed precision: the step that finds which layers int8 harms, before the one that quantizes."""

from __future__ import annotations

from collections.abc import Mapping

from repo_builder.base.digest import Json
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import ArtifactRef

_TAKEN = (
    *("samples", "method", "percentile", "symmetric", "per_channel", "exclude", "repair"),
    "weight_bits",
)
"""What the step takes of the params of the one that quantizes."""


def kept(chain: Chain, model: ArtifactRef, params: Mapping[str, Json]) -> ArtifactRef | None:
    """What stays in floating point beside what int8 ruins; None where the spec asks for nothing.

    `model` is in fp32, `params` are those with which it will be quantized.
    """
    max_error = chain.spec.optimize.quantization.max_error
    return None if max_error is None else sensitivity(chain, model, params, max_error)


def sensitivity(
    chain: Chain, model: ArtifactRef, params: Mapping[str, Json], max_error: float
) -> ArtifactRef:
    """What int8 costs in each layer, and what to leave for an error up to `max_error`."""
    target = chain.target
    asked: dict[str, Json] = {
        **{name: params[name] for name in _TAKEN},
        "scheme": target.int8,
        "max_error": max_error,
        # ONNX Runtime's quantizer puts one pair behind a tensor, NNCF one before each reader. In
        # the form for TensorRT each reader in int8 has its own, but of one alone all read it.
        "shared": target.openvino is None,
        "narrow": target.on_cpu,
    }
    return chain.add("sensitivity", asked, model=model, calibration=chain.calibration)
