"""Runs inside a Dockerfile's build stage: puts into a folder only what the image needs.

    slim.py OUT [options] SOURCE:DESTINATION...

Each source (a file, a folder or a glob) is copied below OUT to its destination, then every shared
library that the copied ELF files need, and that no lower layer has, is found as the dynamic loader
would find it and copied too. With --strip, ELF files lose what no loader reads. Afterwards .py
files are compiled, so that a read-only image starts
as fast as a writable one. A library that nobody has is an error here, not at a device's first
start. Needs Python 3.9 and pyelftools (a wheel in `wheels/` beside this script serves).
"""

from __future__ import annotations

import argparse
import compileall
import fnmatch
import os
import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), *map(str, (_HERE / "wheels").glob("pyelftools-*.whl"))]

_PROGRAM = (b"\x7fELF", b"#!/")
# Of Python's own library: what no server needs, and what drags in databases or terminals.
UNUSED_PYTHON = (
    *("__pycache__", "test", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3"),
    *("ensurepip", "pydoc_data", "pydoc.py", "distutils", "venv", "config-3*", "site-packages"),
    *("dist-packages", "sitecustomize.py", "curses", "dbm", "sqlite3", "unittest", "doctest.py"),
    *("pdb.py", "EXTERNALLY-MANAGED", "lib-dynload/_test*", "lib-dynload/_xx*", "lib-dynload/xx*"),
    *("lib-dynload/_codecs_*", "lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/_gdbm*"),
    *("lib-dynload/_sqlite3*", "lib-dynload/_tkinter*", "lib-dynload/nis*", "lib-dynload/_crypt*"),
    *("lib-dynload/ossaudiodev*", "lib-dynload/readline*", "lib-dynload/audioop*"),
    # Clients and servers of other protocols, TLS too: Triton has its own; sound; profilers.
    *(
        "lib-dynload/_ssl*",
        "xmlrpc",
        "wsgiref",
        "imaplib.py",
        "nntplib.py",
        "smtplib.py",
        "smtpd.py",
    ),
    *("poplib.py", "ftplib.py", "telnetlib.py", "mailbox.py", "mailcap.py", "cgi.py", "cgitb.py"),
    *("aifc.py", "sunau.py", "wave.py", "sndhdr.py", "imghdr.py", "asynchat.py", "asyncore.py"),
    *(
        "pickletools.py",
        "profile.py",
        "cProfile.py",
        "pstats.py",
        "lib-dynload/_lsprof*",
        "trace.py",
    ),
    *("tabnanny.py", "pyclbr.py", "zipapp.py", "msilib"),
    # What stands in where a module in C is missing; other systems; documents.
    *("_pydecimal.py", "_pyio.py", "_aix_support.py", "_osx_support.py", "ctypes/macholib"),
    *("xml/dom", "xml/sax", "plistlib.py", "webbrowser.py", "antigravity.py", "this.py"),
    # Tables of old character sets; UTF, ASCII, Latin-1 and those of zip files stay.
    *("encodings/cp[78]*", "encodings/cp1[01]*", "encodings/mac_*", "encodings/iso2022*"),
    *("encodings/iso8859_[2-9]*", "encodings/iso8859_1[0-6]*", "encodings/koi8*"),
    *("encodings/euc_*", "encodings/big5*", "encodings/gb*", "encodings/shift_jis*"),
    *("encodings/johab*", "encodings/hz*", "encodings/ptcp154*", "encodings/tis_620*"),
    *("encodings/hp_roman8*", "encodings/kz1048*", "encodings/palmos*"),
)


def main() -> None:
    """Read the arguments, fill the layer, write down its contents."""
    import contents  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description="Copy what an image layer needs, and no more.")
    add = parser.add_argument
    add("out", type=Path, help="the new layer, whose name is the folder's")
    add("--on", type=Path, action="append", default=[], help="a lower layer")
    add("--python", action="store_true", help="add this Python, less what servers do not use")
    add("--packages", type=Path, help="where pip put wheels")
    add("--libs", action="append", default=[], help="FOLDER:DESTINATION of libraries")
    add("--without", action="append", default=[], help="glob of paths to leave out")
    add("--opened", action="append", default=[], help="glob of libraries opened at run time")
    add("--strip", action="store_true", help="take symbols for debuggers out of ELF files")
    add("--no-data", default="", help="glob of ICU's data libraries, whose tables nobody reads")
    add("--driver", action="append", default=[], help="glob of libraries that the host brings")
    add("copies", nargs="*", metavar="SOURCE:DESTINATION")
    args = parser.parse_intermixed_args()
    libs = [(Path(source), into) for source, into in map(_pair, args.libs)]
    layer = Layer(args.out, args.on, libs, args.driver)
    if args.python:
        _add_python(layer)
    for source, destination in map(_pair, args.copies):
        matches = sorted(Path("/").glob(source.lstrip("/")))
        if not matches:
            sys.exit(f"slim: {source}: no such file")
        for match in matches:
            inside = destination + match.name if destination.endswith("/") else destination
            layer.copy(match, inside, args.without)
    for pattern in args.opened:
        layer.add_opened(pattern)
    layer.add_libraries()
    if args.strip:
        _strip(layer, args.no_data)
    _compile(args.out)
    contents.write(args.out, layer.sources, args.packages)


