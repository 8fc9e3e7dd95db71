"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.types import Hit, Judge, Severity


@dataclass(frozen=True)
class Rule:
    """A rule, who enforces it, and the place in Triton's sources or documents that says so."""

    id: str
    severity: Severity
    judge: Judge
    source: str
    check: Callable[[Model], Iterable[Hit]]

    @property
    def summary(self) -> str:
        """The first line of the check's docstring."""
        return (self.check.__doc__ or "").strip().splitlines()[0]
