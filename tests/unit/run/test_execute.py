"""Executing: real workers run real steps, which fail in every way that steps fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from repo_builder import steps
from repo_builder.base.errors import DataError, MissingExtra, StepError, StoreError
from repo_builder.run.processes import StepProcesses, WorkerDied
from repo_builder.run.store import CorruptEntry, Store
from tests import disks
from tests.unit import fake_plan
from tests.unit.fake_plan import Graph, Seen

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def executor() -> Iterator[StepProcesses]:
    """Two workers, kept for all tests here: whatever a step does, the next one runs."""
    with StepProcesses(2) as processes:
        yield processes


@pytest.fixture(autouse=True)
def fake_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "module", lambda _: "tests.unit.fake_steps.act")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_results_flow_from_step_to_step_and_into_the_store(
    executor: StepProcesses, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "source.txt").write_text("s")
    graph, seen = Graph(), Seen()
    one = graph.add("1", source=fake_plan.source(tmp_path / "source.txt"))
    two = graph.add("2", a=one, outputs={"more": "x"})
    three = graph.add("3", a=one, b=two)
    outcome = fake_plan.run(graph, store, executor, three, seen=seen)
    assert outcome.ran == {one, two, three}
    assert outcome.errors == {}
    assert outcome.entries[three].facts["inputs"] == {
        "a/result": "1s",
        "b/more": "x",
        "b/result": "21s",
    }
    assert outcome.entries[three].recipe == graph.nodes[three].recipe
    assert seen.events[0] == ("started", "1")
    assert seen.names("finished") == ["1", "2", "3"]

    again = fake_plan.run(graph, store, executor, three)
    assert again.ran == set()
    assert again.entries == {three: outcome.entries[three]}  # its inputs are not even looked at


def test_only_what_is_lacking_runs(executor: StepProcesses, store: Store) -> None:
    graph = Graph()
    one = graph.add("1")
    two = graph.add("2", a=one)
    three = graph.add("3", a=two)
    fake_plan.run(graph, store, executor)
    store.drop(one)
    store.drop(three)
    assert fake_plan.run(graph, store, executor, three).ran == {three}
    store.drop(two)
    store.drop(three)
    assert fake_plan.run(graph, store, executor, three).ran == {one, two, three}


def test_at_most_so_many_jobs_are_started(executor: StepProcesses, store: Store) -> None:
    graph = Graph()
    for n in range(6):
        graph.add(str(n))
    seen = Seen()
    fake_plan.run(graph, store, executor, jobs=1, seen=seen)
    assert seen.most == 1
    graph = Graph()
    for n in range(6):
        graph.add(f"again {n}", seconds=0.01)
    fake_plan.run(graph, store, executor, jobs=2, seen=seen)
    assert seen.most == 2


@pytest.mark.parametrize(
    ("do", "kind", "said"),
    [
        ("segfault", StepError, "act crashed (Segmentation fault); log: "),
        ("abort", StepError, "act crashed (Aborted); log: "),
        ("killed", StepError, "act was killed, most likely for lack of memory; log: "),
        ("leave", StepError, "act ended its process (exit code 0); log: "),
        ("bug", StepError, "act failed: ValueError: two lines; log: "),
        ("unsendable", StepError, "act failed: Local: cannot be pickled; log: "),
        ("exhaust", StepError, "act ran out of memory; use fewer --jobs or smaller data; log: "),
        ("full", StoreError, "No space left on device; free some space, or name another"),
    ],
)
def test_a_step_that_fails_is_one_line_and_the_rest_goes_on(
    executor: StepProcesses, store: Store, do: str, kind: type[StepError], said: str
) -> None:
    graph, seen = Graph(), Seen()
    bad = graph.add("bad", do=do)
    child = graph.add("child", a=bad)
    grandchild = graph.add("grandchild", a=child)
    good = graph.add("good")
    outcome = fake_plan.run(graph, store, executor, grandchild, good, seen=seen)
    assert set(outcome.errors) == {bad, child, grandchild}
    error = outcome.errors[bad]
    assert type(error) is kind
    assert said in str(error)
    assert "\n" not in str(error)
    assert outcome.errors[grandchild] is error
    assert set(outcome.entries) == {good}
    assert seen.names("failed") == ["bad"]
    assert store.get(bad) is None
    assert list((store.root / "tmp").iterdir()) == [] or do in {
        "segfault", "abort", "killed", "leave",
    }  # fmt: skip


@pytest.mark.parametrize("do", ["native_hang", "tool"])
def test_a_step_that_hangs_is_stopped_and_the_log_says_where(
    executor: StepProcesses, store: Store, do: str
) -> None:
    graph = Graph()
    bad = graph.add("bad", step="hang", do=do)
    child = graph.add("child", a=bad)
    good = graph.add("good", step="hang", seconds=0.1)
    later = graph.add("later", a=good, seconds=1.5)
    outcome = fake_plan.run(graph, store, executor, child, later)
    assert set(outcome.entries) == {good, later}
    log = store.log(bad)
    assert (
        str(outcome.errors[bad]) == f"hang was still running after 1 s and was stopped; "
        f"give smaller `sizes` in the spec, or a smaller model; log: {log}"
    )
    assert f"in {do}" in log.read_text()


def test_a_users_mistake_is_told_in_the_users_words(
    executor: StepProcesses, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "source.txt").write_text("s")
    graph = Graph()
    bad = graph.add("bad", do="mistake", source=fake_plan.source(tmp_path / "source.txt"))
    error = fake_plan.run(graph, store, executor).errors[bad]
    assert type(error) is DataError
    assert str(error) == f"{tmp_path}/source.txt: holds NaN; remove it"


def test_a_tool_that_is_not_installed_names_its_extra(
    executor: StepProcesses, store: Store
) -> None:
    graph = Graph()
    key = graph.add("x", step="foreign")
    error = fake_plan.run(graph, store, executor).errors[key]
    assert type(error) is MissingExtra
    assert str(error).startswith("the step foreign needs an extra: pip install ")
    assert str(error).endswith("[openvino]'")


def test_what_is_refused_once_its_inputs_are_there_never_runs(
    executor: StepProcesses, store: Store
) -> None:
    graph, seen = Graph(), Seen()
    one = graph.add("1")
    two = graph.add("2", a=one)
    three, other = graph.add("3", a=two), graph.add("other", a=one)

    def refuse(key: str) -> DataError | None:
        return DataError("no") if key == two and store.get(one) else None

    outcome = fake_plan.run(graph, store, executor, seen=seen, refuse=refuse)
    assert outcome.ran == {one, other}
    assert {key: str(error) for key, error in outcome.errors.items()} == {two: "no", three: "no"}
    assert "2" not in seen.names("started")
    assert seen.names("failed") == ["2"]


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_source_that_changes_during_a_build_is_told(
    executor: StepProcesses, store: Store, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "source.txt"
    path.write_text("s")
    graph = Graph()
    key = graph.add("1", source=fake_plan.source(path))
    if change == "gone":
        path.unlink()
    else:
        path.write_text("t")
    error = fake_plan.run(graph, store, executor).errors[key]
    said = "No such file" if change == "gone" else "changed while it was being built; build again"
    assert said in str(error)
    assert str(error).startswith(str(path))


def test_all_that_a_step_prints_is_in_its_log(
    executor: StepProcesses, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = Graph()
    noise, bug = graph.add("noise", do="noise"), graph.add("bug", do="bug")
    fake_plan.run(graph, store, executor)
    assert sorted(store.log(noise).read_text().splitlines()) == [
        "native says",
        "native warns",
        "python says",
        "tool says",
    ]
    log = store.log(bug).read_text()
    assert "said before the bug" in log
    assert "Traceback" in log
    assert capfd.readouterr() == ("", "")


def test_fail_fast_starts_nothing_more(executor: StepProcesses, store: Store) -> None:
    graph, seen = Graph(), Seen()
    bad = graph.add("bad", do="mistake")
    others = [graph.add(str(n)) for n in range(8)]
    outcome = fake_plan.run(graph, store, executor, jobs=1, keep_going=False, seen=seen)
    assert seen.names("started") == ["bad"]
    assert set(outcome.errors) == {bad}
    assert not set(outcome.entries) & set(others)


def test_a_step_that_measures_runs_alone_and_last(
    executor: StepProcesses, store: Store, tmp_path: Path
) -> None:
    journal = str(tmp_path / "journal")
    graph = Graph()
    for n in range(2):
        made = graph.add(f"make{n}", journal=journal)
        graph.add(f"measure{n}", step="measure", a=made, journal=journal)
        graph.add(f"more{n}", a=made, journal=journal, seconds=0.02)
    outcome = fake_plan.run(graph, store, executor)
    assert not outcome.errors
    lines = [line.split()[:2] for line in (tmp_path / "journal").read_text().splitlines()]
    at = {(what, name): i for i, (what, name) in enumerate(lines)}
    for n in range(2):
        assert at["end", f"measure{n}"] == at["begin", f"measure{n}"] + 1
        for other in ("make0", "make1", "more0", "more1"):
            assert at["end", other] < at["begin", f"measure{n}"]


def test_what_leads_to_a_slow_step_starts_first(executor: StepProcesses, store: Store) -> None:
    graph, seen = Graph(), Seen()
    for n in range(3):
        graph.add(f"quick{n}", a=graph.add(f"before{n}"))
    graph.add("simulate", a=graph.add("compile", a=graph.add("import")), slow=True)
    graph.add("last")
    fake_plan.run(graph, store, executor, seen=seen, jobs=1)
    assert seen.names("started") == [
        *("import", "compile", "simulate"),
        *("before0", "quick0", "before1", "quick1", "before2", "quick2", "last"),
    ]


def test_what_waits_for_a_measurement_is_not_forgotten(
    executor: StepProcesses, store: Store
) -> None:
    graph = Graph()
    measured = graph.add("measured", step="measure")
    after = graph.add("after", a=measured)
    assert fake_plan.run(graph, store, executor, after).ran == {measured, after}


def damage(store: Store, key: str) -> None:
    entry = store.get(key)
    assert entry is not None
    sha256 = entry.artifact.files["result"].sha256
    path = store.root / "blobs" / sha256[:2] / sha256
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_a_damaged_input_is_made_again_once_for_all_that_need_it(
    executor: StepProcesses, store: Store
) -> None:
    graph = Graph()
    first = graph.add("first")
    second = graph.add("second", a=first)
    users = [graph.add(f"user{n}", a=second) for n in range(4)]
    fake_plan.run(graph, store, executor, second)
    damage(store, first)
    damage(store, second)
    seen = Seen()
    outcome = fake_plan.run(graph, store, executor, *users, seen=seen)
    assert not outcome.errors
    assert outcome.ran == {first, second, *users}
    assert seen.names("finished").count("second") == 1
    assert outcome.entries[users[0]].facts["inputs"] == {"a/result": "secondfirst"}
    assert store.verify() == []
    assert fake_plan.run(graph, store, executor, *users).ran == set()


def test_an_input_that_is_damaged_whenever_it_is_made_is_told(
    executor: StepProcesses, store: Store
) -> None:
    graph = Graph()
    first = graph.add("first")
    user = graph.add("user", a=first)

    class Damaging(Seen):
        def finished(self, node, entry) -> None:  # type: ignore[no-untyped-def]
            damage(store, entry.key)

    outcome = fake_plan.run(graph, store, executor, user, seen=Damaging())
    assert type(outcome.errors[user]) is CorruptEntry
    assert "is damaged (result); check the disk" in str(outcome.errors[user])


def test_a_full_disk_fails_the_step_with_one_line_and_nothing_is_lost(
    executor: StepProcesses, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    with disks.small(tmp_path / "disk", 512, unavailable) as disk:
        store = Store(disk / "store")
        graph = Graph()
        good = graph.add("good")
        fill = graph.add("fill", a=good, do="fill")
        outcome = fake_plan.run(graph, store, executor)
        assert set(outcome.errors) == {fill}
        assert type(outcome.errors[fill]) is StoreError
        assert "No space left on device; free some space" in str(outcome.errors[fill])
        again = graph.add("again", a=good)
        assert fake_plan.run(graph, store, executor, again).ran == {again}
        filler = disks.fill(disk)
        late = graph.add("late", a=again, do="noise")
        outcome = fake_plan.run(graph, store, executor, late)
        assert type(outcome.errors[late]) is StoreError
        filler.unlink()
        assert fake_plan.run(graph, store, executor, late).ran == {late}


def test_a_worker_is_kept_and_a_dead_one_replaced() -> None:
    with StepProcesses(1) as executor:
        first = executor.submit(os.getpid).result()
        assert executor.submit(os.getpid).result() == first
        with pytest.raises(WorkerDied, match="crashed") as caught:
            executor.submit(os.abort).result()
        assert caught.value.exitcode == -signal.SIGABRT
        assert executor.submit(os.getpid).result() != first
        os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)  # while it is idle
        with pytest.raises(WorkerDied, match="killed"):
            executor.submit(os.getpid).result()
        last = executor.submit(os.getpid).result()
    assert gone(last)


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from repo_builder.base import ending
    from repo_builder.run.store import Store
    from tests.unit import fake_plan
    if __name__ == "__main__":
        if "signals" in sys.argv:
            ending.on_signals()
        fake_plan.use_fake_steps()
        folder = Path(sys.argv[1])
        graph = fake_plan.Graph()
        first = graph.add("first", journal=str(folder / "journal"))
        for n in range(2):
            graph.add(f"long{n}", a=first, do=sys.argv[2], journal=str(folder / "journal"))
        store = Store(folder / "store")
        with store.in_use(), fake_plan.running() as executor:
            fake_plan.run(graph, store, executor)
    """
)


