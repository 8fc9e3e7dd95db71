"""Turns what tools throw into one line that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from repo_builder.base.errors import RepoBuilderError, StepError
from repo_builder.introspect.runtime import first_line, is_out_of_memory


@contextmanager
def explained(what: str, fix: str, error: type[RepoBuilderError] = StepError) -> Iterator[None]:
    """Raise `error` with `what`, the tool's own reason in one line, and `fix`.

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
        raise error(f"{what}: {first_line(failure).rstrip(' .')}; {fix}") from failure
