"""Which steps build a model for a target: one recipe for each runtime.

A recipe adds the steps to a chain and says which of them makes what is served. All begin with
`_front` and end with `_check`, so that every target is compared with the same source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from repo_builder.base import machine
from repo_builder.base.digest import Json
from repo_builder.plan import judged, mixed, parents, quantization, sizes, training, warm_up
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import ArtifactRef
from repo_builder.spec.types import AUTO_ERROR
from repo_builder.targets import Target

FP32 = "compile-fp32"
"""What the steps of a variant call the fp32 beside which it is measured."""


def _onnxruntime(chain: Chain) -> None:
    precision = chain.spec.optimize.precision
    front = model = _front(chain)
    if precision == "int8":
        model = quantization.quantized(chain, model)
    chain.compiled = "compile-onnxruntime"
    bits = 8 if precision == "int8" else quantization.weight_bits(chain)
    params: dict[str, Json] = {"precision": precision, "weight_bits": bits}
    if precision == "int8" and chain.spec.optimize.quantization.packed:
        params["weights_only"] = True
    model = chain.add(chain.compiled, params, model=model)
    here = _runs_here(chain, "ONNX Runtime")
    in_fp32: dict[str, Json] = {"precision": "fp32", "weight_bits": quantization.weight_bits(chain)}
    fp32 = _fp32(chain, in_fp32, front) if here else None
    _check(chain, model, "onnxruntime", profile=here, fp32=fp32)


def _runs_here(chain: Chain, runtime: str) -> bool:
    """Whether this machine has a processor of the target's kind; the chain says so where not."""
    here, architectures = machine.architecture(), chain.target.architectures
    if here in architectures:
        return True
    device = " or ".join(architectures)
    chain.why_not_executed = f"ran in {runtime} on {here}; no {device} machine was here"
    return False


def _openvino(chain: Chain) -> None:
    precision = chain.spec.optimize.precision
    settings = chain.target.openvino
    device = settings.device if settings else "CPU"
    params: dict[str, Json] = {"precision": precision, "device": device}
    if settings and settings.opset is not None:
        params.update(last_release=settings.last_release, opset=settings.opset)
    in_fp32 = {**params, "precision": "fp32"}
    calibration = None
    cpu = device == "CPU"
    front = _front(chain, static=not cpu)
    keep = None
    model = front
    if precision == "int8" and not chain.spec.optimize.quantization.stored:
        model = quantization.quantized(chain, front)
        params["activations"] = chain.spec.optimize.quantization.activations
    elif precision == "int8":
        params.update(quantization.params(chain), weight_bits=quantization.weight_bits(chain))
        calibration = chain.calibration
        keep = mixed.kept(chain, front, params)
    chain.compiled = "compile-openvino"
    model = chain.add(chain.compiled, params, model=model, calibration=calibration, keep=keep)
    measured = cpu and _runs_here(chain, "OpenVINO")
    runtime = "openvino" if cpu else "openvino-rows"
    in_fp16 = _emulated(chain) if precision == "fp16" and not cpu else None
    fp32 = _fp32(chain, in_fp32, front) if measured else None
    _check(chain, model, runtime, profile=measured, emulated=in_fp16, fp32=fp32)


def _fp32(chain: Chain, params: Mapping[str, Json], front: ArtifactRef) -> ArtifactRef | None:
    """The model in fp32 for the same runtime, beside which it is measured; None where it is fp32.

    Targets and specs share it, also with those that are built in fp32.
    """
    if chain.spec.optimize.precision == "fp32" or chain.only_compiled:
        return None
    return chain.add(chain.compiled, params, called=FP32, model=front)


def _tensorrt(chain: Chain) -> None:
    precision, tensorrt = chain.spec.optimize.precision, chain.target.tensorrt
    params: dict[str, Json]
    ranges: ArtifactRef | None = None
    model = _front(chain, static=True)
    if precision == "int8":
        model = quantization.quantized(chain, model)
    elif precision == "fp16":
        # DLA has no fp32; what else TensorRT builds keeps the types of the model.
        dla = chain.spec.optimize.tensorrt.dla_core is not None
        ranges = None if dla else _fp16_ranges(chain, model)
        params = {"precision": precision}
        model = chain.add("compile-onnxruntime", params, model=model, ranges=ranges)
    asked = chain.spec.optimize.tensorrt
    place = asked.compile_at or chain.target.compile_at
    params = {
        "at": place,
        "precision": precision,
        "batches": sizes.batches(chain.spec),
        "workspace_mb": asked.workspace_mb,
        "dla_core": asked.dla_core,
        "version_compatible": asked.version_compatible,
        "hardware": asked.hardware_compatibility,
        "compute_capability": tensorrt.compute_capability if tensorrt else "",
    }
    resources = {"tensorrt": 1, chain.target.name: 1} if place == "builder" else None
    chain.compiled = "compile-tensorrt"
    model = chain.add(chain.compiled, params, resources=resources, model=model)
    chain.why_not_executed = "its ONNX ran in ONNX Runtime; no such GPU was here"
    in_fp16 = _emulated(chain, ranges) if precision == "fp16" else None
    _check(chain, model, "onnxruntime", profile=False, emulated=in_fp16)


