"""What Triton's statistics count of every model, read over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

KINDS = ("success", "queue", "compute_input", "compute_infer", "compute_output")
"""What times are spent on; `success` is all of a request that went well."""

Counted: TypeAlias = Mapping[tuple[str, str], int]
"""(model, kind) -> nanoseconds since the server's start; of the kind `count`, requests."""


def read(client: Any) -> Counted:
    """The statistics by a client of `tritonclient.grpc`, all versions of a model together."""
    found: dict[tuple[str, str], int] = {}
    for one in client.get_inference_statistics().model_stats:
        stats = one.inference_stats
        counts = {kind: getattr(stats, kind).ns for kind in KINDS}
        for kind, count in {**counts, "count": stats.success.count}.items():
            found[one.name, kind] = found.get((one.name, kind), 0) + count
    return found


def grown(before: Counted, now: Counted) -> dict[tuple[str, str], int]:
    """What was counted between two readings."""
    return {key: count - before.get(key, 0) for key, count in now.items()}
