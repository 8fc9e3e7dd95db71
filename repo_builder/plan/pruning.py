"""Which steps prune a PyTorch net: prune and fine-tune, in parts, beside a twin from scratch."""

from __future__ import annotations

from typing import Protocol

from repo_builder.base.digest import Json
from repo_builder.plan import source
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import ArtifactRef, Input, SourceFiles
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.training import Training
from repo_builder.spec.types import TorchSource


class Train(Protocol):
    """Adds a training to the chain: from `begin`, or with `fresh` from new weights of its shape."""

    def __call__(
        self, called: str, begin: Input | None, epochs: int, *, fresh: bool = False
    ) -> ArtifactRef:
        """The weights, under the name `called` in the chain."""
        ...


def weights(
    chain: Chain,
    net: TorchSource,
    pruning: Pruning,
    training: Training,
    params: dict[str, Json],
    data: SourceFiles,
    train: Train,
) -> ArtifactRef:
    """The weights of the pruned net, or of its twin where those are better.

    A net without weights of its own is trained first, and its twin as long as both trainings.
    `params` are those of the training, `data` its files.
    """
    epochs, trained = training.epochs, training.epochs
    dense: Input
    if net.weights is not None:
        dense = chain.file(net.weights)
    else:
        dense, trained = train("train-dense", None, epochs), 2 * epochs
    code = chain.file(net)
    part: Input = dense
    for number in range(1, pruning.iterations + 1):
        last = number == pruning.iterations
        name = "" if last else f"-{number}"
        cut = chain.add(
            "prune",
            _params(chain, net, pruning, number, params),
            called=f"prune{name}",
            code=code,
            weights=part,
            data=None if pruning.criterion == "magnitude" else data,
        )
        share = epochs // pruning.iterations
        rest = epochs - share * (pruning.iterations - 1)
        part = train(f"train{name}", cut, rest if last else share)
    twin = train("train-twin", cut, trained, fresh=True)
    return chain.add(
        "choose",
        {"net": source.net(net), "training": params},
        code=code,
        data=data,
        dense=dense,
        tuned=part,
        scratch=twin,
    )


def _params(
    chain: Chain, net: TorchSource, pruning: Pruning, number: int, training: dict[str, Json]
) -> dict[str, Json]:
    """`repo_builder.steps.prune.Params` of part `number`; only what shapes its result."""
    params: dict[str, Json] = {
        "net": source.net(net),
        "share": pruning.share * number / pruning.iterations,
        "of": pruning.of,
        "criterion": pruning.criterion,
        "round_to": pruning.round_to,
        "keep": list(pruning.keep),
    }
    if pruning.criterion != "magnitude":
        params["training"] = training
    if pruning.of == "latency":
        params["runtime"] = "openvino" if chain.target.openvino else "onnxruntime"
        params["threads"] = chain.target.cores
    return params
