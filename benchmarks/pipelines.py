"""Where a pipeline's time goes inside Triton: `python benchmarks/pipelines.py build/cpu`.

Asks the example pipelines with one client and reads Triton's statistics of the ensemble and of
each of its steps: ms computing, waiting in queues, and copying in and out, for one request.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from repo_builder import serve
from repo_builder.base import console

REQUESTS = 200
SPECS = Path(__file__).parents[1] / "model_specs"
PIPELINES = {"read-digit": "digits/sample.png", "find-shapes": "shapes/sample.png"}


def times(client: InferenceServerClient) -> dict[str, dict[str, int]]:
    """Model -> nanoseconds so far, by what they were spent on."""
    found = {}
    for model in client.get_inference_statistics().model_stats:
        stats = model.inference_stats
        found[model.name] = {
            "total": stats.success.ns,
            "queue": stats.queue.ns,
            "copy": stats.compute_input.ns + stats.compute_output.ns,
            "compute": stats.compute_infer.ns,
        }
    return found


def main() -> None:
    rows = []
    with (
        serve.Triton(sys.argv[1], timeout_s=120) as server,
        InferenceServerClient(server.grpc_url) as client,
    ):
        for name, sample in PIPELINES.items():
            tensor = InferInput("file", [1, 1], "BYTES")
            tensor.set_data_from_numpy(
                np.array([[(SPECS / sample).read_bytes()]], dtype=np.object_)
            )
            for _ in range(20):
                client.infer(name, [tensor])
            before = times(client)
            for _ in range(REQUESTS):
                client.infer(name, [tensor])
            for model, now in times(client).items():
                spent = {kind: now[kind] - before[model][kind] for kind in now}
                if spent["total"]:
                    figures = (spent[kind] / REQUESTS / 1e6 for kind in spent)
                    rows.append((name, model, *(f"{ms:.3f}" for ms in figures)))
    header = ("pipeline", "model, ms", "total", "queue", "copy", "compute")
    console.out(console.table(header, rows, right=(2, 3, 4, 5)))


if __name__ == "__main__":
    main()