def _qnn(chain: Chain) -> None:
    precision, qnn = chain.spec.optimize.precision, chain.target.qnn
    model = _front(chain, static=True)
    if precision == "int8":
        model = quantization.quantized(chain, model)
    params: dict[str, Json] = {
        "htp_arch": qnn.htp_arch if qnn else 0,
        "soc_model": qnn.soc_model if qnn else 0,
    }
    chain.compiled = "compile-qnn"
    model = chain.add(chain.compiled, params, model=model, evaluation=chain.evaluation)
    chain.why_not_executed = "ran in QNN's simulator; no Snapdragon was here"
    in_fp16 = _emulated(chain) if precision == "fp16" else None
    _check(chain, model, "qnn", profile=False, emulated=in_fp16)


def _vela(chain: Chain) -> None:
    vela = chain.target.vela
    tflite = _tflite(chain)
    params: dict[str, Json] = {
        "model": chain.spec.name,
        "device": chain.target.name,
        "accelerator": vela.accelerator if vela else "",
        "system_config": vela.system_config if vela else "",
        "memory_mode": vela.memory_mode if vela else "",
    }
    chain.compiled = "compile-vela"
    chain.add(chain.compiled, params, model=tflite)
    chain.why_not_executed = "the int8 model ran in LiteRT's reference kernels; no Ethos-U was here"
    _check(chain, tflite, "litert", profile=False)


def _tflite_micro(chain: Chain) -> None:
    micro = chain.target.micro
    tflite = _tflite(chain)
    params: dict[str, Json] = {
        "model": chain.spec.name,
        "device": chain.target.name,
        "flash_kb": micro.flash_kb if micro else 0,
        "ram_kb": micro.ram_kb if micro else 0,
    }
    chain.compiled = "compile-tflite-micro"
    chain.add(chain.compiled, params, model=tflite)
    chain.why_not_executed = (
        "the int8 model ran in LiteRT's reference kernels; no microcontroller was here"
    )
    _check(chain, tflite, "litert", profile=False)


def rank(chain: Chain) -> None:
    """The steps that rank the layers by what int8 costs in them; nothing is built."""
    cpu = chain.target.openvino is not None and chain.target.openvino.device == "CPU"
    front = _front(chain, static=not cpu and chain.target.runtime != "onnxruntime")
    params = {"weight_bits": quantization.weight_bits(chain), **quantization.params(chain)}
    most = chain.spec.optimize.quantization.max_error
    chain.compiled = "sensitivity"
    mixed.sensitivity(chain, front, params, AUTO_ERROR if most is None else most)


RECIPES: Mapping[str, Callable[[Chain], None]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "qnn": _qnn,
    "vela": _vela,
    "tflite-micro": _tflite_micro,
}
"""A target's runtime -> how models are built for it."""


def _front(chain: Chain, *, static: bool = False) -> ArtifactRef:
    """What every target shares: a checked, simplified model in floating point.

    With `static`, for toolchains that take one shape, it has the sizes that are known.
    """
    known = sizes.of(chain.spec, chain.pins, static=False)
    model = training.imported(chain)
    if static and (fixed := sizes.of(chain.spec, chain.pins, static=True)):
        model = chain.add("fix-shapes", {"sizes": {**fixed}}, model=model)
    if chain.spec.optimize.simplify:
        model = chain.add("simplify", {"sizes": {} if static else {**known}}, model=model)
    if chain.spec.near is not None:
        params = {"most": chain.spec.gates.max_accuracy_drop, **judged.params(chain.spec)}
        base = chain.file(chain.spec.near)
        model = chain.add("near", params, model=model, base=base, evaluation=chain.evaluation)
    return model


def _judged(chain: Chain) -> ArtifactRef:
    """The model that all others are compared with: the source, or what was brought near a base."""
    return ArtifactRef(chain.steps.get("near", chain.steps["import"]))


def _tflite(chain: Chain) -> ArtifactRef:
    """int8 TFLite with the scales of a QDQ model; nothing in it computes in floating point."""
    model = quantization.quantized(chain, _front(chain, static=True), whole=True)
    return chain.add("compile-tflite", {}, model=model, evaluation=chain.evaluation)


def _rows(chain: Chain) -> dict[str, Any]:
    """The data that models are compared on: evaluation, else calibration."""
    evaluation = chain.evaluation
    return {
        "evaluation": evaluation,
        "calibration": None if evaluation else chain.calibration,
    }


