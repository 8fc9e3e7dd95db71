"""Turns what tools throw into one line that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from repo_builder.base.errors import RepoBuilderError, StepError
from repo_builder.introspect.runtime import is_out_of_memory, reason_of


@contextmanager
def explained(
    what: str,
    fix: str,
    error: type[RepoBuilderError] = StepError,
    fixes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """Raise `error` with `what`, the tool's own reason in one line, and `fix`.

    `fixes`: a part of the reason -> what to do then instead.
    Errors of this project pass unchanged; lack of memory is always a `StepError` that says so.
    """
    try:
        yield
    except RepoBuilderError:
        raise
    except Exception as failure:
        if is_out_of_memory(failure):
            raise StepError(
                f"{what}: not enough memory; use fewer --jobs or samples, or a larger machine"
            ) from failure
        reason = reason_of(failure).rstrip(" .")
        better = next((way for part, way in fixes.items() if part in reason), fix)
        raise error(f"{what}: {reason}; {better}") from failure
