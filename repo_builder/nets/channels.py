"""Which channels of a net were removed: written down, read again, and taken out of a net.

A pruned net is its factory's net with some rows and columns of some weights gone. That is said here
as JSON, so that anybody can make it again from the factory without unpickling anything:

    {"features.0": {"out": {"of": 32, "removed": [3, 7]}}, "features.1": {"out": ...}}

`out` are the channels that a layer gives, `in` those that a convolution or a linear layer takes;
`of` is how many there were. A parameter that belongs to no known layer, such as an embedding of
positions, has `0`, `1`, ... in their place: the dimension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

FILE = "pruned.json"
"""What the file is called beside the weights."""

_FIX = "build again: the factory has changed since, or the file is another net's"


@dataclass(frozen=True)
class Cut:
    """Channels `removed`, in rising order, of the `of` that there were."""

    of: int
    removed: tuple[int, ...]

    @property
    def kept(self) -> list[int]:
        """The channels that stay, in rising order."""
        gone = set(self.removed)
        return [channel for channel in range(self.of) if channel not in gone]


Cuts = Mapping[str, Mapping[str, Cut]]
"""Layer or parameter -> side (`out`, `in`, or a dimension) -> what was removed there."""


def write(cuts: Cuts, folder: Path) -> None:
    """Write `pruned.json`; equal cuts give equal bytes."""
    content = {
        layer: {
            side: {"of": cut.of, "removed": list(cut.removed)}
            for side, cut in sorted(sides.items())
        }
        for layer, sides in sorted(cuts.items())
    }
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, dict[str, Cut]]:
    """What `write` wrote; {} where the folder has no such file. ModelError where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            layer: {
                side: Cut(int(cut["of"]), tuple(map(int, cut["removed"])))
                for side, cut in sides.items()
            }
            for layer, sides in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise ModelError(f"{FILE} is damaged: {failure!r}; {_FIX}") from failure


def joined(first: Cuts, then: Cuts) -> dict[str, dict[str, Cut]]:
    """Both cuts as one of the net before the first; `then` counts what the first left."""
    cuts = {layer: dict(sides) for layer, sides in first.items()}
    for layer, sides in then.items():
        for side, cut in sides.items():
            before = cuts.setdefault(layer, {}).get(side, Cut(cut.of, ()))
            left = before.kept
            removed = {*before.removed, *(left[channel] for channel in cut.removed)}
            cuts[layer][side] = Cut(before.of, tuple(sorted(removed)))
    return cuts


def apply(net: nn.Module, cuts: Cuts) -> None:
    """Take the channels out of `net`, in place: weights keep their values, and layers know it.

    ModelError where the net has no such layer, or one of another size.
    """
    layers = dict(net.named_modules())
    for name, sides in cuts.items():
        for side, cut in sides.items():
            if side in ("out", "in"):
                if name not in layers:
                    raise ModelError(f"{FILE} names the layer '{name}', which is not there; {_FIX}")
                _cut_layer(name, layers[name], side, cut)
            else:
                owner, _, parameter = name.rpartition(".")
                if not hasattr(layers.get(owner), parameter):
                    raise ModelError(
                        f"{FILE} names the parameter '{name}', which is not there; {_FIX}"
                    )
                _cut_tensor(name, layers[owner], parameter, int(side), cut)


def forget(net: nn.Module, cuts: Cuts, seed: int) -> None:
    """Give the layers that were cut new random weights, as layers of their size begin with.

    The others keep what the factory gave them. For a net of the same shape, trained from scratch.
    """
    import torch

    torch.manual_seed(seed)
    layers = dict(net.named_modules())
    for name in sorted(cuts.keys() & layers.keys()):
        if hasattr(layers[name], "reset_parameters"):
            layers[name].reset_parameters()


