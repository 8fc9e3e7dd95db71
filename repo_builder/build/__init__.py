"""The main job: spec files in; verified models, Triton repositories and a report out.

`build` is the face. The path is `main_path`, on one screen: `prepare` makes the plan, `publish`
arranges what came out, `assemble` and `assemble_pipeline` turn one variant's results into a row and
a model, `gates` holds them against the spec's limits, `under_load` measures those that hold at a
rate, `report/` says it. `unchanged` sees that there is nothing to do before any of it is loaded;
`preview` is what `plan` prints. Which step does what belongs to `plan/` and `steps/`, how steps run
to `run/`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from repo_builder.build import unchanged
from repo_builder.build.report import Report
from repo_builder.build.request import Request
from repo_builder.run.store import Store

if TYPE_CHECKING:
    from repo_builder.run.execute import Progress

__all__ = ["Report", "Request", "build"]


def build(request: Request, progress: Progress) -> Report:
    """Build what `request` names, publish what is good, and report on all of it.

    Raises SpecError before anything runs; what fails later is a row of the report.
    """
    begun = time.monotonic()
    store = Store(request.store)
    with store.in_use():
        same = None if request.measure_again else unchanged.recall(request, store)
        if same is not None:
            return replace(same, seconds=round(time.monotonic() - begun, 3))
        from repo_builder.build import main_path

        return main_path.build(request, store, progress)
