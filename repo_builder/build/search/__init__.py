"""`optimize: auto`: finds the best variant of a model for a target that keeps the spec's gates.

A search is a loop around plan and store. `candidates` lists what may be tried, each an ordinary
variant; `choose`, which is pure, looks at what was measured and names the next one, or the winner;
`race` builds them, so that one that was built is never built again; `record` keeps what was found,
so that a later build asks the store alone. Candidates are judged on one half of the evaluation's
rows, and the winner is held to the gates on the other half, which chose nothing.
"""

from __future__ import annotations

from repo_builder.build.search.race import Run, Search, Workshop, settle
from repo_builder.build.search.record import Question, recall, settled

__all__ = ["Question", "Run", "Search", "Workshop", "recall", "settle", "settled"]
