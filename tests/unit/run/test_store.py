"""The store: atomic, self-checking, shared, garbage-collected; whole whenever it is killed."""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.base import digest
from repo_builder.base.artifact import Entry
from repo_builder.base.errors import StoreError
from repo_builder.run.store import CorruptEntry, Store, default_root
from tests import disks

Unavailable = Callable[[str], NoReturn]
FILES = {"model.onnx": b"weights", "sub/labels.txt": b"a\nb\n", "empty": b""}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def recipe(**params: Any) -> dict[str, Any]:
    return {"step": "test", "version": 1, "params": params, "inputs": {}, "tools": {}}


def put(store: Store, files: Mapping[str, bytes] = FILES, **params: Any) -> Entry:
    with store.workspace() as work:
        out = work / "out"
        out.mkdir()
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        the_recipe = recipe(**params)
        return store.put(digest.of_json(the_recipe), the_recipe, out, {"found": 1.5}, 0.25)


def fetched(store: Store, entry: Entry, folder: Path) -> dict[str, bytes]:
    store.fetch(entry, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def blob(store: Store, entry: Entry, name: str = "model.onnx") -> Path:
    sha256 = entry.artifact.files[name].sha256
    return store.root / "blobs" / sha256[:2] / sha256


def entry_file(store: Store, entry: Entry) -> Path:
    return store.root / "entries" / entry.key[:2] / f"{entry.key}.json"


def test_what_was_put_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    entry = put(store)
    again = Store(store.root).get(entry.key)
    assert again == entry
    assert fetched(store, entry, tmp_path / "out") == FILES
    assert store.get("0" * 64) is None
    assert entry.artifact.size == 11
    assert blob(store, entry).stat().st_mode & 0o222 == 0
    assert list((store.root / "tmp").iterdir()) == []


def test_equal_contents_are_kept_once(store: Store) -> None:
    put(store, {"a": b"same", "b": b"same"}, n=1)
    put(store, {"c": b"same"}, n=2)
    usage = store.usage()
    assert (usage.entries, usage.blobs, usage.size) == (2, 1, 4)


def test_an_absent_store_is_empty(store: Store) -> None:
    assert store.usage().entries == 0
    assert store.recall("digits@cpu") == {}
    assert not store.root.exists()


def test_links_are_not_taken(store: Store) -> None:
    with store.workspace() as work:
        (work / "out").mkdir()
        (work / "out" / "link").symlink_to("/etc/hostname")
        with pytest.raises(StoreError, match="not a plain file: link"):
            store.put("0" * 64, recipe(), work / "out", {}, 0.0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw.replace(b"1.5", b"9.5"),
        lambda _: b"{}",
        lambda _: digest.of_bytes(b"[]").encode() + b"\n[]",
    ],
    ids=["empty", "torn", "changed", "older", "other"],
)
def test_a_damaged_entry_is_no_entry(store: Store, damage: Callable[[bytes], bytes]) -> None:
    entry = put(store)
    path = entry_file(store, entry)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(entry.key) is None
    assert store.verify() == [f"entry {entry.key[:12]}"]
    assert put(store) == entry
    assert store.get(entry.key) == entry


def test_an_entry_under_another_key_is_no_entry(store: Store) -> None:
    entry = put(store)
    other = "0" * 64
    path = store.root / "entries" / "00" / f"{other}.json"
    path.parent.mkdir()
    path.write_bytes(entry_file(store, entry).read_bytes())
    assert store.get(other) is None


def damaged_blob(store: Store, entry: Entry, content: bytes) -> Path:
    path = blob(store, entry)
    path.chmod(0o644)
    path.write_bytes(content)
    return path


def test_a_blob_of_another_size_or_none_makes_its_entry_absent(store: Store) -> None:
    entry = put(store)
    damaged_blob(store, entry, b"short").unlink()
    assert store.get(entry.key) is None
    put(store)
    damaged_blob(store, entry, b"short")
    assert store.get(entry.key) is None
    put(store)
    assert store.get(entry.key) == entry


def test_a_blob_with_a_flipped_byte_is_found_and_dropped(store: Store, tmp_path: Path) -> None:
    entry = put(store)
    path = damaged_blob(store, entry, b"wEights")
    assert store.get(entry.key) == entry  # the size is right; contents are checked when fetched
    with pytest.raises(CorruptEntry) as caught:
        store.fetch(entry, tmp_path / "out")
    assert caught.value.key == entry.key
    assert not path.exists()
    assert store.get(entry.key) is None
    with pytest.raises(CorruptEntry):
        store.fetch(entry, tmp_path / "out2")