def _pair(text: str) -> tuple[str, str]:
    """SOURCE:DESTINATION, both absolute; SITE is where this Python finds packages."""
    site = sysconfig.get_path("purelib")
    source, _, destination = text.replace("SITE", site).partition(":")
    if not (source.startswith("/") and destination.startswith("/")):
        sys.exit(f"slim: {text}: write /SOURCE:/DESTINATION")
    return source, destination


class Layer:
    """A folder that becomes one image layer; `sources` says where each of its files is from."""

    def __init__(
        self,
        out: Path,
        lower: Sequence[Path],
        libs: Sequence[tuple[Path, str]],
        driver: Sequence[str],
    ) -> None:
        self.out = out
        self.sources: dict[Path, Path] = {}
        self._layers = (out, *lower)
        self._libs = libs
        self._driver = driver
        self._system = list(_loader_folders(Path("/etc/ld.so.conf")))
        out.mkdir(parents=True, exist_ok=True)
        for name in ("lib", "lib64", "bin", "sbin"):
            # Debian and Ubuntu keep these as links into /usr, and ELF files name them.
            link = Path("/", name)
            if link.is_symlink() and not any((low / name).is_symlink() for low in self._layers):
                (out / name).symlink_to(str(link.readlink()).lstrip("/"))

    def copy(self, source: Path, destination: str, without: Sequence[str] = ()) -> None:
        """Copy a file, or a folder less what `without` matches (paths below that folder)."""
        if not source.is_dir():
            self.add(source, destination)
            return
        for folder, folders, names in os.walk(source):
            here = Path(folder).relative_to(source)
            folders[:] = sorted(n for n in folders if not _left_out(here / n, without))
            for name in sorted(names):
                path = Path(folder, name)
                if not _left_out(here / name, without) and path.exists():
                    self.add(path, f"{destination}/{here / name}")

    def add(self, source: Path, destination: str) -> None:
        """Copy one file; a link becomes what it points to."""
        target = self.out / os.path.normpath(destination).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with source.open("rb") as file:  # wheels do not keep the permission
            runs = source.stat().st_mode & 0o100 or file.read(4).startswith(_PROGRAM)
        target.chmod(0o755 if runs else 0o644)
        self.sources[target] = source

    def add_opened(self, pattern: str) -> None:
        """Copy libraries that programs open by name, so that no ELF file tells of them."""
        for folder in self._system:
            for path in sorted(folder.glob(pattern)) if folder.is_dir() else ():
                destination = str(real(path))
                if not any((low / destination.lstrip("/")).exists() for low in self._layers):
                    self.add(path, destination)

    def add_libraries(self) -> None:
        """Copy what the ELF files need, and what that needs, until nothing is missing."""
        todo: list[tuple[Path, tuple[str, ...]]] = [(path, ()) for path in self.sources.values()]
        missing = set()
        while todo:
            source, inherited = todo.pop()
            names, rpath, runpath = needed(source)
            # As the loader does it: an RPATH counts for the libraries below, a RUNPATH does not.
            inherited = (*rpath, *inherited)
            for name in names:
                if any(fnmatch.fnmatch(name, pattern) for pattern in self._driver):
                    continue
                found = self.find(name, runpath or inherited)
                if found is None:
                    missing.add(f"{name}, needed by {source}")
                    continue
                library, destination = found
                if not any((low / destination.lstrip("/")).exists() for low in self._layers):
                    self.add(library, destination)
                    todo.append((library, inherited))
        if missing:
            listed = "\n  ".join(sorted(missing))
            sys.exit(f"slim: libraries that this stage lacks:\n  {listed}")

    def find(self, name: str, run_paths: Sequence[str] = ()) -> tuple[Path, str] | None:
        """Where a library is and where it goes: the loader's order, then the --libs folders."""
        if name.startswith("/"):
            return Path(name), str(real(Path(name)))
        folders = [*map(Path, run_paths), *(source for source, _ in self._libs), *self._system]
        for folder in folders:
            path = Path(os.path.normpath(folder), name)
            if path.exists():
                for target, source in self.sources.items():
                    if source == path:
                        return path, f"/{target.relative_to(self.out)}"
                for source, destination in self._libs:
                    if path.parent == source:
                        return path, f"{destination}/{name}"
                return path, str(real(path))
        return None


