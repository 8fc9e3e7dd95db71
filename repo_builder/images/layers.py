"""Image layers as tar streams that depend on names and contents alone.

Times are zero, owners are root, names are sorted, modes are 0644, 0755 or what the source says
where it matters (sticky folders), so the same files give the same sha256 on every machine.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import ImageError

_CHUNK = 1 << 20
_BLOCK = 512
EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Layer:
    """One layer: what it is called in tables, its digest (`sha256:...`) and its bytes.

    `size` is that of the tar, `content` that of the files in it; `chunks` gives the tar anew each
    time it is called.
    """

    title: str
    diff_id: str
    size: int
    content: int
    chunks: Callable[[], Iterator[bytes]]

    def pull_size(self, cache: Path) -> int:
        """Bytes of the layer as registries keep it."""
        return pull_size(self.diff_id, self.chunks, cache)


def pull_size(diff_id: str, chunks: Callable[[], Iterator[bytes]], cache: Path) -> int:
    """Bytes of a layer after gzip at its default level, as engines push it.

    `cache` remembers it by the layer's digest: compressing is slow.
    """
    known = cache / "pull-sizes" / diff_id.removeprefix("sha256:")
    try:
        return int(known.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        pass
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with gzip's header (RFC 1952)
    size = sum(len(packer.compress(chunk)) for chunk in chunks()) + len(packer.flush())
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(str(size), encoding="ascii")
    return size


def of_files(title: str, folder: str, files: Mapping[str, Path | bytes]) -> Layer:
    """A layer with `files` below `folder`: relative POSIX path -> file here, or content."""
    parents = {str(p) for name in files for p in Path(folder, name).parents if str(p) != "."}
    entries: dict[str, Path | bytes | None] = dict.fromkeys(parents)
    entries.update({str(Path(folder, name)): path for name, path in files.items()})

    def chunks() -> Iterator[bytes]:
        for name in sorted(entries):
            source = entries[name]
            info = tarfile.TarInfo(name)
            if source is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                yield info.tobuf(tarfile.PAX_FORMAT)
            else:
                info.size, info.mode = _size(source), 0o644
                yield info.tobuf(tarfile.PAX_FORMAT)
                yield from _content(source, info.size)
        yield bytes(2 * _BLOCK)

    content = sum(map(_size, files.values()))
    return _hashed(title, content, chunks)


def _size(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _content(source: Path | bytes, size: int) -> Iterator[bytes]:
    """The bytes of a file, padded to whole blocks; ImageError where it changes meanwhile."""
    read = 0
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            read += len(chunk)
            yield chunk
    if read != size:
        raise ImageError(f"{source!r} changed while it was put into the image; build again")
    if size % _BLOCK:
        yield bytes(_BLOCK - size % _BLOCK)


def _hashed(title: str, content: int, chunks: Callable[[], Iterator[bytes]]) -> Layer:
    state, size = hashlib.sha256(), 0
    for chunk in chunks():
        state.update(chunk)
        size += len(chunk)
    return Layer(title, f"sha256:{state.hexdigest()}", size, content, chunks)


def of_tar(title: str, path: Path) -> Layer:
    """A layer that already is a tar file."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    with tarfile.open(path) as tar:
        content = sum(member.size for member in tar)
    return _hashed(title, content, chunks)


def normalize(source: tarfile.TarFile, out: Path) -> None:
    """Write the tar `source` to `out` with fixed times and owners, sorted."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid = 0, 0, 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            content = source.extractfile(member) if member.isreg() else None
            tar.addfile(member, content)