class Build:
    """A build in a process of its own, with two steps that take long."""

    def __init__(self, folder: Path, do: str = "tool", *, ends_on_signals: bool = False) -> None:
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "script.py"), str(folder), do]
            + ["signals"] * ends_on_signals,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def journal(self) -> list[list[str]]:
        path = self.folder / "journal"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def is_busy(self) -> bool:
        return len([line for line in self.journal() if line[1].startswith("long")]) == 2

    def family(self) -> list[int]:
        """The workers and the tools that they run."""
        workers = {int(line[2]) for line in self.journal()}
        tools = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and group(path) in workers
        ]
        return sorted(workers | set(tools))


def group(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_build_that_is_stopped_leaves_no_process_and_can_go_on(
    tmp_path: Path, executor: StepProcesses, signalled: signal.Signals
) -> None:
    build = Build(tmp_path)
    until(build.is_busy)
    until(lambda: len(build.family()) >= 4)
    family = build.family()
    begun = time.monotonic()
    build.process.send_signal(signalled)
    build.process.wait(10)
    until(lambda: all(gone(pid) for pid in family))
    assert time.monotonic() - begun < 2
    assert build.process.returncode == (1 if signalled == signal.SIGINT else -signalled) or (
        signalled == signal.SIGINT and build.process.returncode == -signal.SIGINT
    )

    store = Store(tmp_path / "store")
    graph = Graph()
    graph.add("first", journal=str(tmp_path / "journal"))
    with store.in_use():
        assert not (store.root / "tmp").exists()
        assert fake_plan.run(graph, store, executor).ran == set()
    assert store.verify() == []


@pytest.mark.parametrize("apart_s", [0, 0.0005, 0.002, 0.005, 0.01, 0.02])
def test_a_second_signal_does_not_break_off_what_the_first_began(
    tmp_path: Path, apart_s: float
) -> None:
    build = Build(tmp_path, ends_on_signals=True)
    until(lambda: build.is_busy() and len(build.family()) >= 4)
    family = build.family()
    build.process.terminate()
    time.sleep(apart_s)
    build.process.terminate()
    build.process.wait(8)
    until(lambda: all(gone(pid) for pid in family))


def test_two_builds_at_once_share_a_store(tmp_path: Path) -> None:
    builds = [Build(tmp_path, do="noise") for _ in range(2)]
    for build in builds:
        _, errors = build.process.communicate(timeout=60)
        assert build.process.returncode == 0, errors
    store = Store(tmp_path / "store")
    assert store.usage().entries == 3
    assert store.verify() == []
