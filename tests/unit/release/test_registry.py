"""Releases from what a build published, and the folder that keeps them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.base.errors import GateFailed, OutputError, StoreError, UsageError
from repo_builder.build.report.types import Latency, Provenance, Report, Row, Score
from repo_builder.cli import cli
from repo_builder.release import registry, types
from repo_builder.release.create import create
from repo_builder.release.diff import diff
from repo_builder.release.folder import Folder
from repo_builder.release.registry import Registry
from repo_builder.repository.publish import Model, publish
from repo_builder.spec.types import Version

WEIGHTS = b"weights"


def build(
    out: Path,
    version: str = "1.0.0",
    weights: bytes = WEIGHTS,
    *,
    targets: tuple[str, ...] = ("cpu",),
    names: tuple[str, ...] = ("digits",),
    labels: bytes = b"0\n1\n",
    interface: str = "a" * 64,
    accuracy: float = 0.9,
    failed: str = "",
) -> Path:
    """What a build leaves: manifests from the real publication, a report from the real record."""

    def fetch(_entry: Entry, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(weights)

    number = Version(*map(int, version.split(".")))
    blob = Blob(digest.of_bytes(weights), len(weights))
    entry = Entry("key", {}, Artifact({"model.onnx": blob}), {}, 0.0)
    record: dict[str, Any] = {
        "interface": interface,
        "confidence": {"threshold": 0.5},
        "tools": {"onnx": "1"},
        "provenance": {"source": {"model.onnx": "0" * 64}, "steps": {}, "changes": []},
    }
    texts = {"config.pbtxt": f"version {version}".encode(), "labels.txt": labels}
    models = [Model(name, number, texts, entry, record) for name in names]
    rows = []
    for target in targets:
        publish(out, target, models, lambda _: False, fetch, lambda _: None)
        for name in names:
            rows.append(
                Row(
                    id=f"{name}@{target}",
                    name=name,
                    target=target,
                    version=version,
                    precision="fp32",
                    status="gate failed" if name == failed else "built",
                    reason="too slow" if name == failed else "",
                    score=Score("accuracy", 0.9, accuracy, 0.0),
                    latency=Latency(1.0, 2.0, "cpu", 2),
                    level="simulated",
                    folder="" if name == failed else f"{target}/models/{name}",
                )
            )
    made = Provenance("2026-01-31T12:00:00Z", "0.1.0", "3.11", "Linux", "cpu", 2, "abc", {})
    report = Report(tuple(rows), {}, 1.0, made)
    (out / "report.json").write_text(json.dumps(report.as_json()))
    return out


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return registry.init(tmp_path / "registry")


def test_a_build_becomes_a_release_that_reads_back(tmp_path: Path, store: Registry) -> None:
    made = create(build(tmp_path / "b", targets=("cpu", "npu")), store, "candidate")
    assert made == {"digits:1.0.0": True}
    release = store.release("digits:1.0.0")
    assert set(release.targets) == {"cpu", "npu"}
    cpu = release.targets["cpu"]
    assert cpu.files["1000000/model.onnx"] == (digest.of_bytes(WEIGHTS), len(WEIGHTS))
    assert set(cpu.files) == {"config.pbtxt", "labels.txt", "1000000/model.onnx"}
    assert (cpu.level, release.commit, release.changelog) == (
        "simulated",
        "abc",
        "The first release.",
    )
    assert types.read(release.text(), "here") == release
    assert store.channels() == {"candidate": {"digits": "1.0.0"}}
    assert store.verify() == []


def test_the_same_again_changes_no_byte(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "b"), store, "candidate")
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*") if p.is_file()}
    assert create(build(tmp_path / "b"), store, "candidate") == {"digits:1.0.0": False}
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "other",
    [{"weights": b"others"}, {"targets": ("cpu", "npu")}],
    ids=["other bytes", "a target added later"],
)
def test_a_version_never_changes(tmp_path: Path, store: Registry, other: dict[str, Any]) -> None:
    create(build(tmp_path / "a"), store, "candidate")
    with pytest.raises(UsageError, match="other files or targets; write a higher version"):
        create(build(tmp_path / "b", **other), store, "candidate")
    assert set(store.release("digits:1.0.0").targets) == {"cpu"}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"interface": "b" * 64}, "the interface on cpu changed"),
        ({"labels": b"1\n0\n"}, "the labels on cpu changed"),
        ({"targets": ("npu",)}, "cpu is gone"),
    ],
)
def test_what_breaks_users_needs_a_major_version(
    tmp_path: Path, store: Registry, other: dict[str, Any], what: str
) -> None:
    create(build(tmp_path / "a"), store, "candidate")
    with pytest.raises(UsageError, match=f"digits:1.1.0: {what} since 1.0.0; .*2.0.0"):
        create(build(tmp_path / "b", "1.1.0", **other), store, "candidate")
    assert create(build(tmp_path / "c", "2.0.0", **other), store, "candidate")


def test_a_model_with_a_failed_gate_holds_all_back(tmp_path: Path, store: Registry) -> None:
    made = build(tmp_path / "b", names=("digits", "slow"), failed="slow")
    with pytest.raises(GateFailed, match="slow@cpu: too slow"):
        create(made, store, "candidate")
    assert store.names() == []
    assert create(made, store, "candidate", ["digits"]) == {"digits:1.0.0": True}
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        create(made, store, "candidate", ["digit"])


def test_a_report_beside_another_manifest_is_refused(tmp_path: Path, store: Registry) -> None:
    made = build(tmp_path / "b")
    old = (made / "report.json").read_bytes()
    build(made, "1.0.1")
    (made / "report.json").write_bytes(old)
    with pytest.raises(OutputError, match="does not hold digits 1.0.0; build again"):
        create(made, store, "candidate")


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": [{}]}', "{"])
def test_another_report_is_refused(tmp_path: Path, store: Registry, text: str) -> None:
    made = build(tmp_path / "b")
    (made / "report.json").write_text(text)
    with pytest.raises(OutputError, match="build again"):
        create(made, store, "candidate")


def test_a_damaged_build_is_not_released(tmp_path: Path, store: Registry) -> None:
    made = build(tmp_path / "b")
    (made / "cpu/models/digits/1000000/model.onnx").write_bytes(b"w3ights")
    with pytest.raises(StoreError, match="is damaged or was changed; build it again"):
        create(made, store, "candidate")
    assert store.names() == []


def test_what_was_yanked_stays_known(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "b"), store, "candidate")
    store.promote("digits:1.0.0", "stable")
    assert store.yank("digits:1.0.0", "wrong labels") == ["candidate", "stable"]
    assert store.channels() == {"candidate": {}, "stable": {}}
    with pytest.raises(UsageError, match="was yanked: wrong labels"):
        store.promote("digits:1.0.0", "stable")
    for weights in (WEIGHTS, b"others"):
        with pytest.raises(UsageError, match="was yanked: wrong labels; write a higher version"):
            create(build(tmp_path / "c", weights=weights), store, "candidate")
    assert store.release("digits:1.0.0").targets  # whoever has it can still learn what it is


def test_an_older_version_can_be_promoted(tmp_path: Path, store: Registry) -> None:
    for version in ("1.9.0", "1.10.0"):
        create(build(tmp_path / version, version), store, "stable")
    assert store.versions("digits") == ["1.9.0", "1.10.0"]
    store.promote("digits:1.9.0", "stable")
    assert store.channels()["stable"] == {"digits": "1.9.0"}


def test_a_diff_says_what_a_user_notices(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "a"), store, "candidate")
    create(build(tmp_path / "b", "1.0.1", b"longer weights", accuracy=0.95), store, "candidate")
    old, new = store.release("digits:1.0.0"), store.release("digits:1.0.1")
    told = [str(change) for change in diff(old, new)]
    assert told == ["cpu: accuracy 0.9 -> 0.95", "cpu: bytes 24 -> 31"]
    assert new.changelog == "Since 1.0.0:\n- " + "\n- ".join(told)


def test_an_epoch_never_falls(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "a"), store, "candidate", epoch=3)
    with pytest.raises(UsageError, match="epoch 2 is below the 3"):
        create(build(tmp_path / "b", "1.0.1"), store, "candidate", epoch=2)
    create(build(tmp_path / "b", "1.0.1"), store, "candidate")
    assert store.release("digits:1.0.1").epoch == 3


@pytest.mark.parametrize(("damage", "what"), [(b"w3ights", "is damaged"), (None, "is missing")])
def test_verify_names_who_needs_a_damaged_blob(
    tmp_path: Path, store: Registry, damage: bytes | None, what: str
) -> None:
    made = build(tmp_path / "b", names=("digits", "twin"))
    create(made, store, "candidate")
    path = Folder(store.root).blob(digest.of_bytes(WEIGHTS))
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    (found,) = store.verify()
    assert (found.what, found.needed_by) == (what, ("digits:1.0.0", "twin:1.0.0"))
    path.unlink(missing_ok=True)
    create(made, store, "candidate")
    assert store.verify() == []


def test_an_upload_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    sha256 = digest.of_bytes(content)
    folder = Folder(tmp_path / "r")
    (tmp_path / "r/.partial").mkdir(parents=True)
    (tmp_path / "r/.partial" / sha256).write_bytes(content[: 2 << 20])
    source = tmp_path / "source"  # gives the right bytes only to one who does not read the start
    source.write_bytes(bytes(2 << 20) + content[2 << 20 :])
    assert folder.add_blob(source, sha256, len(content))
    assert folder.blob(sha256).read_bytes() == content
    assert list((tmp_path / "r/.partial").iterdir()) == []


def test_what_a_crash_left_damaged_is_copied_anew(tmp_path: Path) -> None:
    content = os.urandom(1 << 16)
    sha256 = digest.of_bytes(content)
    (tmp_path / "r/.partial").mkdir(parents=True)
    (tmp_path / "r/.partial" / sha256).write_bytes(bytes(1 << 15))
    (tmp_path / "source").write_bytes(content)
    assert Folder(tmp_path / "r").add_blob(tmp_path / "source", sha256, len(content))
    assert Folder(tmp_path / "r").blob(sha256).read_bytes() == content


def _publish(made: Path, root: Path) -> None:
    create(made, Registry(root), "candidate")


def test_publishers_at_once_lose_nothing(tmp_path: Path, store: Registry) -> None:
    shared = os.urandom(1 << 20)
    builds = [build(tmp_path / f"b{n}", weights=shared, names=(f"m{n}",)) for n in range(6)]
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_publish, args=(made, store.root)) for made in builds]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 6
    assert store.channels()["candidate"] == {f"m{n}": "1.0.0" for n in range(6)}
    assert store.verify() == []


def _publish_on_a_full_disk(made: Path, root: Path, told: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        _publish(made, root)
    except StoreError as failure:
        told.write_text(str(failure))


def test_a_full_disk_loses_nothing(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "a"), store, "candidate")
    made, told = build(tmp_path / "b", "1.0.1", os.urandom(1 << 20)), tmp_path / "told"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_publish_on_a_full_disk, args=(made, store.root, told))
    process.start()
    process.join()
    assert told.read_text() == f"{store.root}: File too large; check the disk"
    assert store.channels() == {"candidate": {"digits": "1.0.0"}}
    assert create(made, store, "candidate") == {"digits:1.0.1": True}
    assert store.verify() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(extra=1),
        lambda plain: plain.update(format=2),
        lambda plain: plain.update(epoch="0"),
        lambda plain: plain["targets"]["cpu"]["files"].update({"../x": ["0" * 64, 1]}),
        lambda plain: plain["targets"]["cpu"]["files"].update({"/x": ["0" * 64, 1]}),
        lambda plain: plain["targets"]["cpu"]["files"].update({"x": ["0" * 63, 1]}),
        lambda plain: plain["targets"]["cpu"].pop("level"),
    ],
)
def test_another_record_is_not_read(tmp_path: Path, store: Registry, change: Any) -> None:
    create(build(tmp_path / "b"), store, "candidate")
    file = store.root / "releases/digits/1.0.0.json"
    plain = json.loads(file.read_bytes())
    change(plain)
    file.write_bytes(digest.canonical(plain))
    with pytest.raises(StoreError, match=re.escape(str(file))):
        store.release("digits:1.0.0")


def test_the_record_of_another_version_is_not_read(tmp_path: Path, store: Registry) -> None:
    create(build(tmp_path / "b"), store, "candidate")
    old = store.root / "releases/digits/1.0.0.json"
    old.with_name("1.0.1.json").write_bytes(old.read_bytes())
    with pytest.raises(StoreError, match="is the record of digits:1.0.0"):
        store.release("digits:1.0.1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "digts:1.0.0"], "has no digts:1.0.0; did you mean 'digits'?"),
        (["show", "digits:1.0.1"], "has no digits:1.0.1; did you mean 'digits:1.0.0'?"),
        (["show", "digits"], "names no version; write NAME:VERSION"),
        (["show", "../x:1.0.0"], "is no name of a model"),
        (["promote", "digits:1.0.0", "--to", "../up"], "is no name of a channel"),
        (["create", "nowhere"], "name a folder that repo-builder build wrote"),
    ],
)
def test_commands_refuse_in_a_line(
    tmp_path: Path, store: Registry, arguments: list[str], line: str
) -> None:
    create(build(tmp_path / "b"), store, "candidate")
    result = CliRunner().invoke(
        cli, ["release", *arguments], env={"REPO_BUILDER_REGISTRY": str(store.root)}
    )
    assert line in str(result.exception)
    assert "\n" not in str(result.exception)


def test_commands_show_what_is_there(tmp_path: Path, store: Registry) -> None:
    made = build(tmp_path / "b")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    option = ("--registry", str(store.root))
    assert run("release", "create", str(made), *option) == "digits:1.0.0 released, in candidate\n"
    assert json.loads(run("release", "list", *option, "--json")) == [
        {
            "release": "digits:1.0.0",
            "channels": ["candidate"],
            "targets": ["cpu"],
            "yanked": None,
        }
    ]
    assert "0.9 accuracy" in run("release", "show", "digits:1.0.0", *option)
    assert run("release", "promote", "digits:1.0.0", "--to", "stable", *option)
    assert "all is whole" in run("release", "verify", "digits:1.0.0", *option)
    assert "all is whole" in run("registry", "verify", str(store.root))
    assert run("release", "yank", "digits:1.0.0", "--reason", "wrong", *option)
    assert (
        json.loads(run("release", "show", "digits:1.0.0", *option, "--json"))["yanked"] == "wrong"
    )


def test_a_folder_of_others_is_no_place_for_a_registry(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(StoreError, match="holds other files"):
        registry.init(tmp_path)
    with pytest.raises(StoreError, match="is no registry; make one"):
        Registry(tmp_path)
