"""Turns what tools throw into one line that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from repo_builder.errors import RepoBuilderError, StepError
from repo_builder.introspect.graph import first_line

_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "out of memory")


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


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether an exception, Python's or a C++ runtime's, means lack of memory."""
    text = str(failure).lower()
    return isinstance(failure, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)
