"""Publishing: a reader sees the old repository or the new one, whole, whatever happens."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

import pytest

from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.base.errors import LintFailed, OutputError, StoreError
from repo_builder.repository.publish import Model, Published, publish
from repo_builder.spec.types import Version
from tests import disks

Unavailable = Callable[[str], NoReturn]


def model(name: str, content: str, files: int = 2) -> Model:
    """A model whose every file holds `content`, so that a mixture would be seen."""
    data = content.encode()
    blobs = {f"{n}/model.onnx": Blob(digest.of_bytes(data), len(data)) for n in range(files)}
    entry = Entry(f"{name} {content}", {}, Artifact(blobs), {}, 0.0)
    texts = {"config.pbtxt": data, "labels.txt": data}
    return Model(name, Version(1, 0, 0), texts, entry, {"precision": "fp32"})


def fetch(entry: Entry, folder: Path) -> None:
    """As the store's: put the entry's files below `folder`."""
    for name in entry.artifact.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(entry.key.split(" ", 1)[1])


def accept(generation: Path) -> None:
    """A check that sees the whole generation and holds nothing against it."""
    assert (generation / "manifest.json").is_file()


def put(out: Path, *models: Model, keep: Callable[[str], bool] = lambda _: False) -> Published:
    return publish(out, "cpu", models, keep, fetch, accept)


def test_what_the_check_refuses_is_not_published(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"))

    def refuse(_: Path) -> None:
        raise LintFailed("not this one")

    with pytest.raises(LintFailed):
        publish(tmp_path, "cpu", [model("a", "2")], lambda _: False, fetch, refuse)
    assert (tmp_path / "cpu" / "models" / "a" / "config.pbtxt").read_text() == "1"
    assert not list((tmp_path / ".generations" / "cpu").glob(".new-*"))


def contents(repository: Path) -> dict[str, set[str]]:
    """Model -> what its files hold, of a repository that must be as its manifest says."""
    repository = repository.resolve()  # once, as Triton does
    manifest = json.loads((repository / "manifest.json").read_bytes())
    found = {}
    for name, record in manifest["models"].items():
        folder = repository / "models" / name
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
        assert files == set(record["files"])
        for file, (sha256, size) in record["files"].items():
            assert digest.of_file(folder / file) == sha256
            assert (folder / file).stat().st_size == size
        found[name] = {(folder / file).read_text() for file in files}
    assert {path.name for path in (repository / "models").iterdir()} == set(found)
    return found


def generations(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".generations" / "cpu").iterdir())


def test_a_repository_lies_behind_a_relative_link(tmp_path: Path) -> None:
    published = put(tmp_path / "out", model("digits", "a"))
    assert published.changed
    assert published.folder == tmp_path / "out" / "cpu"
    assert published.folder.readlink().parent == Path(".generations/cpu")
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "cpu"
    assert contents(moved) == {"digits": {"a"}}
    assert (moved / "models/digits/1000000/0/model.onnx").read_text() == "a"
    assert (moved / "models/digits/config.pbtxt").read_text() == "a"
    assert moved.resolve().stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_manifest_says_what_was_published(tmp_path: Path) -> None:
    put(tmp_path, model("digits", "a"))
    manifest = json.loads((tmp_path / "cpu" / "manifest.json").read_text())
    assert manifest["target"] == "cpu"
    record = manifest["models"]["digits"]
    assert record["version"] == "1.0.0"
    assert record["triton_version"] == 1_000_000
    assert record["precision"] == "fp32"
    assert set(record["files"]) == {
        "config.pbtxt",
        "labels.txt",
        "1000000/0/model.onnx",
        "1000000/1/model.onnx",
    }


def test_the_same_models_change_nothing(tmp_path: Path) -> None:
    first = put(tmp_path, model("a", "1"), model("b", "1"))
    link = (tmp_path / "cpu").readlink()
    again = put(tmp_path, model("b", "1"), model("a", "1"))
    assert (again.changed, again.digest) == (False, first.digest)
    assert (tmp_path / "cpu").readlink() == link
    assert len(generations(tmp_path)) == 1


def test_the_previous_generation_stays_and_older_ones_go(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"))
    first = (tmp_path / "cpu").resolve()
    put(tmp_path, model("a", "2"))
    second = (tmp_path / "cpu").resolve()
    assert contents(first) == {"a": {"1"}}
    put(tmp_path, model("a", "3"))
    assert contents(tmp_path / "cpu") == {"a": {"3"}}
    assert contents(second) == {"a": {"2"}}
    assert not first.exists()
    put(tmp_path, model("a", "2"))  # back to the one before
    assert contents(tmp_path / "cpu") == {"a": {"2"}}
    assert (tmp_path / "cpu").resolve() == second


def test_earlier_models_stay_where_they_are_to_be_kept(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"), model("b", "1"), model("c", "1"))
    put(tmp_path, model("a", "2"), keep=lambda name: name == "b")
    assert contents(tmp_path / "cpu") == {"a": {"2"}, "b": {"1"}}
    put(tmp_path, keep=lambda name: name == "b")
    assert contents(tmp_path / "cpu") == {"b": {"1"}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "models/a/config.pbtxt").write_text("x"),
        lambda folder: (folder / "models/a/1000000/0/model.onnx").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 1, "models": {"x": 1}}'),
    ],
)
def test_a_damaged_generation_gets_a_successor(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    put(tmp_path, model("a", "1"), model("b", "1"))
    first = (tmp_path / "cpu").resolve()
    damage(first)
    assert put(tmp_path, model("a", "1"), model("b", "1")).changed
    assert contents(tmp_path / "cpu") == {"a": {"1"}, "b": {"1"}}
    assert (tmp_path / "cpu").resolve() != first
    assert not put(tmp_path, model("a", "1"), model("b", "1")).changed


def test_a_damaged_model_is_not_kept_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, model("a", "1"), model("b", "1"))
    (tmp_path / "cpu" / "models" / "b" / "labels.txt").unlink()
    put(tmp_path, model("a", "2"), keep=lambda _: True)
    assert contents(tmp_path / "cpu") == {"a": {"2"}}
    assert "the earlier b is damaged and is left out; build it again" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling link"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "cpu"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "precious").write_text("x")
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("x")
    else:
        place.symlink_to("theirs" if kind == "link" else "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="was not made by a build; move it away") as caught:
        put(tmp_path, model("a", "1"))
    assert caught.value.exit_code == 9
    assert sorted(set(tmp_path.rglob("*")) - {tmp_path / ".lock"}) == before


def test_a_generation_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"))
    (tmp_path / ".generations").rename(tmp_path / "gone")
    assert put(tmp_path, model("a", "1")).changed
    assert contents(tmp_path / "cpu") == {"a": {"1"}}


def test_a_fetch_that_fails_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"))

    def damaged(entry: Entry, folder: Path) -> None:
        fetch(entry, folder)
        raise StoreError("damaged")

    with pytest.raises(StoreError, match="damaged"):
        publish(tmp_path, "cpu", [model("a", "2")], lambda _: False, damaged, lambda _: None)
    assert contents(tmp_path / "cpu") == {"a": {"1"}}
    assert len(generations(tmp_path)) == 1


def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, unavailable: Unavailable
) -> None:
    out = tmp_path / "out"
    put(out, model("a", "1"), model("b", "1"))
    with disks.read_only(out, unavailable):
        with pytest.raises(OutputError, match="make it writable, or use another --out"):
            put(out, model("a", "2"))
        assert contents(out / "cpu") == {"a": {"1"}, "b": {"1"}}
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="move what is there away, or use another --out"):
        put(tmp_path / "file", model("a", "1"))


def test_a_full_disk_is_one_line_and_the_old_repository_stays(
    tmp_path: Path, unavailable: Unavailable
) -> None:
    with disks.small(tmp_path / "disk", 700, unavailable) as out:
        put(out, model("a", "1" * 50_000), model("b", "1" * 50_000))
        with pytest.raises(OutputError, match="No space left on device; free some space") as caught:
            put(out, model("a", "2" * 50_000), keep=lambda _: True)
        assert "\n" not in str(caught.value)
        assert contents(out / "cpu") == {"a": {"1" * 50_000}, "b": {"1" * 50_000}}
        assert len(generations(out)) == 1


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    put(tmp_path, model("a", "0", 6), model("b", "0", 6))
    finished = threading.Event()
    seen: list[Mapping[str, set[str]]] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not finished.is_set():
                seen.append(contents(tmp_path / "cpu"))
        except BaseException as failure:  # noqa: BLE001 - shown by the test
            failures.append(failure)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(1, 20):
            put(tmp_path, model("a", str(n), 6), model("b", str(n), 6))
            before = len(seen)
            while len(seen) == before and reader.is_alive():
                finished.wait(0.001)
    finally:
        finished.set()
        reader.join()
    assert not failures, failures[0]
    assert len({str(one) for one in seen}) > 5
    for one in seen:
        assert one["a"] == one["b"]
        assert len(one["a"]) == 1


def _publish_often(out: Path, content: str) -> int:
    for n in range(15):
        put(out, model("a", f"{content}{n}"), model("b", f"{content}{n}"))
    return len(contents(out / "cpu"))


def test_two_publishers_at_once_take_turns(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        for future in [pool.submit(_publish_often, tmp_path, content) for content in "xy"]:
            assert future.result() == 2
    final = contents(tmp_path / "cpu")
    assert final["a"] == final["b"]
    assert len(generations(tmp_path)) == 2


def test_killed_at_any_instant_the_old_or_the_new_repository_is_there(tmp_path: Path) -> None:
    put(tmp_path, model("a", "old"), model("b", "old"))

    def change() -> None:
        put(tmp_path, model("a", "new"), keep=lambda _: True)

    old, new = {"a": {"old"}, "b": {"old"}}, {"a": {"new"}, "b": {"old"}}
    seen = [contents(tmp_path / "cpu") for _ in disks.killed_at_every_instant(change)]
    assert old in seen
    assert all(one in (old, new) for one in seen)
    assert contents(tmp_path / "cpu") == new
    put(tmp_path, model("a", "newer"), keep=lambda _: True)
    assert not [name for name in generations(tmp_path) if name.startswith(".")]


def test_repair_killed_at_any_instant_keeps_what_is_still_good(tmp_path: Path) -> None:
    put(tmp_path, model("a", "1"), model("b", "1"))
    (tmp_path / "cpu" / "models" / "a" / "labels.txt").write_text("damaged")

    def repair() -> None:
        put(tmp_path, model("a", "1"), model("b", "1"))

    for _ in disks.killed_at_every_instant(repair):
        assert (tmp_path / "cpu" / "models" / "b" / "config.pbtxt").read_text() == "1"
    assert contents(tmp_path / "cpu") == {"a": {"1"}, "b": {"1"}}
