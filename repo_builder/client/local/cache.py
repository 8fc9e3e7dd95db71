"""Answers kept on the device: one SQLite file, shared by processes, least recently used out first.

A row's key is a digest of its bytes, types and shapes, the model and the version that answered.
Entries are a small header and raw bytes: nothing is ever unpickled. The file is in WAL mode:
readers never wait for a writer, and a crash at any point leaves the last committed state. A file
that turns out to be broken is made anew; it is a cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.local.write_behind import WriteBehind
from repo_builder.client.metrics import Metrics
from repo_builder.client.models.tensors import Batch
from repo_builder.client.options import Cache

Array = npt.NDArray[Any]
Row = dict[str, Array]
# What is queued for the writer: (key, perceptual hash, scope, answer), answer None for "was used".
_Item = tuple[bytes, "int | None", str, "Row | None"]

_log = logging.getLogger("repo_builder.client")
_BUSY_S = 0.02
_RECENT = 1024  # how many of a model's latest frames are looked through for a near duplicate
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS entry (
    key BLOB PRIMARY KEY, used INTEGER NOT NULL, size INTEGER NOT NULL,
    scope TEXT NOT NULL, hash INTEGER, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entry (used);
CREATE INDEX IF NOT EXISTS by_frame ON entry (scope, used) WHERE hash IS NOT NULL;
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1),
    bytes INTEGER NOT NULL, tick INTEGER NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entry
    BEGIN UPDATE total SET bytes = bytes + new.size; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entry
    BEGIN UPDATE total SET bytes = bytes - old.size; END;
"""
# Beside its value, an entry takes its key, its row and its places in three indices.
_OVERHEAD = 200


class ResponseCache:
    """Looks rows up and remembers answers; writing happens behind the calls."""

    def __init__(self, options: Cache, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._writer = WriteBehind(self._write, self._lost)

    def keys(self, scope: str, batch: Batch) -> list[tuple[bytes, int | None]]:
        """Each row's key and, if wanted, perceptual hash. `scope` says whose answers these are."""
        arrays = list(batch.named().values())
        what = [scope] + [f"{a.dtype}{a.shape[1:]}" for a in arrays]
        start = hashlib.blake2b("|".join(what).encode(), digest_size=20)
        out = []
        for row in range(batch.count):
            digest = start.copy()
            for array in arrays:
                one = array[row] if batch.signature.rows is not None else array
                digest.update(repr(one.tolist()).encode() if one.dtype == object else one.data)
            near = None
            if self._options.near_duplicates and len(arrays) == 1:
                near = perceptual_hash(arrays[0][row])
            out.append((digest.digest(), near))
        return out

    def find(self, scope: str, keys: Sequence[tuple[bytes, int | None]]) -> list[Row | None]:
        """The answers that are known, None for the others. Never raises, hardly ever waits."""
        found: list[Row | None] = []
        for exact, near in keys:
            key = exact
            try:
                with self._lock:
                    value = self._value(key)
                    if value is None and near is not None:
                        key, value = self._similar(scope, near)
            except sqlite3.Error as error:
                self._broken(error)
                value = None
            if value is not None:
                self._writer.put((key, None, scope, None))
            found.append(None if value is None else decode(value))
            result = (("result", "miss" if value is None else "hit"),)
            self._metrics.count("cache_lookups_total", result)
        return found

    def store(self, scope: str, key: tuple[bytes, int | None], row: Row) -> None:
        """Remember the answer of one row, soon."""
        if not self._writer.put((key[0], key[1], scope, row)):
            self._lost(1)

    def flush(self) -> None:
        """Wait until everything is on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is queued and close the file."""
        self._writer.close()
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._options.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._options.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            connection.executescript(_SCHEMA)
            self._connection = connection
        return self._connection

    def _value(self, key: bytes) -> bytes | None:
        row = self._open().execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _similar(self, scope: str, near: int) -> tuple[bytes, bytes | None]:
        rows = self._open().execute(
            "SELECT hash, key FROM entry WHERE scope = ? AND hash IS NOT NULL "
            "ORDER BY used DESC LIMIT ?",
            (scope, _RECENT),
        )
        best, key = self._options.near_duplicates + 1, b""
        for known, candidate in rows:
            distance = bin((known ^ near) & 0xFFFFFFFFFFFFFFFF).count("1")
            if distance < best:
                best, key = distance, candidate
        return key, (self._value(key) if key else None)

    def _write(self, items: list[_Item]) -> None:
        with self._lock:
            connection = self._open()
            # Another process may be writing: unlike a reader, the writer has time.
            connection.execute("PRAGMA busy_timeout = 2000")
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._apply(connection, items)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._broken(error, locked=True)
                raise
            finally:
                if self._connection is not None:
                    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")

    def _apply(self, connection: sqlite3.Connection, items: list[_Item]) -> None:
        (tick,) = connection.execute("SELECT tick FROM total").fetchone()
        for key, near, scope, row in items:
            tick += 1
            if row is None:
                connection.execute("UPDATE entry SET used = ? WHERE key = ?", (tick, key))
                continue
            value = encode(row)
            # Two statements: REPLACE would not fire the trigger that counts what it removes.
            connection.execute("DELETE FROM entry WHERE key = ?", (key,))
            connection.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)",
                (key, tick, len(value) + _OVERHEAD, scope, near, value),
            )
        connection.execute("UPDATE total SET tick = ?", (tick,))
        (total,) = connection.execute("SELECT bytes FROM total").fetchone()
        while total > self._options.max_bytes:
            oldest = connection.execute(
                "SELECT key, size FROM entry ORDER BY used LIMIT 64"
            ).fetchall()
            for key, size in oldest:
                if total <= self._options.max_bytes:
                    break
                connection.execute("DELETE FROM entry WHERE key = ?", (key,))
                total -= size

    def _broken(self, error: sqlite3.Error, *, locked: bool = False) -> None:
        """A file that is no database any more is removed; anything else passes."""
        if isinstance(error, sqlite3.OperationalError) or not isinstance(
            error, sqlite3.DatabaseError
        ):
            return
        _log.warning("the cache %s is broken and is made anew: %s", self._options.path, error)
        if not locked:
            with self._lock:
                self._remove()
        else:
            self._remove()

    def _remove(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._options.path}{suffix}").unlink(missing_ok=True)

    def _lost(self, items: int) -> None:
        self._metrics.count("cache_lookups_total", (("result", "not-stored"),), items)


