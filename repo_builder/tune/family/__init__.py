"""Families of nets: the same net in several sizes, and which of them a device affords.

`read` takes a spec with a `family` and gives its members (`scaling` has the rule), `weigh` exports
each and counts its work, `afford` judges them for a device, its power modes and a budget by the
roofline of `targets/advise`. A member becomes an ordinary spec by `write`; training, building and
scoring it is an ordinary build's work, and `front` puts what came out beside each other. `grown`
members grow by other shares of depth, width and resolution; `advice` says which scored best.
"""

from __future__ import annotations

from repo_builder.tune.family.afford import Afforded, Budget, afford, largest
from repo_builder.tune.family.front import Built, advice, built, drawn
from repo_builder.tune.family.members import Family, Member, Weighed, grown, read, weigh
from repo_builder.tune.family.write import write

__all__ = [
    "Afforded",
    "Budget",
    "Built",
    "Family",
    "Member",
    "Weighed",
    "advice",
    "afford",
    "built",
    "drawn",
    "grown",
    "largest",
    "read",
    "weigh",
    "write",
]
