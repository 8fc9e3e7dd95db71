"""The models of both sides, as their servers describe them; kept until a server says otherwise.

No I/O: yields effects (see rules/effects.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from repo_builder.client.models.model import Model, version_name
from repo_builder.client.rules.attempts import PreparedRequest, Retrier
from repo_builder.client.rules.effects import Effects
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint, Upstream
from repo_builder.client.transport import wire

_SERVED_FOR_S = 5.0
_Key = tuple[str, str, str]


class Catalog:
    """What is known of models; one per client. Thread-safe: entries are replaced, never changed."""

    def __init__(self, retrier: Retrier, clock: Callable[[], float]) -> None:
        self._retrier = retrier
        self._clock = clock
        self._models: dict[_Key, Model] = {}
        # Triton's number of the version that answered last, and when that was.
        self._served: dict[_Key, tuple[str, float]] = {}

    def known(self, upstream: Upstream, name: str, version: str = "") -> Model | None:
        """The model if it was described already."""
        return self._models.get((upstream.name, name, version))

    def model(
        self, upstream: Upstream, name: str, version: str, deadline: float, patient: bool
    ) -> Effects[Model | Failure]:
        """The model `name` as `upstream` describes it; requested once."""
        model = self._models.get((upstream.name, name, version))
        if model is not None:
            return model
        return (yield from self._describe(upstream, name, version, deadline, patient))

    def refreshed(
        self, upstream: Upstream, name: str, version: str, deadline: float
    ) -> Effects[Model | Failure]:
        """The same, requested anew."""
        return (yield from self._describe(upstream, name, version, deadline, False))

    def confirmed(
        self, upstream: Upstream, model: Model, version: str, served: str, deadline: float
    ) -> Effects[Model]:
        """The description that belongs to the version number `served`, which has just answered.

        A model may be replaced between two calls, and its threshold with it.
        """
        key = (upstream.name, model.name, version)
        before = self._served.get(key, ("", 0.0))[0]
        self._served[key] = (served, self._clock())
        if before == served:
            return model
        first = not before
        if first and model.version in ("", version_name(served)):
            return model
        fresh = yield from self._describe(upstream, model.name, version, deadline, False)
        return model if isinstance(fresh, Failure) else fresh

    def served(self, upstream: Upstream, name: str, version: str) -> str:
        """The number of the version that answers now, or "" if none did lately.

        Who relies on it without a request (the cache) is wrong for a moment at most.
        """
        number, when = self._served.get((upstream.name, name, version), ("", 0.0))
        return number if number and self._clock() - when < _SERVED_FOR_S else ""

    def invalidate(self, upstream: Upstream, name: str, version: str) -> None:
        """The server no longer agrees with what is known."""
        self._models.pop((upstream.name, name, version), None)

    def _describe(
        self, upstream: Upstream, name: str, version: str, deadline: float, patient: bool
    ) -> Effects[Model | Failure]:
        body = wire.config_request(name, version)
        prepared = PreparedRequest("ModelConfig", body, lambda response: response.config)
        config = yield from self._retrier.request(
            upstream,
            name,
            _as_it_is(prepared),
            deadline,
            patient=patient,
            # Once it has answered, it will again: the model is being loaded anew.
            expected=(upstream.name, name, version) in self._served,
        )
        if isinstance(config, Failure):
            if config.kind == "absent":
                alternatives = yield from self._alternatives(upstream, name, deadline)
                details = f"{config.details}; {alternatives}" if alternatives else config.details
                return Failure(config.status, details)
            return config
        model = Model.of_config(config)
        self._models[(upstream.name, name, version)] = model
        return model

    def _alternatives(self, upstream: Upstream, name: str, deadline: float) -> Effects[str]:
        """What the server has instead, for the error's text."""
        body = wire.index_request()
        prepared = PreparedRequest("RepositoryIndex", body, lambda response: response.models)
        models = yield from self._retrier.request(
            upstream, "", _as_it_is(prepared), deadline, patient=False
        )
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


def _as_it_is(prepared: PreparedRequest) -> Callable[[Endpoint, float], Effects[PreparedRequest]]:
    def prepare(_endpoint: Endpoint, _left: float) -> Effects[Any]:
        return prepared
        yield  # a generator that never waits

    return prepare
