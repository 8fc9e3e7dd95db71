"""Which release of Triton serves, for rules that hold from or up to one."""

from __future__ import annotations

import re

from repo_builder.repository.lint.model import Model

Release = tuple[int, int]
"""Year and month: (24, 10) is 24.10, Triton 2.51."""
SERVED: Release = (24, 10)
"""What lint follows where no target names another."""


def older(model: Model, first: Release) -> bool:
    """Whether a Triton older than `first` may serve the model with its C++ backends.

    A target without a release is served by our images, whose Python-based backends know all that
    `first` brought.
    """
    if model.target is None:
        return first > SERVED
    named = (re.fullmatch(r"Triton (\d\d)\.(\d\d)", r.name) for r in model.target.releases)
    releases = [(int(match[1]), int(match[2])) for match in named if match]
    return bool(releases) and max(releases) < first
