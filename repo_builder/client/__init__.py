"""The client SDK: one object that asks the device's Triton, and the cloud's when it is unsure.

    with EdgeClient("localhost:8001", cloud="cloud:8001") as client:
        result = client.infer("digits", image)

Needs `tritonclient[grpc]` and numpy; imports nothing else of repo-builder.

Here: what an application touches. edge.py has the clients, options.py what it may set, result.py,
errors.py, metrics.py and sample.py what it gets; load.py drives a client to measure it. Behind
them, from high to low: `calls/` (what a call is made of), `transport/` (gRPC, shared memory) and
`local/` (the disk), `rules/` (decisions without I/O), `models/` (what a model's config says).
Not here: anything that the builder alone needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repo_builder.client.edge import AsyncEdgeClient, EdgeClient
    from repo_builder.client.errors import (
        ClientError,
        Closed,
        DeadlineExceeded,
        InvalidInput,
        ModelNotFound,
        Overloaded,
        ServerFailed,
        Unavailable,
    )
    from repo_builder.client.metrics import Metrics
    from repo_builder.client.models.confidence import Policy
    from repo_builder.client.models.model import Model
    from repo_builder.client.models.tensors import Tensor
    from repo_builder.client.options import (
        Breaker,
        Cache,
        Collector,
        Fallback,
        Limits,
        Retry,
        Servers,
        SharedMemory,
        Tls,
    )
    from repo_builder.client.result import Result
    from repo_builder.client.sample import Sample
    from repo_builder.client.sequence import AsyncSequence, SyncSequence

__all__ = [
    "AsyncEdgeClient",
    "AsyncSequence",
    "Breaker",
    "Cache",
    "ClientError",
    "Closed",
    "Collector",
    "DeadlineExceeded",
    "EdgeClient",
    "Fallback",
    "InvalidInput",
    "Limits",
    "Metrics",
    "Model",
    "ModelNotFound",
    "Overloaded",
    "Policy",
    "Result",
    "Retry",
    "Sample",
    "ServerFailed",
    "Servers",
    "SharedMemory",
    "SyncSequence",
    "Tensor",
    "Tls",
    "Unavailable",
]

_MODULES = (
    "errors",
    "options",
    "result",
    "sample",
    "models.tensors",
    "models.confidence",
    "models.model",
    "edge",
    "metrics",
    "sequence",
)


def __getattr__(name: str) -> Any:
    # On first use, because the builder reads `client.models` and needs no gRPC for it.
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"repo_builder.client.{module}")
            if name in vars(found) and vars(found)[name].__module__ == found.__name__:
                return vars(found)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
