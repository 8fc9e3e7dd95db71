"""The samples of a spec's `model_warmup`, as the step that runs them takes them. Pure."""

from __future__ import annotations

from typing import Any

from repo_builder.base.digest import Json
from repo_builder.spec.types import Spec


def samples(spec: Spec) -> list[Json]:
    """Name, rows and inputs of each sample that Triton runs: it skips those without a batch_size.

    Those that say too little to be run are left to lint, which refuses them before Triton does.
    """
    brought: Any = spec.serving.config.get("model_warmup") or ()
    return [
        {
            "name": sample.get("name", ""),
            "rows": sample["batch_size"],
            "inputs": {
                name: {
                    "data_type": given.get("data_type", ""),
                    "dims": list(given.get("dims", ())),
                    "random": bool(given.get("random_data")),
                }
                for name, given in sample.get("inputs", {}).items()
            },
        }
        for sample in brought
        if sample.get("batch_size") and all(map(_complete, sample.get("inputs", {}).values()))
    ]


def _complete(given: Any) -> bool:
    return bool(
        given.get("data_type")
        and (given.get("zero_data") or given.get("random_data"))
        and all(size >= 0 for size in given.get("dims", ()))
    )
