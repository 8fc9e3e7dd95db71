"""Which steps give a PyTorch net its weights: training, and a teacher's answers before that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repo_builder.base.digest import Json
from repo_builder.plan import pruning, sizes, source
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import ArtifactRef, Input, SourceFiles
from repo_builder.spec.training import Distillation, Training
from repo_builder.spec.types import OnnxSource, Source, Spec, TorchSource


def imported(chain: Chain) -> ArtifactRef:
    """The model of the chain's spec: its ONNX, or its net trained and exported; checked."""
    known = sizes.of(chain.spec, chain.pins, static=False)
    asked = chain.spec.source
    trained = weights(chain, asked) if isinstance(asked, TorchSource) else None
    net = source.onnx(chain, asked, weights=trained)
    return chain.add(
        "import", {"sizes": {**known}}, model=source.answering(chain, source.joined(chain, net))
    )


def untrained(chain: Chain, asked: Source, *, called: str) -> Input:
    """The ONNX of another spec's model, which the build does not train; on the chain's data."""
    given = asked.weights if isinstance(asked, TorchSource) else None
    start = chain.file(given) if given else None
    net = source.onnx(chain, asked, weights=start, called=called)
    return source.joined(chain, net, also=f"-{called}")


def weights(chain: Chain, net: TorchSource) -> Input | None:
    """The weights that the net is exported with; None where its function gives them."""
    start = chain.file(net.weights) if net.weights else None
    train, distill = chain.spec.optimize.train, chain.spec.optimize.distill
    if train is None:
        return start
    params = {**_params(train, distill), **_aware(chain.spec)}
    data = _data(chain, train)
    soft = _soft_targets(chain, train, distill) if distill else None

    def add(called: str, begin: Input | None, epochs: int, *, fresh: bool = False) -> ArtifactRef:
        return chain.add(
            "train",
            {"net": source.net(net), "training": _lasting(params, epochs), **_fresh(fresh)},
            called=called,
            code=chain.file(net),
            data=data,
            weights=begin,
            soft=soft,
        )

    if (prune := chain.spec.optimize.prune) is not None:
        return pruning.weights(chain, net, prune, train, params, data, add)
    return add("train", start, train.epochs)


def _lasting(params: dict[str, Json], epochs: int) -> dict[str, Json]:
    """The same training for so many epochs."""
    recipe: Any = params["recipe"]
    return {**params, "recipe": {**recipe, "epochs": epochs}}


def _fresh(fresh: bool) -> dict[str, Json]:
    return {"fresh": True} if fresh else {}


def _soft_targets(chain: Chain, train: Training, distill: Distillation) -> ArtifactRef:
    features: list[Json] = [distill.features[module] for module in sorted(distill.features)]
    return chain.add(
        "soft-targets",
        {"output": distill.output, "features": features},
        model=_teacher(chain, distill),
        data=_files(chain, {"train.npz": train.data}),
    )


def _teacher(chain: Chain, distill: Distillation) -> ArtifactRef:
    """The teacher's model, imported: one node with that of its own build."""
    if distill.onnx is not None:
        files = chain.file(OnnxSource(distill.onnx))
        return chain.add("import", {"sizes": {}}, called="teacher-import", model=files)
    teacher = chain.spec.teacher
    assert teacher is not None  # noqa: S101 - specs are loaded with their teachers
    own = Chain(teacher, chain.target, chain.declarations, chain.pins, chain.nodes)
    model = imported(own)
    chain.steps.update({f"teacher-{step}": key for step, key in own.steps.items()})
    return model


def _params(train: Training, distill: Distillation | None) -> dict[str, Json]:
    """`repo_builder.steps._training.Training`, as JSON."""
    recipe = dataclasses.asdict(train)
    for name in ("data", "validation", "target", "output", "own", "quantization_aware"):
        del recipe[name]
    params: dict[str, Json] = {"recipe": recipe, "target": train.target, "output": train.output}
    if train.own is not None:
        params["own"] = train.own.function
    if distill is not None:
        params["distillation"] = {
            "temperature": dataclasses.asdict(distill.temperature),
            "alpha": dataclasses.asdict(distill.alpha),
            "features": dict(distill.features),
            "feature_weight": distill.feature_weight,
        }
    return params


def _aware(spec: Spec) -> dict[str, Json]:
    """How weights are quantized later, where training shall know."""
    train, quantization = spec.optimize.train, spec.optimize.quantization
    if train is None or not train.quantization_aware:
        return {}
    return {"aware": {"stored": quantization.stored, "symmetric": bool(quantization.symmetric)}}


def _data(chain: Chain, train: Training) -> SourceFiles:
    own = train.own.file if train.own else None
    named = {"train.npz": train.data, "validation.npz": train.validation, "loss.py": own}
    return _files(chain, {name: path for name, path in named.items() if path is not None})


def _files(chain: Chain, named: Mapping[str, Path]) -> SourceFiles:
    """The user's files by the names that steps have for them, whatever others call them."""
    return SourceFiles(
        {name: next(iter(chain.pins.files[path].values())) for name, path in named.items()}
    )
