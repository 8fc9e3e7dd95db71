"""Which channels of a net hang together, and how much each of them matters; by torch-pruning.

A channel of a convolution is also one of the norm behind it, of the depthwise convolution behind
that, of the sum of a skip connection and so of all that it adds, and a column of whatever reads it.
Such a group is pruned in all its members or in none.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import MissingExtra, ModelError, did_you_mean
from repo_builder.nets import channels
from repo_builder.nets.channels import Cut
from repo_builder.nets.costs import Run
from repo_builder.spec.pruning import Criterion

if TYPE_CHECKING:
    from torch import Tensor, nn

Losses = Callable[["nn.Module"], Iterable["Tensor"]]
"""Gives the loss of a net on some rows, one scalar for each row (or batch: see `hessian`)."""

WAY_OUT = "name the layers in `keep`, or leave `optimize.prune` out"


@dataclass(frozen=True)
class Group:
    """Channels that go together: `layer` gives them, `importance` has a number for each.

    `cuts(removed)` says what goes where when those channels of `layer` do.
    """

    layer: str
    importance: tuple[float, ...]
    cuts: Callable[[Sequence[int]], dict[str, dict[str, Cut]]]


def find(
    net: nn.Module,
    run: Run,
    keep: Sequence[str] = (),
    criterion: Criterion = "magnitude",
    losses: Losses | None = None,
) -> tuple[list[Group], dict[str, str]]:
    """The groups that may be pruned, and the layers that may not, with the reason.

    `run` calls a net. `keep`: globs of layers whose channels all stay. `losses`: what taylor and
    hessian take gradients of. `net` stays as it is.

    By magnitude a channel's weights w count w^2, by taylor |w * dL/dw|, by hessian
    w^2 * (dL/dw)^2, the mean over the losses; each is summed over the weights of the channel in a
    layer, and then the mean over the layers of the group.

    ModelError: a glob that matches nothing, or a net that torch-pruning cannot follow.
    """
    try:
        import torch_pruning
    except ImportError as failure:
        raise MissingExtra("torch", "pruning") from failure
    import torch

    kept = _matching(net, keep)
    traced = copy.deepcopy(net).eval().requires_grad_(True)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that it guesses about: we compare answers
        outputs = _output_layers(traced, run)
        graph = _traced(torch_pruning.DependencyGraph(), traced, run)
        score = _scorer(torch_pruning, traced, criterion, losses)
        names = {module: name for name, module in traced.named_modules()}
        groups, left = [], {}
        kinds = [torch.nn.modules.conv._ConvNd, torch.nn.Linear]
        for whole in graph.get_all_groups(root_module_types=kinds):
            layer = names[whole[0].dep.target.module]
            if reason := _why_whole(whole, graph, names, kept, outputs):
                left[layer] = reason
                continue
            with followed(layer):
                importance = tuple(score(whole).tolist())
            groups.append(Group(layer, importance, _Cuts(graph, names, whole)))
    return groups, left


@contextmanager
def followed(layer: str = "") -> Iterator[None]:
    """ModelError where torch-pruning fails at the channels of a layer, or at the whole net.

    It indexes, unpacks and asserts on what it did not foresee, such as `torch.chunk`.
    """
    try:
        yield
    except Exception as failure:
        what = f"the channels of '{layer}'" if layer else "this net"
        fix = WAY_OUT if layer else "leave `optimize.prune` out"
        raise ModelError(
            f"torch-pruning cannot follow {what}: {type(failure).__name__}: {failure}; {fix}"
        ) from failure


@dataclass(frozen=True)
class _Cuts:
    """What goes with some channels of the first layer of a group."""

    graph: Any
    names: Any
    whole: Any

    def __call__(self, removed: Sequence[int]) -> dict[str, dict[str, Cut]]:
        first = self.whole[0].dep
        module, trigger = first.target.module, first.handler
        part = self.graph.get_pruning_group(module, trigger, sorted(removed))
        cuts: dict[str, dict[str, Cut]] = {}
        for dep, gone in part:
            if (member := _member(dep, self.graph, self.names)) is not None:
                name, side, size = member
                cuts.setdefault(name, {})[side] = Cut(size, tuple(sorted(set(gone))))
        return cuts


def _traced(graph: Any, net: Any, run: Run) -> Any:
    def differentiable(answers: Any) -> list[Any]:
        return [tensor for tensor in flat(answers) if tensor.grad_fn is not None]

    with followed():
        return graph.build_dependency(
            net,
            example_inputs=(),
            forward_fn=lambda traced, _: run(traced),
            output_transform=differentiable,
            verbose=False,
        )


def flat(answers: Any) -> list[Any]:
    """The tensors of what a net returns: one, or any nest of lists, tuples and mappings."""
    import torch

    if isinstance(answers, torch.Tensor):
        return [answers]
    if isinstance(answers, dict):
        answers = answers.values()
    return [tensor for part in answers for tensor in flat(part)]


def _output_layers(net: Any, run: Run) -> set[Any]:
    """Layers whose answers are answers of the net."""
    made: dict[Any, Any] = {}

    def seen(module: Any, _given: Any, answer: Any) -> None:
        for tensor in flat(answer):
            made[tensor.grad_fn] = module

    leaves = [module for module in net.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(seen) for module in leaves]
    answers = flat(run(net))
    for hook in hooks:
        hook.remove()
    return {made[tensor.grad_fn] for tensor in answers if made.get(tensor.grad_fn) is not None}


def _matching(net: nn.Module, globs: Sequence[str]) -> set[str]:
    """The layers whose name matches, and all inside them."""
    names = [name for name, _ in net.named_modules() if name]
    found: set[str] = set()
    for glob in globs:
        matched = [name for name in names if fnmatchcase(name, glob)]
        if not matched:
            fix = did_you_mean(glob, names)
            raise ModelError(f"`keep` has '{glob}', which is no layer of the net; {fix}")
        found.update(name for name in names for m in matched if f"{name}.".startswith(f"{m}."))
    return found


def _why_whole(whole: Any, graph: Any, names: Any, kept: set[str], outputs: set[Any]) -> str:
    """Why a group must not be pruned; "" where it may."""
    from torch_pruning.ops import OPTYPE

    for dep, _ in whole:
        module, gives = dep.target.module, graph.is_out_channel_pruning_fn(dep.handler)
        if dep.target.type == OPTYPE.OUTPUT or (gives and module in outputs):
            return "its channels are the net's answer"
        if module in names and not channels.can_cut(module):
            return f"'{names[module]}' deals its channels to groups, or is of a kind not known here"
        if gives and module in names and names[module] in kept:
            return f"`keep` names '{names[module]}'"
    return ""


def _member(dep: Any, graph: Any, names: Any) -> tuple[str, str, int] | None:
    """Layer or parameter, side and size of a member of a group; None where it has no weights."""
    from torch_pruning.ops import OPTYPE

    module = dep.target.module
    if dep.target.type == OPTYPE.PARAMETER:
        at = int(dep.target.pruning_dim)
        return graph._param_to_name[module], str(at), module.shape[at]
    if module not in names:
        return None
    gives = graph.is_out_channel_pruning_fn(dep.handler)
    size = graph.get_out_channels(module) if gives else graph.get_in_channels(module)
    return None if size is None else (names[module], "out" if gives else "in", size)


def _scorer(library: Any, net: Any, criterion: Criterion, losses: Losses | None) -> Any:
    """torch-pruning's scorer of a group, with the gradients that it wants in place."""
    if criterion == "magnitude":
        return library.importance.GroupMagnitudeImportance(p=2)
    if losses is None:
        raise ModelError(f"`criterion: {criterion}` needs training data; write `magnitude`")
    if criterion == "taylor":
        _take_gradients(net, losses, squared=False)
        return library.importance.GroupTaylorImportance()
    # Its own accumulate_grad of 1.6.1 keeps the last row alone: it looks a name up among tensors.
    _take_gradients(net, losses, squared=True)
    return library.importance.GroupHessianImportance()


def _take_gradients(net: Any, losses: Losses, *, squared: bool) -> None:
    """Leave in `.grad` the mean over the losses of the gradients, or of their squares."""
    import torch

    parameters = list(net.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    count = 0
    for loss in losses(net):
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total.add_(gradient.square() if squared else gradient)
        count += 1
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total / max(count, 1)
