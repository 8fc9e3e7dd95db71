"""Budgets of pipelines under load: a genuine Triton, asked at the rate that the spec names.

Requests begin at random (Poisson) whatever the server does, and a latency runs from when a request
was due. `total` is the 99th percentile of all requests, with the spec's `capture_ms` and
`transfer_ms`; a stage is Triton's own mean of its steps, `queue` what requests waited before them.
Figures are remembered by what is served, the rate and the machine.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import digest, machine
from repo_builder.base.digest import Json
from repo_builder.base.errors import MissingExtra, RepoBuilderError
from repo_builder.plan import PipelineVariant
from repo_builder.repository.publish import Model, publish
from repo_builder.run.store import Store

_FORMAT = 1
_REQUESTS = 500
_LEAST_S, _MOST_S = 3.0, 30.0
_TIMEOUT_S = 10.0
_REST_S = 0.3
"""How long to look at the machine before and after, while nobody asks."""
_LATE = 0.01
"""The share of requests that the client may begin late; more, and it is the client that is slow."""


@dataclass(frozen=True)
class Seen:
    """What was measured, in ms by `total` and stage, {} where nothing was; why not to trust it."""

    ms: Mapping[str, float]
    doubt: str


def seen(
    variant: PipelineVariant, models: Sequence[Model], rate: float, store: Store, *, again: bool
) -> Seen:
    """Measure a pipeline, or recall it; `again`: whatever is remembered.

    `models` are all that Triton needs: the ensemble, its steps and the models in it.
    """
    asked: list[Json] = [
        _FORMAT,
        [machine.cpu_name(), machine.cores_allowed()],
        rate,
        variant.spec.id,
        {model.name: {file: sha for file, (sha, _) in model.files().items()} for model in models},
        [variant.spec.capture_ms, variant.spec.transfer_ms],
    ]
    path = store.root / "loads" / f"{digest.of_json(asked)}.json"
    known = None if again else store.read_json(path)
    if known is not None:
        return Seen(**known)
    try:
        found = _measured(variant, models, rate, store)
    except MissingExtra as missing:
        return Seen({}, str(missing))
    except RepoBuilderError as failure:
        return Seen({}, f"Triton cannot serve it: {' '.join(str(failure).split())}")
    store.write_json(path, asdict(found))
    return found


def _measured(variant: PipelineVariant, models: Sequence[Model], rate: float, store: Store) -> Seen:
    from tritonclient.grpc import InferenceServerClient

    from repo_builder import serve
    from repo_builder.serve import statistics

    spec = variant.spec
    with tempfile.TemporaryDirectory(prefix="repo-builder-load-") as folder:
        out = Path(folder)
        publish(out, spec.target, models, lambda _: False, store.fetch, lambda _: None)
        with (
            serve.Triton(out / spec.target, timeout_s=120) as server,
            InferenceServerClient(server.grpc_url) as client,
        ):
            inputs = {name: _sample(path) for name, path in spec.sample.items()}
            asyncio.run(_asked(server.grpc_url, spec.name, inputs, rate, _LEAST_S / 3))  # warm
            quiet = machine.quiet_for(_REST_S)
            before, watch = statistics.read(client), machine.Watch()
            load = asyncio.run(_asked(server.grpc_url, spec.name, inputs, rate, _seconds(rate)))
            throttled = watch.conditions().throttled
            grown = statistics.grown(before, statistics.read(client))
            after = machine.quiet_for(_REST_S)
    others = max((one.load for one in (quiet, after) if one.load is not None), default=None)
    doubts = [machine.doubt(others, throttled, 0.0)]
    sent = len(load.latencies) + sum(load.errors.values())
    if failed := sum(load.errors.values()):
        kinds = ", ".join(f"{name} {count}" for name, count in load.errors.most_common())
        doubts.append(f"{failed} of {sent} requests failed ({kinds})")
    if load.late_starts > _LATE * sent:
        doubts.append(f"the client cannot send {rate:g} requests a second: it is the limit")
    given = spec.capture_ms + spec.transfer_ms
    ms = {"total": 1e3 * load.percentile(99) + given, **_stages(variant, grown)}
    return Seen(ms if load.latencies else {}, " and ".join(filter(None, doubts)))


def _seconds(rate: float) -> float:
    """So long that the 99th percentile has requests beyond it, as far as that is bearable."""
    return min(max(_REQUESTS / rate, _LEAST_S), _MOST_S)


async def _asked(
    url: str, model: str, inputs: Mapping[str, Any], rate: float, seconds: float
) -> Any:
    from repo_builder.client import AsyncEdgeClient, Limits, load

    # The load is to reach the server: the client's own queue must not shed or delay it.
    limits = Limits(concurrency=1_000_000, queue=0)
    async with AsyncEdgeClient(url, limits=limits) as client:
        await client.infer(model, inputs, timeout=_TIMEOUT_S)
        ask = load.asking(client, model, [inputs], _TIMEOUT_S)
        return await load.open_loop(ask, rate=rate, seconds=seconds)


def _stages(variant: PipelineVariant, grown: Mapping[tuple[str, str], int]) -> dict[str, float]:
    """Milliseconds of one request by stage: what Triton counted, over the requests of the whole."""
    from repo_builder.build.assemble_pipeline import stage_of

    spec = variant.spec
    requests = max(1, grown.get((spec.name, "count"), 0))
    spent = {"queue": 0.0, "preprocess": 0.0, "infer": 0.0, "postprocess": 0.0}
    parts = {stage.of if stage.kind == "model" else spec.part(name): stage_of(stage.kind)
             for name, stage in spec.stages.items()}  # fmt: skip
    for model, stage in parts.items():
        for kind in ("queue", "compute_input", "compute_infer", "compute_output"):
            ms = grown.get((model, kind), 0) / requests / 1e6
            spent["queue" if kind == "queue" else stage] += ms
    return spent


def _sample(path: Path) -> Any:
    from repo_builder.steps.run_pipeline import sample

    return sample(path)
