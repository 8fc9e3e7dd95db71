"""How a spec's quantization becomes the parameters of steps."""

from __future__ import annotations

from repo_builder.base.digest import Json
from repo_builder.plan import back, front, mixed
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import ArtifactRef


def params(chain: Chain) -> dict[str, Json]:
    """What the steps share that round activations with stored ranges."""
    quantization, calibration = chain.spec.optimize.quantization, chain.spec.calibration
    return {
        "method": quantization.method,
        "percentile": quantization.percentile,
        "per_channel": quantization.per_channel,
        "symmetric": quantization.symmetric,
        "repair": sorted(quantization.repair),
        "exclude": [*quantization.exclude, *front.excluded(chain.spec), *back.excluded(chain.spec)],
        "samples": calibration.samples if calibration else 0,
    }


def quantized(chain: Chain, model: ArtifactRef, *, whole: bool = False) -> ArtifactRef:
    """Add the step that quantizes an ONNX model as the spec says; `whole`: all of the graph."""
    quantization = chain.spec.optimize.quantization
    if not quantization.stored:
        return _weights_only(chain, model)
    given: dict[str, Json] = {
        "scheme": chain.target.int8,
        "whole": whole,
        "weight_bits": weight_bits(chain),
        **params(chain),
    }
    if quantization.weights == "int4":
        given["weight_bits"] = 4
    if quantization.activations == "int16":
        given["activation_bits"] = 16
    keep = None if whole else mixed.kept(chain, model, given)
    return chain.add("quantize", given, model=model, calibration=chain.calibration, keep=keep)


def _weights_only(chain: Chain, model: ArtifactRef) -> ArtifactRef:
    """Weights in integers, activations in floating point or rounded as they come."""
    quantization = chain.spec.optimize.quantization
    calibration = chain.calibration if quantization.repair else None
    given: dict[str, Json] = {
        "weights": quantization.weights,
        "activations": quantization.activations,
        "symmetric": quantization.symmetric,
        "per_channel": quantization.per_channel,
        "exclude": [*quantization.exclude, *front.excluded(chain.spec), *back.excluded(chain.spec)],
        "repair": sorted(quantization.repair),
    }
    if calibration is not None and chain.spec.calibration is not None:
        given["samples"] = chain.spec.calibration.samples
    return chain.add("quantize-weights", given, model=model, calibration=calibration)


def weight_bits(chain: Chain) -> int:
    """7 where a processor of the target may lack VNNI and so add products of bytes in 16 bits."""
    target = chain.target
    return 7 if target.on_cpu and "amd64" in target.architectures and not target.cpu.vnni else 8
