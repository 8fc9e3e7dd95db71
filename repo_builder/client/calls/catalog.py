"""The models of both sides, as their servers describe them; kept until a server says otherwise.

No I/O: yields effects (see rules/effects.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tritonclient.grpc import service_pb2

from repo_builder.client.models.model import Model, version_name
from repo_builder.client.rules.attempts import Asker, Exchange
from repo_builder.client.rules.effects import Steps
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint, Side

_LATELY_S = 5.0
_Key = tuple[str, str, str]


class Catalog:
    """What is known of models; one per client. Thread-safe: entries are replaced, never changed."""

    def __init__(self, asker: Asker, clock: Callable[[], float]) -> None:
        self._asker = asker
        self._clock = clock
        self._models: dict[_Key, Model] = {}
        # Triton's number of the version that answered last, and when that was.
        self._served: dict[_Key, tuple[str, float]] = {}

    def known(self, side: Side, name: str, version: str = "") -> Model | None:
        """The model if it was described already."""
        return self._models.get((side.name, name, version))

    def model(
        self, side: Side, name: str, version: str, deadline: float, patient: bool
    ) -> Steps[Model | Failure]:
        """The model `name` as `side` describes it; asks once."""
        model = self._models.get((side.name, name, version))
        if model is not None:
            return model
        return (yield from self._describe(side, name, version, deadline, patient))

    def refreshed(
        self, side: Side, name: str, version: str, deadline: float
    ) -> Steps[Model | Failure]:
        """The same, asked anew."""
        return (yield from self._describe(side, name, version, deadline, False))

    def confirmed(
        self, side: Side, model: Model, version: str, served: str, deadline: float
    ) -> Steps[Model]:
        """The description that belongs to the version number `served`, which has just answered.

        A model may be replaced between two calls, and its threshold with it.
        """
        key = (side.name, model.name, version)
        before = self._served.get(key, ("", 0.0))[0]
        self._served[key] = (served, self._clock())
        if before == served:
            return model
        first = not before
        if first and model.version in ("", version_name(served)):
            return model
        fresh = yield from self._describe(side, model.name, version, deadline, False)
        return model if isinstance(fresh, Failure) else fresh

    def served(self, side: Side, name: str, version: str) -> str:
        """The number of the version that answers now, or "" if none did lately.

        Who relies on it without asking the server (the cache) is wrong for a moment at most.
        """
        number, when = self._served.get((side.name, name, version), ("", 0.0))
        return number if number and self._clock() - when < _LATELY_S else ""

    def forget(self, side: Side, name: str, version: str) -> None:
        """The server no longer agrees with what is known."""
        self._models.pop((side.name, name, version), None)

    def _describe(
        self, side: Side, name: str, version: str, deadline: float, patient: bool
    ) -> Steps[Model | Failure]:
        body = service_pb2.ModelConfigRequest(name=name, version=version).SerializeToString()
        exchange = Exchange("ModelConfig", body, lambda response: response.config)
        config = yield from self._asker.ask(
            side,
            name,
            _always(exchange),
            deadline,
            patient=patient,
            # Once it has answered, it will again: the model is being loaded anew.
            known=(side.name, name, version) in self._served,
        )
        if isinstance(config, Failure):
            if config.kind == "absent":
                there = yield from self._there(side, name, deadline)
                return Failure(
                    config.status, f"{config.details}; {there}" if there else config.details
                )
            return config
        model = Model.of_config(config)
        self._models[(side.name, name, version)] = model
        return model

    def _there(self, side: Side, name: str, deadline: float) -> Steps[str]:
        """What the server has instead, for the error's text."""
        body = service_pb2.RepositoryIndexRequest().SerializeToString()
        exchange = Exchange("RepositoryIndex", body, lambda response: response.models)
        models = yield from self._asker.ask(side, "", _always(exchange), deadline, patient=False)
        if isinstance(models, Failure):
            return ""
        have: dict[str, list[str]] = {}
        for item in models:
            if item.state == "READY":
                have.setdefault(item.name, []).append(version_name(item.version))
        if name in have:
            return f"it has version {', '.join(have[name])} of '{name}'"
        import difflib  # for an error only

        close = difflib.get_close_matches(name, have, n=1)
        shown = close or sorted(have)[:8]
        return f"it has {', '.join(repr(one) for one in shown)}" if shown else "it has no models"


def _always(exchange: Exchange) -> Callable[[Endpoint, float], Steps[Exchange]]:
    def build(_endpoint: Endpoint, _left: float) -> Steps[Any]:
        return exchange
        yield  # a generator that never waits

    return build
