"""Which results are dropped so that `--measure-again` measures them once more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from repo_builder.base.artifact import Artifact, Entry
from repo_builder.build.prepare import measurements
from repo_builder.run.store import Store


def timed(load: float) -> dict[str, Any]:
    conditions = {"cpu": "x", "cores": 2, "load": load, "throttled": 0.0}
    return {"p50_ms": 1.0, "p95_ms": 2.0, "spread": 0.0, "at": "", "conditions": conditions}


def test_every_model_that_is_timed_and_the_doubtful_pipelines(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key, load in (("quiet", 0.1), ("busy", 0.7)):
        store.add(Entry(key, {}, Artifact({}), timed(load), 0.0), {})

    def pipeline(key: str) -> Any:
        return SimpleNamespace(run="run-pipeline", steps={"run-pipeline": key})

    timed_here = SimpleNamespace(steps={"verify": "v", "profile": "p"})
    not_here = SimpleNamespace(steps={"verify": "w"})
    plan: Any = SimpleNamespace(
        variants=(timed_here, not_here),
        pipelines=(pipeline("quiet"), pipeline("busy"), pipeline("never made")),
    )
    assert measurements(plan, store) == ["p", "busy"]
