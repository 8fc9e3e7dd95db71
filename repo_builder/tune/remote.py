"""A Triton elsewhere, which takes the configs of candidates with its loads."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import TracebackType

from repo_builder.base.errors import Problem, ServeError
from repo_builder.spec.candidate import Candidate
from repo_builder.tune.configured import Config, configured, runtime_of
from repo_builder.tune.server import ASK_S, LOAD_S, START_S, Client, Counters, Servable


class Remote:
    """A Triton elsewhere, in explicit mode: the model's config there is overridden by each load.

    At the end of its `with` block the configs that it had are loaded again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client(url)
        self._before: dict[str, Config] = {}
        self._loaded: dict[str, str] = {}
        self._changed: set[str] = set()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for name, config in self._before.items():
            if name in self._changed:
                self._override(name, config)

    def servable(self, name: str) -> Servable:
        """The model `name` as it is served now; ServeError where it is not."""
        told = self._client.ask("get_model_config", name, as_json=True, client_timeout=ASK_S)
        config: Config = told["config"]
        runtime = runtime_of(config)
        self._before.setdefault(name, config)
        return Servable(name, {runtime: config}, {})

    @property
    def url(self) -> str:
        """host:port of its gRPC."""
        return self._url

    @property
    def version(self) -> str:
        """Triton's version."""
        return self._client.version()

    def load(self, model: Servable, candidate: Candidate) -> str:
        """Serve `model` so, if it is not yet; returns its name."""
        candidate = replace(candidate, shared_memory=False)
        if self._loaded.get(model.name) != candidate.label:
            self._loaded[model.name] = "?"
            self._override(model.name, configured(model.configs[candidate.runtime], candidate))
            self._loaded[model.name] = candidate.label
            self._changed.add(model.name)
        return model.name

    def _override(self, name: str, config: Config) -> None:
        try:
            self._client.ask("load_model", name, config=json.dumps(config), client_timeout=LOAD_S)
        except ServeError as failure:
            if "explicit model load" not in failure.message:
                raise
            fix = "start it with --model-control-mode=explicit --load-model=*"
            why = Problem(f"the Triton at {self._url} takes no loads", fix)
            raise ServeError("cannot tune there:", [why]) from None

    def counters(self, name: str) -> Counters:
        """What was counted of `name`."""
        return self._client.counters(name)

    def cpu_seconds(self) -> float | None:
        """Not told by Triton."""
        return None

    def memory_bytes(self, name: str) -> int | None:
        """Not told by Triton."""
        return None

    def lost(self) -> str:
        """Whether Triton answers, and serves what was loaded into it."""
        try:
            for name, label in self._loaded.items():
                if not self._client.ask("is_model_ready", name, client_timeout=ASK_S):
                    return f"'{name}' is not ready any more"
                config = self._client.ask("get_model_config", name, client_timeout=ASK_S).config
                count = sum(group.count for group in config.instance_group)
                if not label.partition("-")[2].startswith(f"{count}x"):
                    return f"'{name}' has lost the config that was loaded: Triton was restarted"
        except ServeError as failure:
            return failure.message
        return ""

    def restore(self) -> None:
        """Wait until Triton answers again; ServeError where it does not."""
        self._loaded = dict.fromkeys(self._loaded, "?")
        end = time.monotonic() + START_S
        while True:
            try:
                self._client.version()
            except ServeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return
