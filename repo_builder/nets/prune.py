"""Structured pruning: the least important channels of a net go, in every layer the same share.

`prune` is one step of it: `dependencies.find` says which channels hang together and how much they
matter, `_cuts` chooses, `channels.apply` takes them out, and what is left is run beside
the net with those channels silenced. Fine-tuning, and more steps, are the caller's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError
from repo_builder.nets import channels, costs
from repo_builder.nets.channels import Cut, Cuts
from repo_builder.nets.costs import Run
from repo_builder.nets.dependencies import (
    WAY_OUT,
    Group,
    Losses,
    find,
    flat,
    followed,
)
from repo_builder.spec.pruning import Criterion, Of

if TYPE_CHECKING:
    from torch import nn

ALIKE = 1e-3
"""The relative difference up to which a pruned net answers as the silenced one: float32 sums in
another order stay below 1e-5, channels in a wrong place make it about 1."""


@dataclass(frozen=True)
class Request:
    """`share` (0..1) of what is removed.

    Layers keep a multiple of `round_to` channels, rounded down, at least that many: runtimes
    compute in blocks of channels and take longer for what fills none. `keep`: globs of layers that
    keep all of theirs.
    """

    share: float
    of: Of = "channels"
    criterion: Criterion = "magnitude"
    round_to: int = 16
    keep: Sequence[str] = ()


@dataclass(frozen=True)
class Pruned:
    """`net` without the channels `cuts`, which count from the dense net.

    `ratio` is the share of each layer's channels before rounding, `achieved` the share that was
    asked for, as it came out. `left` are layers that keep all channels, and why.
    """

    net: nn.Module
    cuts: Cuts
    ratio: float
    achieved: float
    left: Mapping[str, str]


def prune(
    net: nn.Module,
    run: Run,
    request: Request,
    *,
    dense: nn.Module | None = None,
    before: Cuts | None = None,
    losses: Losses | None = None,
    time_saved: Callable[[nn.Module], float] | None = None,
) -> Pruned:
    """A copy of `net` with channels removed; in eval mode.

    `run` calls a net on some rows, two or more where it takes a batch.
    For the second step of a schedule, `dense` is the net before the first, `before` what is gone
    since; shares are of the dense net. `losses`: see `find`. `time_saved` tells the share of the
    dense net's time that a net saves, for shares `of: latency`.

    ModelError: nothing can be pruned, a layer would be left empty, more is asked for than can go,
    or the net that is left does not run, gives other shapes, or mixes channels up; it names where.
    """
    dense, before = net if dense is None else dense, before or {}
    groups, left = find(net, run, request.keep, request.criterion, losses)
    chooser = _Chooser(net, run, request, before, groups)
    if not groups:
        why = "; ".join(f"'{layer}': {reason}" for layer, reason in left.items())
        raise ModelError(f"there is nothing to prune: {why or 'the net has no layers of weights'}")
    whole = costs.count(dense, run)

    def saved(candidate: nn.Module) -> float:
        if request.of == "latency":
            if time_saved is None:
                raise ModelError("`of: latency` needs the target's runtime here; write `of: macs`")
            return time_saved(candidate)
        now = costs.count(candidate, run)
        return 1 - float(getattr(now, request.of) / getattr(whole, request.of))

    if request.of == "channels":
        ratio = request.share
        made = chooser.made(ratio)
        achieved = saved(made.net)
    else:
        ratio, made, achieved = _search(chooser, saved, request)
    return Pruned(made.net, channels.joined(before, made.cuts), ratio, achieved, left)


@dataclass(frozen=True)
class _Made:
    net: Any
    cuts: Cuts


class _Chooser:
    """Makes the net that is left at a ratio, checked; the same one twice is made once."""

    def __init__(
        self,
        net: nn.Module,
        run: Run,
        request: Request,
        before: Cuts,
        groups: Sequence[Group],
    ) -> None:
        self._net = copy.deepcopy(net).eval()
        self._run = run
        self._request = request
        self._before = before
        self._groups = groups
        self._known: dict[tuple[int, ...], _Made] = {}

    @property
    def first(self) -> bool:
        """Whether nothing was pruned before. Later, rounding may leave nothing to do."""
        return not self._before

    def sizes(self, ratio: float) -> tuple[int, ...]:
        """How many channels each group keeps."""
        return tuple(self._size(group, ratio) for group in self._groups)

    def made(self, ratio: float) -> _Made:
        sizes = self.sizes(ratio)
        if sizes not in self._known:
            self._known[sizes] = self._make(sizes, ratio)
        return self._known[sizes]

    def _size(self, group: Group, ratio: float) -> int:
        here = len(group.importance)
        cut = self._before.get(group.layer, {}).get("out")
        dense = cut.of if cut else here
        size = math.floor(round(dense * (1 - ratio), 6))
        step = self._request.round_to
        if step > 1:
            size = max(size // step, 1) * step
        if size < 1:
            raise ModelError(
                f"pruning {ratio:.0%} of the channels leaves '{group.layer}' empty, which has "
                f"{dense}; lower `share`, or name it in `keep`"
            )
        return min(size, here)

    def _make(self, sizes: Sequence[int], ratio: float) -> _Made:
        parts = [
            (group.layer, _cuts(group, size))
            for group, size in zip(self._groups, sizes, strict=True)
            if size < len(group.importance)
        ]
        if not parts and self.first:
            most = max(len(group.importance) for group in self._groups)
            raise ModelError(
                f"pruning {ratio:.0%} of the channels removes none: layers have at most {most} and "
                f"keep a multiple of `round_to: {self._request.round_to}`; lower it"
            )
        made, cuts, reason = self._tried(part for _, part in parts)
        if reason:
            alone = [(layer, self._tried([part])[2]) for layer, part in parts]
            places = [f"'{layer}' ({why})" for layer, why in alone if why]
            where = ", ".join(places) or f"all of its layers together ({reason})"
            raise ModelError(f"pruning breaks the net at {where}; {WAY_OUT}")
        return _Made(made, cuts)

    def _tried(self, parts: Iterable[Cuts]) -> tuple[Any, Cuts, str]:
        """The net without those channels, what is gone, and how it is broken ("": it is not).

        Answers are compared without the parts that a norm over channels sees: fewer channels have
        another mean.
        """
        parts = list(parts)
        exact = [part for part in parts if not channels.normalizes_channels(self._net, part)]
        cuts, comparable = _united(parts), _united(exact)
        made = self._without(cuts)
        if not (reason := shaped_otherwise(self._net, made, self._run)) and exact:
            alike = made if len(exact) == len(parts) else self._without(comparable)
            reason = answers_otherwise(self._net, alike, comparable, self._run)
        return made, cuts, reason

    def _without(self, cuts: Cuts) -> Any:
        made = copy.deepcopy(self._net)
        channels.apply(made, cuts)
        return made


def shaped_otherwise(net: nn.Module, made: nn.Module, run: Run) -> str:
    """How `made` fails to give what `net` gives, in its shapes; "" where it does."""
    import torch

    with torch.no_grad():
        try:
            answers = flat(run(made))
        except Exception as failure:  # noqa: BLE001 - whatever the user's forward raises
            said = str(failure).strip().splitlines() or [type(failure).__name__]
            return f"forward fails: {said[0]}"
        expected = flat(run(net))
    shapes = [tuple(tensor.shape) for tensor in answers]
    wanted = [tuple(tensor.shape) for tensor in expected]
    return "" if shapes == wanted else f"it answers in the shapes {shapes}, not {wanted}"


def answers_otherwise(net: nn.Module, made: nn.Module, cuts: Cuts, run: Run) -> str:
    """How `made` answers otherwise than `net` with those channels silenced; "" where it does not.

    That finds channels that changed places, which no shape tells.
    """
    import torch

    with torch.no_grad():
        pairs = zip(flat(run(made)), flat(run(channels.silenced(net, cuts))), strict=True)
        for ours, theirs in pairs:
            off = float((ours.double() - theirs.double()).norm())
            if not off <= ALIKE * float(theirs.double().norm()) + 1e-6:
                return "its channels changed places, or something counts them"
    return ""


def _cuts(group: Group, size: int) -> dict[str, dict[str, Cut]]:
    """The least important channels of a group, in all its members; the first of equals go."""
    order = sorted(range(len(group.importance)), key=lambda channel: group.importance[channel])
    with followed(group.layer):
        return group.cuts(order[: len(order) - size])


def _united(parts: Any) -> dict[str, dict[str, Cut]]:
    """Cuts of several groups in one net: a layer may read the channels of two."""
    cuts: dict[str, dict[str, Cut]] = {}
    for part in parts:
        for layer, sides in part.items():
            for side, cut in sides.items():
                known = cuts.setdefault(layer, {}).get(side, Cut(cut.of, ()))
                removed = tuple(sorted({*known.removed, *cut.removed}))
                cuts[layer][side] = Cut(cut.of, removed)
    return cuts


def _search(
    chooser: _Chooser, saved: Callable[[nn.Module], float], request: Request
) -> tuple[float, _Made, float]:
    """The smallest ratio, in hundredths, that saves the share; by bisection."""
    low, high = 0, _largest(chooser)
    best = chooser.made(high / 100)
    achieved = saved(best.net)
    if achieved < request.share:
        raise ModelError(
            f"`prune: {{share: {request.share:g}, of: {request.of}}}` is more than can go: "
            f"{high} % of the channels save {achieved:.0%}; lower `share` or `round_to`"
        )
    known = {chooser.sizes(high / 100): achieved}
    if chooser.first:  # else what went before may save enough
        known.setdefault(chooser.sizes(0), 0.0)
    while high - low > 1:
        middle = (low + high) // 2
        sizes = chooser.sizes(middle / 100)
        if sizes not in known:
            known[sizes] = saved(chooser.made(middle / 100).net)
        if known[sizes] >= request.share:
            high, achieved = middle, known[sizes]
        else:
            low = middle
    return high / 100, chooser.made(high / 100), achieved


def _largest(chooser: _Chooser) -> int:
    """The largest ratio, in hundredths, that leaves no layer empty."""
    for percent in range(99, 0, -1):
        try:
            chooser.sizes(percent / 100)
        except ModelError:
            continue
        return percent
    raise ModelError("every layer has one channel, so there is nothing to prune")
