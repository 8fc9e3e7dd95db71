"""Where the ONNX of a model comes from: a file of the user's, or a step that makes it."""

from __future__ import annotations

from repo_builder.base.digest import Json
from repo_builder.plan import front
from repo_builder.plan.chain import Chain
from repo_builder.plan.types import Input
from repo_builder.spec.types import OnnxSource, Source, TorchSource


def onnx(chain: Chain, source: Source, *, weights: Input | None, called: str = "export") -> Input:
    """The ONNX files of a model: the user's, or what a PyTorch net with `weights` is exported to.

    `called`: see `Chain.add`.
    """
    if isinstance(source, OnnxSource):
        return chain.file(source)
    return chain.add(
        "export",
        {"net": net(source)},
        called=called,
        code=chain.file(source),
        weights=weights,
    )


def joined(chain: Chain, net: Input, *, also: str = "") -> Input:
    """The net with what the chain's spec makes of images and samples in front of it.

    `also`: what the names of these steps end with, where the chain has others.
    """
    if (recipe := front.of(chain.spec)) is not None:
        # TensorRT takes uint8 only where a cast follows at once.
        first = chain.target.tensorrt is not None
        said: dict[str, Json] = {"recipe": recipe, "cast_first": first}
        net = chain.add("join-preprocess", said, called=f"join-preprocess{also}", model=net)
    if (signal := chain.spec.signal) is not None:
        said = {"kind": signal.kind, "params": signal.params}
        net = chain.add("join-signal", said, called=f"join-signal{also}", model=net)
    return net


def answering(chain: Chain, net: Input) -> Input:
    """The net with what the chain's spec makes of its outputs behind it."""
    asked = chain.spec.postprocess
    if asked is None:
        return net
    params: dict[str, Json] = {"kind": asked.kind, "params": asked.params}
    return chain.add("join-postprocess", params, model=net)


def net(source: TorchSource) -> dict[str, Json]:
    """A PyTorch net as parameters of the steps that make it: `repo_builder.nets.Net`."""
    return {
        "file": source.file.name,
        "function": source.function,
        "kwargs": source.kwargs,
        "inputs": [
            {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
            for tensor in source.inputs
        ],
        "outputs": list(source.outputs),
        "batch": source.batch,
    }
