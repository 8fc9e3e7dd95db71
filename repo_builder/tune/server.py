"""What serves candidates, and how it is asked: `local` is a Triton of our own, `remote` another.

Both are asked the same way: `load` a model as a candidate says, `counters` for what Triton counts,
`lost` whether what was loaded is gone, `restore` after that. What only a Triton of our own can tell
or vary is None or refused by the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from repo_builder.base.errors import ServeError
from repo_builder.spec.candidate import Candidate, Runtime
from repo_builder.tune.configured import Config

START_S = 120.0
"""How long Triton may take to start, or to answer again."""

LOAD_S = 600.0
"""How long it may take to load a model."""

ASK_S = 30.0
"""How long any other question may take."""


@dataclass(frozen=True)
class Servable:
    """A model to tune: its config in each runtime it has one for, and the folders of its files.

    A folder is as published: `<version>/` with the model, labels beside it. A Triton elsewhere has
    the files itself: no folders.
    """

    name: str
    configs: Mapping[Runtime, Config]
    folders: Mapping[Runtime, Path]


@dataclass(frozen=True)
class Counters:
    """What Triton has counted of a model since it was loaded.

    `batches` maps rows to (executions, their nanoseconds: input, inference and output).
    """

    rows: int
    executions: int
    queue_ns: int
    batches: Mapping[int, tuple[int, int]]


class Server(Protocol):
    """A Triton that candidates are loaded into."""

    @property
    def url(self) -> str:
        """host:port of its gRPC."""

    @property
    def version(self) -> str:
        """Triton's version."""

    def load(self, model: Servable, candidate: Candidate) -> str:
        """Serve `model` so, if it is not yet; returns the name to ask for.

        ServeError with Triton's reason where it refuses.
        """

    def counters(self, name: str) -> Counters:
        """What was counted of `name`; ServeError where Triton does not answer."""

    def cpu_seconds(self) -> float | None:
        """CPU time of Triton and its processes so far; None where it cannot be told."""

    def memory_bytes(self, name: str) -> int | None:
        """What serving `name` takes."""

    def lost(self) -> str:
        """Why what was loaded is served no more, or ""."""

    def restore(self) -> None:
        """Make it ready to load again after a loss."""


class Client:
    """Triton's own client, with errors that say what was asked."""

    def __init__(self, url: str) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._url = url
        self.api: Any = InferenceServerClient(url)

    def ask(self, what: str, *given: Any, **named: Any) -> Any:
        """Call a method of the client; ServeError with Triton's reason."""
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self.api, what)(*given, **named)
        except InferenceServerException as failure:
            reason = " ".join(str(failure.message()).split())
            raise ServeError(f"the Triton at {self._url}: {reason}") from None

    def counters(self, name: str) -> Counters:
        """What Triton's statistics say of a model's versions together."""
        told = self.ask("get_inference_statistics", name, client_timeout=ASK_S).model_stats
        batches: dict[int, tuple[int, int]] = {}
        for batch in (one for stats in told for one in stats.batch_stats):
            parts = (batch.compute_input.ns, batch.compute_infer.ns, batch.compute_output.ns)
            count, spent = batches.get(batch.batch_size, (0, 0))
            batches[batch.batch_size] = count + batch.compute_infer.count, spent + sum(parts)
        return Counters(
            sum(stats.inference_count for stats in told),
            sum(stats.execution_count for stats in told),
            sum(stats.inference_stats.queue.ns for stats in told),
            batches,
        )

    def version(self) -> str:
        """Triton's version; ServeError where there is none."""
        return str(self.ask("get_server_metadata", client_timeout=ASK_S).version)
