"""The catalog itself, and what is said of target files that are wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from repo_builder import targets
from repo_builder.base.errors import SpecError, UsageError

DESIGNED = {
    "cpu", "cpu-openvino", "nvidia-gpu", "jetson-orin-nx", "jetson-agx-orin", "intel-npu",
    "movidius-myriad-x", "snapdragon-qcs8275", "ethos-u55", "ethos-u85", "tflite-micro",
}  # fmt: skip


def problems(folder: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        targets.load(folder)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_catalog_has_every_designed_target() -> None:
    assert targets.load().keys() >= DESIGNED


def test_targets_are_frozen_and_travel_to_other_processes() -> None:
    cpu = targets.load()["cpu"]
    with pytest.raises(ValidationError, match="frozen"):
        cpu.title = "other"
    assert pickle.loads(pickle.dumps(cpu)) == cpu  # noqa: S301 - our own bytes


def test_names_and_backends_match_what_others_rely_on() -> None:
    catalog = targets.load()
    assert {name: target.name for name, target in catalog.items()} == {n: n for n in catalog}
    assert catalog["cpu"].cores == 0
    assert catalog["jetson-orin-nx"].backend == "tensorrt"
    assert catalog["ethos-u55"].backend is None


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    write(tmp_path, "pi", "extends: cpu\narchitectures: [arm64]\ncpu: {cores: 4}\n")
    base, pi = (targets.load(tmp_path)[name] for name in ("cpu", "pi"))
    assert pi.architectures == ("arm64",)
    assert (pi.cores, pi.cpu.title) == (4, base.cpu.title)
    assert pi.engines == base.engines


def test_users_targets_may_extend_each_other(tmp_path: Path) -> None:
    write(tmp_path, "a", "extends: b\ntitle: A\n")
    write(tmp_path, "b", "extends: cpu\ncpu: {cores: 3}\n")
    assert targets.load(tmp_path)["a"].cores == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: cpuu\n", "mine.yaml:1: extends: unknown target 'cpuu'; did you mean 'cpu'?"),
        ("extends: mine\n", "targets that extend each other: mine -> mine"),
        ("extends: cpu\nname: x\n", "mine.yaml:2: name: is the file's name"),
        ("extends: cpu\nmemry: 4\n", "mine.yaml:2: memry: unknown key; did you mean 'memory'?"),
        ("extends: cpu\nprecisions: [int9]\n", "unknown value 'int9'; did you mean 'int8'?"),
        ("extends: cpu\ncpu: {cores: -4}\n", "mine.yaml:2: cpu.cores: must be at least 0, not -4"),
        ("extends: cpu\ncpu: {cores: '4'}\n", "must be a whole number, not '4'"),
        ("extends: cpu\nmemory: {size_mb: .nan}\n", "memory.size_mb: must be a finite"),
        ("extends: cpu\nprecisions: []\n", "precisions: "),
        ("extends: cpu\nruntime: tensorrt\n", "tensorrt: is missing; runtime 'tensorrt' needs it"),
        ("extends: cpu\narchitectures: [cortex-m]\n", "'onnxruntime' does not run on cortex-m"),
        ("extends: cpu\ncpu: {source: nowhere}\n", "cpu.source: no source 'nowhere'"),
        ("extends: cpu\ncpu: {note: ''}\n", "cpu: has no source"),
        ("runtime: onnxruntime\n", "title: is missing"),
        ("[1, 2]\n", "must be a mapping of keys to values"),
        ("a: !!python/object:os.system x\n", "is not allowed"),
        ("title: [\n", "not YAML"),
        ("title: A\ntitle: B\n", "'title' is written twice"),
    ],
)
def test_a_wrong_file_is_told_by_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "mine", text)
    assert any(said in problem for problem in problems(tmp_path))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("engines: [{name: g, title: G, source: x, compute: [{precision: int8, dense_tops: 1.0e+9, "
         "source: x}]}]", "dense_tops: 1e+09 cannot be"),
        ("engines: [{name: g, title: G, source: x, compute: [{precision: int8, dense_tops: 9, "
         "sparse_tops: 4, source: x}]}]", "sparse_tops: is below dense_tops"),
        ("engines: [{name: g, title: G, source: x, clock_mhz: 918000000}]",
         "clock_mhz: 9.18e+08 cannot be"),
        ("memory: {size_mb: 900}",
         "assumptions.reserved_mb: the system would keep all 900 MB of the memory; lower it, or"),
        ("power_modes: [{name: M, watts: 1.0e+6, source: x}]", "watts: 1e+06 cannot be"),
        ("power_modes: [{name: M, watts: -5, source: x}]", "watts: must be more than 0.0, not -5"),
        ("power_modes: [{name: M, watts: 5, cpu_cores: 99, source: x}]",
         "cpu_cores: the device has 8"),
        ("power_modes: [{name: M, watts: 5, clocks_mhz: {gpuu: 3}, source: x}]",
         "no such engine; did you mean 'gpu'?"),
        ("power_modes: [{name: M, watts: 5, memory_gb_s: 400, source: x}]",
         "is above the memory's"),
        ("power_modes: [{name: M, watts: 5, source: x}, {name: M, watts: 6, source: x}]",
         "'M' is given twice"),
        ("power_modes: [{name: M, watts: 5, slices: {gpu: 9}, source: x}]", "gpu: it has 4"),
    ],
)  # fmt: skip
def test_figures_that_cannot_be_are_refused(tmp_path: Path, field: str, said: str) -> None:
    write(tmp_path, "mine", f"extends: jetson-orin-nx\nsources: {{x: {{title: X}}}}\n{field}\n")
    assert any(said in problem for problem in problems(tmp_path))


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, "one", "extends: cpu\ncpu: {cores: -1, clok_mhz: 2}\n")
    write(tmp_path, "two", "extends: nvidia-gpuu\n")
    assert len(problems(tmp_path)) == 3


def test_a_name_of_the_catalog_cannot_be_taken(tmp_path: Path) -> None:
    write(tmp_path, "cpu", "extends: cpu-openvino\n")
    assert problems(tmp_path) == [
        "cpu.yaml: there is a target 'cpu' already; "
        "name the file otherwise, with 'extends: cpu' if it refines that one"
    ]


def test_file_names_are_target_names(tmp_path: Path) -> None:
    write(tmp_path, "My Board", "extends: cpu\n")
    assert "'My Board' is no name for a target" in problems(tmp_path)[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"title: \xff\n")
    (tmp_path / "dir.yaml").mkdir()
    assert [p.split(":")[0] for p in problems(tmp_path)] == ["dir.yaml", "mine.yaml"]


def test_targets_dir_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        targets.load(tmp_path / "nowhere")


def test_unknown_target_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown target 'jetson-orin'; did you mean 'jetson-"):
        targets.pick(targets.load(), "jetson-orin")


def test_int8_must_be_typed_as_the_runtime_takes_it(tmp_path: Path) -> None:
    write(tmp_path, "my-orin", "extends: jetson-orin-nx\nint8: u8s8\n")
    assert problems(tmp_path) == [
        "my-orin.yaml:2: int8: 'u8s8' is not what tensorrt takes; write s8s8"
    ]