def _reference(chain: Chain) -> ArtifactRef:
    source = _judged(chain)
    known = sizes.of(chain.spec, chain.pins, static="fix-shapes" in chain.steps)
    params: dict[str, Json] = {"sizes": {**known}, **judged.params(chain.spec)}
    if chain.spec.evaluation is None and chain.spec.calibration is None:
        params["one_shape"] = _takes_one_shape(chain.target)
    return chain.add("reference", params, model=source, **_rows(chain))


def _takes_one_shape(target: Target) -> bool:
    """Whether the target's toolchain makes an open dimension 0 the constant 1."""
    if target.openvino is not None:
        return target.openvino.device != "CPU"
    return target.runtime in ("qnn", "vela", "tflite-micro")


def _fp16_ranges(chain: Chain, model: ArtifactRef) -> ArtifactRef:
    inputs: dict[str, Any] = {"model": model, "reference": _reference(chain), **_rows(chain)}
    return chain.add("fp16-ranges", judged.params(chain.spec), **inputs)


def _emulated(chain: Chain, kept: ArtifactRef | None = None) -> ArtifactRef:
    """What the device answers in fp16, which nothing here computes in; `kept`: see its `ranges`."""
    made = (chain.steps.get(step) for step in ("near", "simplify", "import"))
    front = ArtifactRef(next(filter(None, made)))
    _fp16_ranges(chain, front)
    reference = _reference(chain)
    inputs: dict[str, Any] = {"model": front, "reference": reference, "ranges": kept}
    inputs.update(_rows(chain))
    return chain.add("emulate-fp16", judged.params(chain.spec), **inputs)


def _check(
    chain: Chain,
    model: ArtifactRef,
    runtime: str,
    *,
    profile: bool,
    emulated: ArtifactRef | None = None,
    fp32: ArtifactRef | None = None,
) -> None:
    """Prove that `model` answers like the source; measure it, beside `fp32`, where its runtime is.

    `emulated`: what the device answers where `runtime` computes in another precision.
    """
    if chain.only_compiled:
        return
    reference = _reference(chain)
    parent = parents.of(chain, RECIPES[chain.target.runtime] if profile else training.imported)
    # A runtime that stands in for the device's takes the cores that are here.
    cores = 0 if chain.why_not_executed else chain.target.cores
    served: dict[str, Json] = {"runtime": runtime, "threads": cores}
    opaque = runtime in ("qnn", "litert") and "quantize" in chain.steps
    chain.add(
        "verify",
        {**served, **judged.params(chain.spec), **judged.allowed(chain.spec)},
        model=model,
        source=_judged(chain),
        reference=reference,
        quantized=ArtifactRef(chain.steps["quantize"]) if opaque else None,
        emulated=emulated,
        parent=_reference(parent) if parent and chain.evaluation else None,
        slow=runtime == "qnn",
        **_rows(chain),
    )
    if fp32 is not None and runtime != "onnxruntime" and (evaluation := chain.evaluation):
        # In ONNX Runtime the source itself is what `reference` has scored.
        chain.add(
            "score", {**served, **judged.params(chain.spec)}, model=fp32, evaluation=evaluation
        )
    _confidence(chain, model, served)
    _warm_up(chain, model, served)
    if profile:
        dense = ArtifactRef(parent.steps[parent.compiled]) if parent else None
        chain.add("profile", served, model=model, reference=reference, fp32=fp32, parent=dense)
    parents.adopt(chain, parent)


def _warm_up(chain: Chain, model: ArtifactRef, served: Mapping[str, Json]) -> None:
    """Try the samples that the spec brings; those of our own are zeros, which import has tried."""
    samples = warm_up.samples(chain.spec)
    if samples and chain.target.backend is not None:
        chain.add("warm-up", {**served, "samples": samples}, model=model)


def _confidence(chain: Chain, model: ArtifactRef, served: Mapping[str, Json]) -> None:
    """Find out when `model` is sure, where Triton serves it: only its clients read a policy."""
    fallback = chain.spec.fallback
    if fallback is None or chain.target.backend is None:
        return
    asked = fallback.cloud_source
    cloud = training.untrained(chain, asked, called="export-cloud") if asked else None
    params: dict[str, Json] = {
        **served,
        "policy": fallback.policy,
        "output": fallback.output,
        "activation": fallback.activation,
        "label": fallback.label,
        "samples": fallback.samples,
        "max_error": fallback.max_error,
        "threshold": fallback.threshold,
        "confidence_level": fallback.confidence_level,
        "cloud": fallback.cloud,
        "cloud_latency_ms": fallback.cloud_latency_ms,
        "cloud_cost": fallback.cloud_cost,
        "layout": fallback.layout,
    }
    chain.add(
        "calibrate-confidence",
        params,
        model=model,
        data=chain.images(chain.file(fallback.data), "confidence"),
        cloud=cloud,
    )
