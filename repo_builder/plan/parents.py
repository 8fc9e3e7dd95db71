"""The net that a pruned one comes from, built for the same target to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from repo_builder.plan.chain import Chain
from repo_builder.spec.types import TorchSource


def of(chain: Chain, recipe: Callable[[Chain], Any]) -> Chain | None:
    """The steps by which `recipe` makes the parent; None where the chain's net is not pruned.

    Weights that the spec gives are the parent's; otherwise the same training makes both.
    """
    spec = chain.spec
    if spec.optimize.prune is None or not isinstance(spec.source, TorchSource):
        return None
    optimize = replace(spec.optimize, prune=None)
    if spec.source.weights is not None:
        optimize = replace(optimize, train=None, distill=None)
    own = Chain(
        replace(spec, optimize=optimize),
        chain.target,
        chain.declarations,
        chain.pins,
        chain.nodes,
        only_compiled=True,
    )
    recipe(own)
    return own


def adopt(chain: Chain, parent: Chain | None) -> None:
    """Make the steps of the parent steps of the chain, as `parent-...`."""
    if parent is not None:
        chain.steps.update({f"parent-{step}": key for step, key in parent.steps.items()})
