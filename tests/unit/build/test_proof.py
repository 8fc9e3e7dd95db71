"""What the report and the gate make of what `verify` found."""

from __future__ import annotations

from typing import Any

from repo_builder.base.artifact import Artifact, Entry
from repo_builder.build import proof


def entry(**facts: Any) -> Entry:
    return Entry("key", {}, Artifact({}), facts, 0.1)


OVERFLOWING = [{"node": "node 'p' (Pow)", "value": 3.3e6}, {"node": "node 'v' (Add)", "value": 1e5}]


def test_nothing_beyond_the_limits() -> None:
    assert proof.failures(entry(broken=[], first=""), None) == []
    ranges = entry(count=2, overflowing=OVERFLOWING)
    assert proof.failures(entry(broken=[], first=""), ranges) == []


def test_all_of_it_in_one_line() -> None:
    found = entry(broken=["output 'y' is wrong", "output 'z' too"], first="node 'p' (Pow)")
    assert proof.failures(found, None) == [
        "output 'y' is wrong; output 'z' too; it begins at node 'p' (Pow)"
    ]


def test_nodes_that_overflow_are_named_with_what_they_reach() -> None:
    (line,) = proof.failures(
        entry(broken=["output 'y' is wrong"], first=""), entry(count=7, overflowing=OVERFLOWING)
    )
    assert line == (
        "output 'y' is wrong; fp16 ends at 65504, but on these rows reach: node 'p' (Pow) 3.3e+06, "
        "node 'v' (Add) 1e+05 and 5 more"
    )
    assert proof.overflow(entry(count=0, overflowing=[])) == ""


def test_figures_of_the_report() -> None:
    one = {
        "name": "y", "max_abs": 1.0, "mean_abs": 0.1, "relative": 0.2, "cosine": 0.99,
        "columns": 0.3, "column": 0.4, "worst": "column 1", "labels": None, "misplaced": 0,
        "shape": "", "left_out": 0,
    }  # fmt: skip
    found = proof.differences(entry(outputs=[one]))
    assert (found["y"].relative, found["y"].columns, found["y"].labels) == (0.2, 0.3, None)
