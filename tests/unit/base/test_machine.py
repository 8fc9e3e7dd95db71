"""What is said of the machine comes from files of the system, here from made-up ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repo_builder.base import machine
from repo_builder.base.machine import Watch, doubt

CORES = sorted(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("field", "load"),
    [(0, 1.0), (7, 1.0), (3, 0.0), (4, 0.0)],
    ids=["user", "steal", "idle", "waiting for a disk"],
)
def test_what_others_use_is_what_was_busy_less_our_own(
    tmp_path: Path, field: int, load: float
) -> None:
    def at(seconds: float) -> dict[str, str]:
        busy = "cpu0 500 0 0 0 0 0 0 0 0 0".split()
        busy[0], busy[1 + field] = f"cpu{CORES[0]}", str(round(500 + seconds * TICKS))
        return {"proc/stat": " ".join(busy) + "\n"}

    watch = Watch(system(tmp_path, at(0)))
    system(tmp_path, at(1e6))
    assert watch.conditions().load == load


def test_cores_that_we_may_not_use_do_not_disturb_us(tmp_path: Path) -> None:
    ours, others = (f"cpu{n} {{}} 0 0 0 0 0 0 0 0 0\n" for n in (CORES[0], max(CORES) + 1))
    watch = Watch(system(tmp_path, {"proc/stat": ours.format(5) + others.format(5)}))
    system(tmp_path, {"proc/stat": ours.format(5) + others.format(10**9)})
    assert watch.conditions().load == 0.0


def test_processes_that_work_for_us_are_no_others(tmp_path: Path) -> None:
    text = f"cpu{CORES[0]} {{}} 0 0 0 0 0 0 0 0 0\n"
    worked = iter([1.0, 1.0 + 1e6])
    watch = Watch(system(tmp_path, {"proc/stat": text.format(5)}), lambda: next(worked))
    system(tmp_path, {"proc/stat": text.format(5 + round(1e6 * TICKS))})
    assert watch.conditions().load == 0.0


def test_a_system_that_says_nothing_is_not_called_quiet(tmp_path: Path) -> None:
    found = Watch(tmp_path).conditions()
    assert (found.load, found.throttled) == (None, 0.0)
    assert found.cores == len(CORES)
    assert found.cpu


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sys/fs/cgroup/cpu.stat", "usage_usec 5\nthrottled_usec {}000\n"),
        ("sys/fs/cgroup/jobs/ci/cpu.stat", "throttled_usec {}000\n"),
        ("sys/fs/cgroup/cpu/cpu.stat", "nr_throttled 7\nthrottled_time {}000000\n"),
    ],
)
def test_a_quota_that_holds_us_up_is_seen(tmp_path: Path, file: str, text: str) -> None:
    group = {"proc/self/cgroup": "4:memory:/x\n0::/jobs/ci\n"}
    watch = Watch(system(tmp_path, {**group, file: text.format(1)}))
    system(tmp_path, {file: text.format(10**9)})
    assert watch.conditions().throttled == 1.0


def test_a_quota_leaves_fewer_cores(tmp_path: Path) -> None:
    assert machine.cores_allowed(system(tmp_path, {"sys/fs/cgroup/cpu.max": "150000 100000"})) == 1
    assert machine.cores_allowed(system(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000"})) == len(
        CORES
    )


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("vendor_id\t: X\nmodel name\t: AMD   EPYC 7763\nmodel name\t: AMD EPYC 7763\n",
         "AMD EPYC 7763"),
        ("BogoMIPS: 108\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
         "Raspberry Pi 5 Model B Rev 1.0"),
        ("model name\t:\n", os.uname().machine),
    ],
)  # fmt: skip
def test_the_processor_by_its_name(tmp_path: Path, cpuinfo: str, name: str) -> None:
    assert machine.cpu_name(system(tmp_path, {"proc/cpuinfo": cpuinfo})) == name


def test_the_spread_of_repeated_medians() -> None:
    assert machine.spread([]) == machine.spread([3.0]) == 0.0
    assert machine.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert machine.spread([2.0] * 9 + [50.0]) == 0.0, "one hiccup is no spread"


def test_others_are_seen_while_we_sleep(tmp_path: Path) -> None:
    assert machine.quiet_for(0.001, tmp_path).load is None
    load = machine.quiet_for(0.001).load
    assert load is None or 0 <= load <= 1


@pytest.mark.parametrize(
    ("load", "throttled", "spread", "said"),
    [
        (0.1, 0.0, 0.1, ""),
        (None, 0.0, 0.0, ""),
        (0.5, 0.0, 0.1, "others used 50% of the processor"),
        (None, 0.3, 0.0, "a CPU quota held it up 30% of the time"),
        (0.5, 0.0, 0.4,
         "others used 50% of the processor and repeated measurements differ by 40%"),
    ],
)  # fmt: skip
def test_what_makes_a_figure_doubtful(
    load: float | None, throttled: float, spread: float, said: str
) -> None:
    assert doubt(load, throttled, spread) == said
