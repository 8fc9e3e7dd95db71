"""One call in a process of its own: a model may crash the runtime that runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from repo_builder.base.errors import ModelError, RepoBuilderError
from repo_builder.run.processes import StepProcesses, WorkerDied

T = TypeVar("T")


def call(model: Path, function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns, which runs `model`.

    ModelError, in one line, where the process dies or the runtime fails; errors of our own come as
    they are.
    """
    from repo_builder.introspect.runtime import reason_of

    with StepProcesses(1) as processes:
        try:
            answer: T = processes.submit(function, *arguments).result()
        except RepoBuilderError:
            raise
        except WorkerDied as failure:
            raise ModelError(f"{model}: running it {failure}") from None
        except Exception as failure:  # noqa: BLE001 - the runtime's own, told as one line
            raise ModelError(f"{model}: running it failed: {reason_of(failure)}") from None
    return answer
