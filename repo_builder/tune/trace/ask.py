"""Sends requests one after the other, and finds out where each spent its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base.errors import InferError
from repo_builder.serve import statistics
from repo_builder.tune.trace import events
from repo_builder.tune.trace.events import Request, Stage

_WARM = 3
_KINDS = (
    ("queue", "queue"),
    ("copy in", "compute_input"),
    ("compute", "compute_infer"),
    ("copy out", "compute_output"),
)
_WRITTEN_S = 5.0
_MORE = 5
"""Requests at a time that make Triton write what it holds back."""


@dataclass(frozen=True)
class Traced:
    """All requests, and where the times are from: "" Triton's trace, else why it is statistics."""

    model: str
    requests: tuple[Request, ...]
    why_statistics: str

    @property
    def slowest(self) -> Request:
        """The one that took longest."""
        return max(self.requests, key=lambda one: one.total_ms)

    @property
    def median(self) -> Request:
        """The one in the middle."""
        return sorted(self.requests, key=lambda one: one.total_ms)[len(self.requests) // 2]


def traced(url: str, model: str, send: Callable[[], object], requests: int) -> Traced:
    """Send `requests` of them and say where each spent its time; `send` asks `model` once.

    `url` is the server's gRPC address. What was set of tracing is put back. InferError where the
    server does not answer.
    """
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    try:
        with InferenceServerClient(url) as client:
            for _ in range(_WARM):
                send()
            before = _plain(client.get_trace_settings(as_json=True))
            why = _not_reachable(before)
            if why:
                return Traced(model, _by_statistics(client, model, send, requests), why)
            return _by_trace(client, model, send, requests, Path(before["trace_file"]), before)
    except InferenceServerException as failure:
        raise InferError(f"{url}: {failure.message()}") from None


def _not_reachable(settings: Mapping[str, Any]) -> str:
    file = str(settings.get("trace_file", ""))
    if not file:
        return "Triton was started without a trace file, which cannot be set later"
    if not Path(file).parent.is_dir():
        return f"Triton's trace file {file} is not on this machine"
    if settings.get("trace_level") not in ("OFF", ["OFF"]):
        return "somebody else is tracing this Triton"
    return ""


def _by_trace(
    client: Any,
    model: str,
    send: Callable[[], object],
    requests: int,
    file: Path,
    before: Mapping[str, Any],
) -> Traced:
    rate = str(before.get("trace_rate", "1000"))
    on = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1"}
    off = {"trace_level": ["OFF"], "trace_rate": rate}
    sent: list[tuple[int, int]] = []

    def send_traced(count: int) -> None:
        client.update_trace_settings(settings=on)
        try:
            for _ in range(count):
                begun = time.monotonic_ns()
                send()
                sent.append((begun, time.monotonic_ns()))
        finally:
            client.update_trace_settings(settings=off)

    try:
        send_traced(requests)
        seen = _read(file, sent[-1], model, send_traced)
        found = [
            events.request(number, *times, seen, model)
            for number, times in enumerate(sent[:requests], 1)
        ]
    except (OSError, ValueError, LookupError) as failure:
        why = f"Triton's trace {file} does not tell: {failure}"
        return Traced(model, _by_statistics(client, model, send, requests), why)
    return Traced(model, tuple(found), "")


def _read(
    file: Path, last: tuple[int, int], model: str, send_traced: Callable[[int], None]
) -> list[events.Seen]:
    """The trace once it has the last request.

    Triton may hold back the last requests after tracing was switched off, until more are traced.
    """
    end = time.monotonic() + _WRITTEN_S
    while True:
        try:
            seen = events.read(file.read_text(encoding="utf-8"))
            events.request(0, *last, seen, model)
        except (OSError, ValueError, LookupError):
            if time.monotonic() > end:
                raise
            send_traced(_MORE)
        else:
            return seen


def _by_statistics(
    client: Any, model: str, send: Callable[[], object], requests: int
) -> tuple[Request, ...]:
    """What Triton's statistics grew by with each request: lengths, without their places."""
    found = []
    before = statistics.read(client)
    for number in range(1, requests + 1):
        begun = time.monotonic_ns()
        send()
        total = (time.monotonic_ns() - begun) / 1e6
        now = _counted(client, model, before)
        grown = {key: ns / 1e6 for key, ns in statistics.grown(before, now).items()}
        before = now
        inside = grown.get((model, "success"), 0.0)
        stages = [
            Stage(name, said, None, ms)
            for (name, kind), ms in grown.items()
            for said, wanted in _KINDS
            if kind == wanted and ms > 0 and not _is_ensemble(grown, name)
        ]
        network = Stage("", "network and client", None, max(0.0, total - inside))
        found.append(Request(number, total, (network, *stages)))
    return tuple(found)


def _counted(client: Any, model: str, before: statistics.Counted) -> statistics.Counted:
    """The statistics once they have the request, which Triton may count after it has answered."""
    end = time.monotonic() + _WRITTEN_S
    while True:
        now = statistics.read(client)
        if statistics.grown(before, now).get((model, "count")) or time.monotonic() > end:
            return now


def _is_ensemble(grown: Mapping[tuple[str, str], float], name: str) -> bool:
    """An ensemble's own figures are the sums of its steps'; it waits in no queue of its own."""
    others = sum(ms > 0 for (one, kind), ms in grown.items() if kind == "success" and one != name)
    return others > 1 and grown[name, "success"] == max(
        ms for (_, kind), ms in grown.items() if kind == "success"
    )


def _plain(answer: Any) -> dict[str, Any]:
    """gRPC's settings, each a list of values, as name -> the only one."""
    return {
        name: (value.get("value") or [""])[0] for name, value in answer.get("settings", {}).items()
    }
