"""Where the ONNX of a model comes from: a file of the user's, or a step that makes it."""

from __future__ import annotations

from repo_builder.base.digest import Json
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