def test_verify_reads_everything(store: Store) -> None:
    good, bad = put(store, n=1), put(store, {"model.onnx": b"other"}, n=2)
    assert store.verify() == []
    damaged_blob(store, bad, b"0ther")
    blob_name = bad.artifact.files["model.onnx"].sha256[:12]
    assert store.verify() == [f"blob {blob_name}", f"entry {bad.key[:12]}"]
    assert store.verify() == []
    assert store.get(good.key) == good


def test_garbage_is_what_no_last_good_build_needs(store: Store) -> None:
    old, new, shared = put(store, n=1), put(store, {"new": b"12345"}, n=2), put(store, n=3)
    store.remember("digits@cpu", {"import": recipe(n=1)})
    store.remember("digits@cpu", {"import": recipe(n=2)})
    store.remember("shapes@cpu", {"import": recipe(n=3)})
    store.log(old.key).write_text("x")
    store.log(new.key).write_text("y")
    (store.root / "training").mkdir()
    (store.root / "training" / "given-up.safetensors").write_text("z")
    removed = store.collect()
    assert not (store.root / "training").exists()
    assert (removed.entries, removed.blobs, removed.size) == (1, 0, 0)
    assert store.get(old.key) is None
    assert store.get(new.key) == new
    assert store.get(shared.key) == shared
    assert [path.stem for path in (store.root / "logs").iterdir()] == [new.key]
    store.remember("shapes@cpu", {"import": recipe(n=2)})
    removed = store.collect()
    assert (removed.entries, removed.blobs, removed.size) == (1, 3, 11)
    assert store.recall("digits@cpu") == {"import": recipe(n=2)}


def test_a_store_in_use_is_not_collected_and_keeps_its_work(store: Store) -> None:
    put(store)
    other = Store(store.root)
    with store.in_use(), other.in_use(), store.workspace() as work:
        with pytest.raises(StoreError, match="in use by a build; try again"):
            other.collect()
        with other.in_use():
            assert work.is_dir()
    assert other.collect().entries == 1


def test_what_a_killed_build_left_is_swept(store: Store) -> None:
    left = store.root / "tmp" / "left" / "out"
    left.mkdir(parents=True)
    with store.in_use():
        assert not left.exists()


def test_a_lock_ends_with_its_process(store: Store) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with store.in_use():
            os.write(writer, b"x")
            os.kill(os.getpid(), 9)
    os.read(reader, 1)
    os.waitpid(child, 0)
    store.collect()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_recall_is_none(store: Store, content: bytes) -> None:
    store.remember("digits@cpu", {"import": recipe()})
    (store.root / "recalls" / "digits@cpu.json").write_bytes(content)
    assert store.recall("digits@cpu") == {}


def test_texts_are_kept_by_what_shaped_them_until_a_collection(store: Store) -> None:
    shaped_by = ["0.1", {"cores": 2}]
    assert store.recall_texts(shaped_by) is None
    store.remember_texts(shaped_by, {"config.pbtxt": 'name: "ä"\n'})
    assert store.recall_texts(["0.1", {"cores": 2}]) == {"config.pbtxt": 'name: "ä"\n'}
    assert store.recall_texts(["0.1", {"cores": 4}]) is None
    (path,) = (store.root / "texts").glob("*/*.json")
    path.write_bytes(path.read_bytes().replace(b"name", b"nome"))
    assert store.recall_texts(shaped_by) is None
    store.collect()
    assert not path.exists()


def test_a_full_disk_is_one_line_and_the_store_stays_whole(
    tmp_path: Path, unavailable: Unavailable
) -> None:
    with disks.small(tmp_path / "disk", 256, unavailable) as disk:
        store = Store(disk / "store")
        first = put(store)
        folder = store.root / "tmp" / "w"
        folder.mkdir()
        filler = disks.fill(disk)
        for action in (
            lambda: store.put("1" * 64, recipe(n=2), folder, {"f": "x" * 9000}, 0.0),
            lambda: store.remember("digits@cpu", {"import": recipe(x="y" * 9000)}),
            lambda: store.write_json(store.root / "pins.json", "x" * 9000),
        ):
            with pytest.raises(StoreError) as caught:
                action()
            assert "No space left on device; free some space, or name another" in str(caught.value)
            assert caught.value.exit_code == 8
        filler.unlink()
        assert store.get(first.key) == first
        assert store.verify() == []
        assert store.get(put(store, n=2).key) is not None