def needed(path: Path) -> tuple[list[str], list[str], list[str]]:
    """(libraries and the interpreter, RPATH, RUNPATH) of an ELF file; nothing for other files."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    names: list[str] = []
    paths: dict[str, list[str]] = {"DT_RPATH": [], "DT_RUNPATH": []}
    with path.open("rb") as file:
        if file.read(4) != _PROGRAM[0]:
            return [], [], []
        try:
            elf = ELFFile(file)
            if elf.header.e_machine != _machine():
                return [], [], []  # for another processor, a DSP: its own loader resolves it
            dynamic = elf.get_section_by_name(".dynamic")
            for tag in dynamic.iter_tags() if dynamic else ():
                if tag.entry.d_tag == "DT_NEEDED":
                    names.append(tag.needed)
                elif tag.entry.d_tag in paths:
                    text = getattr(tag, tag.entry.d_tag[3:].lower())
                    for variable in ("${ORIGIN}", "$ORIGIN"):
                        text = text.replace(variable, str(path.parent))
                    paths[tag.entry.d_tag] = text.split(":")
            names += [segment.get_interp_name() for segment in elf.iter_segments("PT_INTERP")]
        except ELFError as error:
            sys.exit(f"slim: {path}: not a whole ELF file: {error}")
    return names, paths["DT_RPATH"], paths["DT_RUNPATH"]


@cache
def _machine() -> str:
    """The processor that this Python is for, in ELF's words."""
    from elftools.elf.elffile import ELFFile

    with Path(sys.executable).resolve().open("rb") as file:
        return str(ELFFile(file).header.e_machine)


def real(path: Path) -> Path:
    """A path whose folders are no links; the file's own name stays."""
    return path.parent.resolve() / path.name


def _loader_folders(config: Path) -> Iterator[Path]:
    """The folders of ld.so.conf and its includes, then the loader's own."""
    yield from _configured(config)
    yield from map(Path, ("/usr/local/lib", "/lib", "/usr/lib", "/lib64", "/usr/lib64"))


def _configured(config: Path) -> Iterator[Path]:
    for line in config.read_text().splitlines() if config.exists() else ():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for included in sorted(config.parent.glob(os.path.relpath(words[1], config.parent))):
                yield from _configured(included)
        else:
            yield from map(Path, words)


def _left_out(path: Path, without: Iterable[str]) -> bool:
    """Whether a glob matches the path, or its last part where the glob has no slash."""
    return any(
        fnmatch.fnmatch(str(path), glob) or ("/" not in glob and fnmatch.fnmatch(path.name, glob))
        for glob in without
    )


def _add_python(layer: Layer) -> None:
    """Add the Python that runs this: interpreter, shared library, and the library less extras."""
    interpreter = Path(sys.executable).resolve()
    layer.add(interpreter, str(interpreter))
    for folder in sorted({str(interpreter.parent), "/usr/bin"}):
        link = layer.out / folder.lstrip("/") / "python3"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(interpreter)
    library = Path(sysconfig.get_path("stdlib"))
    layer.copy(library, str(real(library)), UNUSED_PYTHON)
    # Python may be a static program beside its library, which embedders need; libgcc_s is opened
    # by the C library when a thread is cancelled. No file names either.
    for name in (sysconfig.get_config_var("INSTSONAME"), "libgcc_s.so.1"):
        found = layer.find(name)
        if found is None:
            sys.exit(f"slim: {name} is missing; install it in the base image")
        layer.add(*found)


def _strip(layer: Layer, no_data: str) -> None:
    import elf  # type: ignore[import-not-found]

    for path in layer.sources:
        if no_data and fnmatch.fnmatch(path.name, no_data):
            elf.empty_icu_data(path)
        elf.strip(path)


def _compile(out: Path) -> None:
    """Compile every .py; no times go into the result, so that it depends on the source alone."""
    compileall.compile_dir(
        out,
        quiet=2,  # files for other Python versions, and templates, do not compile: they stay
        stripdir=str(out),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=1,
    )


if __name__ == "__main__":
    main()
