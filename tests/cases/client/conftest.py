"""A genuine Triton for the edge and one for the cloud, with the models of models.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import models
import pytest

from repo_builder.serve import Triton


@dataclass
class Pair:
    edge: Triton
    cloud: Triton
    edge_log: Path
    cloud_log: Path


@pytest.fixture(scope="module")
def pair(module_triton, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    edge_log, cloud_log = folder / "edge.log", folder / "cloud.log"
    models.echo(folder / "edge", log=edge_log)
    models.echo(folder / "edge", "slow", wait=5.0, log=edge_log)
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"
    models.echo(folder / "edge", "full", wait=0.3, max_rows=1, extra=queue)
    models.big(folder / "edge")
    models.echo(folder / "cloud", who=1, log=cloud_log)
    return Pair(
        module_triton(folder / "edge", models=["*"]),
        module_triton(folder / "cloud", models=["*"]),
        edge_log,
        cloud_log,
    )