def test_a_read_only_disk_is_one_line(
    store: Store, tmp_path: Path, unavailable: Unavailable
) -> None:
    entry = put(store)
    with disks.read_only(store.root, unavailable):
        assert store.get(entry.key) == entry
        assert fetched(store, entry, tmp_path / "out") == FILES
        for action in (
            lambda: put(store, n=2),
            lambda: store.drop(entry.key),
            lambda: store.remember("digits@cpu", {}) or store.remember("digits@cpu", {"a": {}}),
            lambda: store.log("0" * 64),
            store.collect,
            store.verify,
            store.in_use().__enter__,
        ):
            with pytest.raises(StoreError, match="; make it writable, or name another folder"):
                action()


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError, match="move what is there away"):
        put(Store(tmp_path / "store"))


def consistent(root: Path, scratch: Path) -> None:
    """Every entry is absent or whole, and nothing but work in progress lies about."""
    store = Store(root)
    for path in root.glob("entries/*/*"):
        entry = store.get(path.stem)
        assert entry is not None
        store.fetch(entry, scratch / path.stem)
    for path in root.glob("blobs/*/*"):
        assert digest.of_file(path) == path.name
    assert {path.name for path in root.iterdir()} <= {"blobs", "entries", "recalls", "tmp", "lock"}


def test_a_build_killed_at_any_instant_leaves_a_store_that_is_whole(
    store: Store, tmp_path: Path
) -> None:
    put(store, n=0)
    store.remember("digits@cpu", {"import": recipe(n=0)})

    def build() -> None:
        with store.in_use():
            put(store, n=1)
            put(store, {"model.onnx": b"others", "more": b"1"}, n=1)
            store.remember("digits@cpu", {"import": recipe(n=1)})

    deaths = 0
    for instant in disks.killed_at_every_instant(build):
        consistent(store.root, tmp_path / str(instant))
        assert store.recall("digits@cpu") in ({"import": recipe(n=0)}, {"import": recipe(n=1)})
        deaths += 1
    assert deaths > 30
    with store.in_use():
        assert not (store.root / "tmp").exists()
    assert store.verify() == []


def test_collection_killed_at_any_instant_loses_nothing_that_is_needed(
    store: Store, tmp_path: Path
) -> None:
    needed = put(store, n=0)
    store.remember("digits@cpu", {"import": recipe(n=0)})
    for n in range(1, 4):
        put(store, {"model.onnx": b"garbage", f"{n}": bytes(n)}, n=n)
    for _ in disks.killed_at_every_instant(store.collect):
        assert store.get(needed.key) == needed
    assert store.usage().entries == 1
    assert fetched(store, needed, tmp_path / "out") == FILES


@given(
    st.lists(st.sampled_from(["put", "flip", "cut", "lose", "drop", "collect"]), max_size=12),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_an_entry_is_absent_or_whole(
    tmp_path_factory: pytest.TempPathFactory, events: list[str], chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "store")
    contents = {n: {"a": bytes([n]) * 8, "b": b"shared"} for n in range(3)}
    for number, event in enumerate(["put", *events]):
        n = chance.randrange(3)
        blobs = sorted(store.root.glob("blobs/*/*"))
        if event == "put":
            put(store, contents[n], n=n)
        elif event == "drop":
            store.drop(digest.of_json(recipe(n=n)))
        elif event == "collect":
            store.collect()
        elif blobs:
            path = chance.choice(blobs)
            path.chmod(0o644)
            if event == "lose":
                path.unlink()
            else:
                data = path.read_bytes()
                path.write_bytes(data[:-1] if event == "cut" else bytes(b ^ 1 for b in data))
        for n in range(3):
            entry = store.get(digest.of_json(recipe(n=n)))
            if entry is not None:
                out = folder / f"{number}-{n}"
                try:
                    assert fetched(store, entry, out) == contents[n]
                except CorruptEntry:
                    assert store.get(entry.key) is None


def test_the_default_root_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_root() == Path("/somewhere/repo-builder")


def test_a_build_waits_for_a_collection(store: Store) -> None:
    store.root.mkdir()
    holder = os.open(store.root / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    child = os.fork()
    if child == 0:
        os.close(holder)
        with store.in_use():
            (store.root / "began").touch()
        os._exit(0)
    assert not (store.root / "began").exists()
    os.close(holder)
    assert os.waitpid(child, 0)[1] == 0
    assert (store.root / "began").exists()