def encode(row: Mapping[str, Array]) -> bytes:
    """Arrays as bytes: the length of a JSON header, the header, the arrays' own bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in row.items()}
    head = json.dumps([[k, a.dtype.str, list(row[k].shape)] for k, a in arrays.items()]).encode()
    return b"".join(
        [len(head).to_bytes(4, "little"), head, *(a.tobytes() for a in arrays.values())]
    )


def decode(value: bytes) -> Row:
    """The inverse of `encode`; the arrays are read-only."""
    size = int.from_bytes(value[:4], "little")
    offset = 4 + size
    row: Row = {}
    for name, dtype, shape in json.loads(value[4:offset]):
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        row[name] = np.frombuffer(value, kind, count, offset).reshape(shape)
        offset += count * kind.itemsize
    return row


def perceptual_hash(frame: Array) -> int | None:
    """64 bits that change little when a frame does (difference hash), or None for no image.

    The frame, [H, W] or with channels first or last, is averaged to 8 x 9 cells; each bit says
    whether a cell is brighter than its right neighbour. Signed, as SQLite's integers are.
    """
    image = np.asarray(frame, np.float32)
    if image.ndim == 3:
        image = image.mean(axis=int(np.argmin(image.shape)))
    if image.ndim != 2 or image.shape[0] < 8 or image.shape[1] < 9:
        return None
    height, width = image.shape
    rows = np.add.reduceat(image, np.arange(8) * height // 8, axis=0)
    cells = np.add.reduceat(rows, np.arange(9) * width // 9, axis=1)
    # Cells may differ by a row or column in size: compare means.
    sizes = np.diff([*(np.arange(9) * width // 9), width])
    bits = np.diff(cells / sizes, axis=1) > 0
    return int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big", signed=True)