def silenced(net: nn.Module, cuts: Cuts) -> nn.Module:
    """A copy of `net` whose removed channels are there and say nothing.

    What makes them has weights of 0, and so has what reads them. A net that was pruned rightly
    answers exactly as this one.
    """
    import copy

    import torch

    quiet = copy.deepcopy(net)
    layers = dict(quiet.named_modules())
    with torch.no_grad():
        for name, sides in cuts.items():
            for side, cut in sides.items():
                if side in ("out", "in"):
                    for tensor, dimension in _tensors(layers[name], side):
                        if not tensor.startswith("running_"):
                            value = getattr(layers[name], tensor)
                            value.index_fill_(dimension, _index(cut.removed), 0)
                else:
                    owner, _, parameter = name.rpartition(".")
                    value = getattr(layers[owner], parameter)
                    value.index_fill_(int(side), _index(cut.removed), 0)
    return quiet


def normalizes_channels(net: nn.Module, cuts: Cuts) -> bool:
    """Whether a cut layer makes each channel depend on how many there are, as LayerNorm does."""
    from torch import nn

    layers = dict(net.named_modules())
    return any(isinstance(layers.get(name), nn.LayerNorm) for name in cuts)


def can_cut(layer: nn.Module) -> bool:
    """Whether `apply` knows layers of this type; not those that deal their channels to groups."""
    from torch import nn
    from torch.nn.utils import parametrize

    if parametrize.is_parametrized(layer):
        return False
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.groups == 1 or _is_depthwise(layer)
    if isinstance(layer, nn.LayerNorm):
        return len(layer.normalized_shape) == 1
    plain = (nn.Linear, nn.PReLU, nn.Embedding)
    norms = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return isinstance(layer, (*plain, *norms))


def _is_depthwise(layer: Any) -> bool:
    return bool(layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1)


def _cut_layer(name: str, layer: Any, side: str, cut: Cut) -> None:
    from torch import nn

    if not can_cut(layer):
        raise ModelError(f"{FILE} cuts '{name}', a {type(layer).__name__}, which cannot be; {_FIX}")
    for tensor, dimension in _tensors(layer, side):
        _cut_tensor(f"{name}.{tensor}", layer, tensor, dimension, cut)
    left = cut.of - len(cut.removed)
    if isinstance(layer, nn.modules.conv._ConvNd):
        if _is_depthwise(layer):
            layer.in_channels = layer.out_channels = layer.groups = left
        else:
            setattr(layer, f"{side}_channels", left)
    elif isinstance(layer, nn.Linear):
        setattr(layer, f"{side}_features", left)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (left,)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = left
    elif isinstance(layer, nn.Embedding):
        layer.embedding_dim = left
    else:
        layer.num_features = left


def _tensors(layer: Any, side: str) -> list[tuple[str, int]]:
    """The tensors of a layer that have the channels of a side, and the dimension of those."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd) and not _is_depthwise(layer):
        out = 1 if layer.transposed else 0
        found = [("weight", out), ("bias", 0)] if side == "out" else [("weight", 1 - out)]
    elif isinstance(layer, nn.Linear):
        found = [("weight", 0), ("bias", 0)] if side == "out" else [("weight", 1)]
    elif isinstance(layer, nn.Embedding):
        found = [("weight", 1)]
    else:  # one value for each channel
        names = ("weight", "bias", "running_mean", "running_var")
        found = [(name, 0) for name in names]
    return [(name, at) for name, at in found if getattr(layer, name, None) is not None]


def _cut_tensor(name: str, owner: Any, attribute: str, dimension: int, cut: Cut) -> None:
    """Keep what stays of a parameter or buffer, as the same kind of thing."""
    from torch import nn

    tensor = getattr(owner, attribute)
    size = tensor.shape[dimension] if dimension < tensor.dim() else 0
    if size != cut.of:
        raise ModelError(f"{FILE} has {cut.of} channels of '{name}', the net {size}; {_FIX}")
    left = tensor.detach().index_select(dimension, _index(cut.kept)).clone()
    if isinstance(tensor, nn.Parameter):
        left = nn.Parameter(left, requires_grad=tensor.requires_grad)
    setattr(owner, attribute, left)


def _index(channels: Any) -> Any:
    import torch

    return torch.tensor(list(channels), dtype=torch.long)
