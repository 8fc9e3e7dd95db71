"""Plans of fake steps, and how to run them, for tests of the executor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repo_builder import steps
from repo_builder.base import digest
from repo_builder.base.artifact import Entry
from repo_builder.base.errors import RepoBuilderError
from repo_builder.plan import ArtifactRef, Declaration, Input, Node, Plan, SourceFiles
from repo_builder.run.execute import Outcome, Refuse, execute
from repo_builder.run.processes import StepProcesses
from repo_builder.run.store import Store

DECLARATIONS = {
    "act": Declaration("act", 1),
    "measure": Declaration("measure", 1, exclusive=True),
    "hang": Declaration("hang", 1, limit_s=1.0),
    "foreign": Declaration("foreign", 1, tools=("no-such-distribution",), extra="openvino"),
}


def use_fake_steps() -> None:
    """Let the steps of this process, and so of its workers, be those of `fake_steps`."""
    steps.module = lambda _: "tests.unit.fake_steps.act"  # type: ignore[assignment]


class Graph:
    """A plan that grows step by step."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(self, name: str, step: str = "act", **rest: Any) -> str:
        """Add a step; `a`, `b` are keys of earlier ones, `source` is a file. Returns its key.

        `slow`: see `Node`.
        """
        slow = rest.pop("slow", False)
        inputs: dict[str, Input] = {n: ArtifactRef(rest.pop(n)) for n in ("a", "b") if n in rest}
        if "source" in rest:
            inputs["source"] = rest.pop("source")
        params = {"name": name, **rest}
        named = {n: v.key if isinstance(v, ArtifactRef) else "source" for n, v in inputs.items()}
        recipe = {"step": step, "params": params, "inputs": named}
        key = digest.of_json(recipe)
        self.nodes[key] = Node(key, step, params, inputs, recipe, slow=slow)
        return key

    @property
    def plan(self) -> Plan:
        return Plan(self.nodes, ())


def source(path: Path) -> SourceFiles:
    return SourceFiles({path.name: (path, digest.of_file(path))})


@dataclass
class Seen:
    """Progress that remembers: (what, name) in order, and how many ran at most."""

    events: list[tuple[str, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    def planned(self, plan: Plan) -> None: ...
    def counted(self, steps: int) -> None: ...

    def started(self, node: Node) -> None:
        self.events.append(("started", str(node.params["name"])))
        self.running += 1
        self.most = max(self.most, self.running)

    def finished(self, node: Node, entry: Entry) -> None:
        self.events.append(("finished", str(node.params["name"])))
        self.running -= 1

    def failed(self, node: Node, error: RepoBuilderError) -> None:
        self.events.append(("failed", str(node.params["name"])))
        self.running -= 1

    def names(self, what: str) -> list[str]:
        return [name for event, name in self.events if event == what]


@contextmanager
def running(jobs: int = 2) -> Iterator[StepProcesses]:
    with StepProcesses(jobs) as executor:
        yield executor


def run(
    graph: Graph,
    store: Store,
    executor: StepProcesses,
    *wanted: str,
    jobs: int = 2,
    keep_going: bool = True,
    seen: Seen | None = None,
    refuse: Refuse = lambda _key: None,
) -> Outcome:
    return execute(
        graph.plan,
        wanted or list(graph.nodes),
        store,
        executor,
        DECLARATIONS,
        seen or Seen(),
        jobs=jobs,
        keep_going=keep_going,
        refuse=refuse,
    )


def texts(store: Store, entry: Entry, folder: Path) -> Mapping[str, str]:
    store.fetch(entry, folder)
    return {path.name: path.read_text() for path in folder.iterdir()}
