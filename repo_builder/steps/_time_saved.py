"""How much of a net's time another one saves, in the runtime that will serve it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from repo_builder.base import machine
from repo_builder.nets import export, rows
from repo_builder.nets.types import Net
from repo_builder.steps import _onnx, _runtimes, _turns
from repo_builder.steps._failures import explained

Runtime = Literal["onnxruntime", "openvino"]

SECONDS = 0.5
"""Of runs of each net; ratios of turns differ by a percent or two then."""


@dataclass(frozen=True)
class Saving:
    """A net in fp32 and batch 1 beside the dense one: ms of both, and the share of time saved.

    `doubt` says why the times as such are not to be trusted; the share comes from turns, which
    whatever else the machine does hits alike. `at` is when it was, in UTC, on `cpu`.
    """

    dense_ms: float
    pruned_ms: float
    saved: float
    doubt: str
    cpu: str
    at: str


class Stopwatch:
    """Times nets beside the dense one, of which `net` tells inputs and outputs; writes below
    `folder`. `threads` as in `verify`.
    """

    def __init__(
        self, dense: Any, net: Net, code: Path, runtime: Runtime, threads: int, folder: Path
    ) -> None:
        self._net = net
        self._code = code
        self._runtime = runtime
        self._options = _runtimes.Options(threads, spin=True)
        self._folder = folder
        self._count = 0
        self._feed = rows.arrays(net, 1, seed=0)
        self._dense = self._loaded(dense)
        self.savings: list[Saving] = []

    def saved(self, pruned: Any) -> float:
        """The share (0..1) of the dense net's time that `pruned` saves; below 0: it is slower."""
        runner = self._loaded(pruned)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        watch = machine.Watch()
        ours, dense = _turns.take([runner, self._dense], self._feed, SECONDS)
        conditions = watch.conditions()
        beside = _turns.beside(ours, dense)
        medians = [float(np.median(block)) for block in ours]
        doubt = machine.doubt(conditions.load, conditions.throttled, machine.spread(medians))
        pruned_ms = 1e3 * float(np.median(medians))
        saved = 1 - 1 / beside.faster
        self.savings.append(Saving(beside.p50_ms, pruned_ms, saved, doubt, conditions.cpu, at))
        return saved

    def _loaded(self, module: Any) -> _runtimes.Runner:
        folder = self._folder / str(self._count)
        folder.mkdir(parents=True)
        self._count += 1
        _onnx.save(export.export(module, self._net, self._code), folder)
        if self._runtime == "openvino":
            import openvino as ov

            with explained("OpenVINO cannot convert the model", "use target `cpu`"):
                ov.save_model(ov.convert_model(folder / _onnx.MODEL), folder / "model.xml")
        return _runtimes.load(folder, self._runtime, self._options)
