"""Runs inside a Dockerfile's build stage: puts into a folder only what the image needs.

    slim.py OUT [options] SOURCE:DESTINATION...

Each source (a file, a folder or a glob) is copied below OUT to its destination, then every shared
library that the copied ELF files need, and that no lower layer has, is found as the dynamic loader
would find it and copied too. Afterwards .py files are compiled, so that a read-only image starts
as fast as a writable one, and `usr/share/repo-builder/contents/NAME.json` says which package each
byte came from. A library that nobody has is an error here, not at the first start on a device.

Needs Python 3.9 and pyelftools (a wheel beside this script serves).
"""

import argparse
import compileall
import fnmatch
import glob
import importlib.metadata
import json
import os
import platform
import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = glob.glob(str(Path(__file__).parent / "wheels" / "pyelftools-*.whl"))

from elftools.common.exceptions import ELFError  # noqa: E402
from elftools.elf.elffile import ELFFile  # noqa: E402

CONTENTS = "usr/share/repo-builder/contents"
# Of Python's own library: what no server needs, and what drags in databases or terminals.
UNUSED_PYTHON = (
    "__pycache__ test idlelib tkinter turtledemo turtle.py lib2to3 ensurepip pydoc_data pydoc.py "
    "distutils venv config-3* site-packages dist-packages sitecustomize.py curses dbm sqlite3 "
    "unittest doctest.py pdb.py LICENSE.txt EXTERNALLY-MANAGED "
    "lib-dynload/_test* lib-dynload/_xx* lib-dynload/xx* lib-dynload/_codecs_* lib-dynload/_curses* "
    "lib-dynload/_dbm* lib-dynload/_gdbm* lib-dynload/_sqlite3* lib-dynload/_tkinter* "
    "lib-dynload/nis* lib-dynload/ossaudiodev* lib-dynload/readline* lib-dynload/_crypt* "
    "lib-dynload/audioop*"
).split()


def main() -> None:
    """Read the arguments, fill the layer, write down its contents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the new layer; its name is the folder's")
    parser.add_argument("--on", type=Path, action="append", default=[], help="a lower layer")
    parser.add_argument("--python", action="store_true", help="add this Python, without extras")
    parser.add_argument("--packages", type=Path, help="where pip put wheels, to say what came from which")
    parser.add_argument("--libs", action="append", default=[], help="FOLDER:DESTINATION of libraries")
    parser.add_argument("--without", action="append", default=[], help="glob of paths to leave out")
    parser.add_argument("--driver", action="append", default=[], help="glob of libraries that the host brings")
    parser.add_argument("copies", nargs="*", metavar="SOURCE:DESTINATION")
    args = parser.parse_intermixed_args()
    layer = Layer(args.out, args.on, [pair(text) for text in args.libs], args.driver)
    if args.python:
        add_python(layer)
    for source, destination in map(pair, args.copies):
        matches = sorted(glob.glob(source))
        if not matches:
            sys.exit(f"slim: {source}: no such file")
        for match in matches:
            into = destination + os.path.basename(match) if destination.endswith("/") else destination
            layer.copy(Path(match), into, args.without)
    layer.add_libraries()
    compile_python(args.out)
    write_contents(layer, Owners(args.packages))


def pair(text: str) -> tuple:
    """SOURCE:DESTINATION, both absolute; SITE at its start is where this Python finds packages."""
    source, separator, destination = text.partition(":")
    destination = destination.replace("SITE", sysconfig.get_path("purelib"), 1)
    if not (separator and source.startswith("/") and destination.startswith("/")):
        sys.exit(f"slim: {text}: write /SOURCE:/DESTINATION")
    return source, destination


class Layer:
    """A folder that becomes one image layer, and where each of its files came from."""

    def __init__(self, out: Path, lower: list, libs: list, driver: list) -> None:
        self.out, self.lower, self.libs, self.driver = out, lower, libs, driver
        self.sources: dict = {}
        self.system = [Path(folder) for folder in loader_folders("/etc/ld.so.conf")]
        for name in ("lib", "lib64", "bin", "sbin"):
            # Debian and Ubuntu keep these as links into /usr; ELF files name them.
            if os.path.islink(f"/{name}") and not any((low / name).is_symlink() for low in lower):
                out.mkdir(parents=True, exist_ok=True)
                (out / name).symlink_to(os.readlink(f"/{name}").lstrip("/"))

    def copy(self, source: Path, destination: str, without: list) -> None:
        """Copy a file, or a folder less what `without` matches (paths below that folder)."""
        if not source.is_dir():
            self.add(source, destination)
            return
        for folder, folders, names in os.walk(source):
            here = Path(folder).relative_to(source)
            folders[:] = sorted(n for n in folders if not left_out(here / n, without))
            for name in sorted(names):
                path = Path(folder, name)
                if not left_out(here / name, without) and path.exists():
                    self.add(path, f"{destination}/{here / name}")

    def add(self, source: Path, destination: str) -> None:
        """Copy one file; links become what they point to."""
        target = self.out / os.path.normpath(destination).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with source.open("rb") as file:
            # Wheels do not keep the bit.
            program = source.stat().st_mode & 0o100 or file.read(4).startswith((b"\x7fELF", b"#!/"))
        target.chmod(0o755 if program else 0o644)
        self.sources[target] = source

    def add_libraries(self) -> None:
        """Copy what the ELF files need, and what that needs, until nothing is missing."""
        todo = [(target, source, ()) for target, source in self.sources.items()]
        missing = []
        while todo:
            target, source, inherited = todo.pop()
            names, rpath, runpath = needed(source)
            # As the loader: an RPATH also counts for the libraries below it, a RUNPATH does not.
            inherited = (*rpath, *inherited)
            for name in names:
                if any(fnmatch.fnmatch(name, pattern) for pattern in self.driver):
                    continue
                found = self.find(name, runpath or inherited)
                if found is None:
                    missing.append(f"{name}, needed by {source}")
                    continue
                library, destination = found
                path = self.out / destination.lstrip("/")
                if not any(layer.joinpath(destination[1:]).exists() for layer in (self.out, *self.lower)):
                    self.add(library, destination)
                    todo.append((path, library, inherited))
        if missing:
            sys.exit("slim: libraries that this stage lacks:\n  " + "\n  ".join(sorted(missing)))

    def find(self, name: str, run_paths: Sequence) -> "tuple | None":
        """Where a library is and where it goes: the loader's order, then the --libs folders."""
        if name.startswith("/"):
            return Path(name), real(name)
        for folder in [*run_paths, *(source for source, _ in self.libs), *self.system]:
            path = Path(os.path.normpath(folder), name)
            if path.exists():
                copied = [target for target, source in self.sources.items() if source == path]
                if copied:
                    return path, "/" + str(copied[0].relative_to(self.out))
                for source, destination in self.libs:
                    if str(path.parent) == source:
                        return path, f"{destination}/{name}"
                return path, real(str(path))
        return None


def needed(path: Path) -> tuple:
    """(libraries and the interpreter, RPATH, RUNPATH) of an ELF file; nothing for other files."""
    names: list = []
    paths: dict = {"DT_RPATH": [], "DT_RUNPATH": []}
    with path.open("rb") as file:
        if file.read(4) == b"\x7fELF":
            try:
                elf = ELFFile(file)
                dynamic = elf.get_section_by_name(".dynamic")
                for tag in dynamic.iter_tags() if dynamic else ():
                    if tag.entry.d_tag == "DT_NEEDED":
                        names.append(tag.needed)
                    elif tag.entry.d_tag in paths:
                        text = getattr(tag, tag.entry.d_tag[3:].lower())
                        text = text.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(path.parent))
                        paths[tag.entry.d_tag] = text.split(":")
                for segment in elf.iter_segments("PT_INTERP"):
                    names.append(segment.get_interp_name())
            except ELFError as error:
                sys.exit(f"slim: {path}: not a whole ELF file: {error}")
    return names, paths["DT_RPATH"], paths["DT_RUNPATH"]


def loader_folders(config: str) -> list:
    """The folders of ld.so.conf and its includes, then the loader's own."""
    folders = []
    if os.path.exists(config):
        for line in Path(config).read_text().splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["include"]:
                for included in sorted(glob.glob(words[1])):
                    folders += loader_folders(included)[:-4]
            elif words:
                folders += words
    return [*folders, "/usr/local/lib", "/lib", "/usr/lib", "/usr/lib64"]


def real(path: str) -> str:
    """A path whose folders are no links; the file's own name stays."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def left_out(path: Path, without: list) -> bool:
    """Whether a glob matches the path, or its last part where the glob has no slash."""
    return any(
        fnmatch.fnmatch(str(path), glob_) or ("/" not in glob_ and fnmatch.fnmatch(path.name, glob_))
        for glob_ in without
    )


def add_python(layer: Layer) -> None:
    """Add the Python that runs this: interpreter, shared library, and the library less extras."""
    interpreter = os.path.realpath(sys.executable)
    layer.add(Path(interpreter), interpreter)
    for folder in {os.path.dirname(interpreter), "/usr/bin"}:
        short = layer.out / folder.lstrip("/") / "python3"
        short.parent.mkdir(parents=True, exist_ok=True)
        short.symlink_to(interpreter)
    library = sysconfig.get_path("stdlib")
    layer.copy(Path(library), real(library), UNUSED_PYTHON)
    shared = sysconfig.get_config_var("INSTSONAME")
    # libgcc_s is opened by the C library when a thread is cancelled: no file names it.
    for name in (shared, "libgcc_s.so.1"):
        found = layer.find(name, [])
        if found is None:
            sys.exit(f"slim: {name} is missing; install it in the base image")
        layer.add(*found)


def compile_python(out: Path) -> None:
    """Compile every .py, so that the result depends on the source alone (no times in it)."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    ok = compileall.compile_dir(
        out, quiet=2, stripdir=str(out), prependdir="/", invalidation_mode=mode, workers=1
    )
    if not ok:
        print("slim: some files do not compile under this Python (templates, other versions)")


class Owners:
    """Which package a file came from: a wheel, a Debian package, or the base image itself."""

    def __init__(self, packages: "Path | None") -> None:
        self.by_path: dict = {}
        self.about: dict = {}
        for wheel in importlib.metadata.distributions(path=[str(packages)]) if packages else ():
            purl = f"pkg:pypi/{wheel.metadata['Name'].lower().replace('_', '-')}@{wheel.version}"
            licence = wheel.metadata.get("License-Expression") or wheel.metadata.get("License") or ""
            self.about[purl] = licence.strip().splitlines()[0][:80] if licence.strip() else ""
            for file in wheel.files or ():
                self.by_path[os.path.realpath(packages / file)] = purl
        versions = {}
        if os.path.exists("/var/lib/dpkg/status"):
            for block in Path("/var/lib/dpkg/status").read_text().split("\n\n"):
                fields = dict(l.split(": ", 1) for l in block.splitlines() if l[:1] > " " and ": " in l)
                versions[fields.get("Package")] = fields.get("Version"), fields.get("Architecture")
        for listing in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
            package = listing.stem.split(":")[0]
            version, architecture = versions.get(package, ("", ""))
            purl = f"pkg:deb/{distribution()}/{package}@{version}?arch={architecture}"
            for line in listing.read_text().splitlines():
                self.by_path.setdefault(real(line), purl)

    def of(self, source: Path) -> str:
        """The package URL of a file's owner."""
        for path in (real(str(source)), os.path.realpath(source)):
            if path in self.by_path:
                return self.by_path[path]
        if str(source).startswith(sys.prefix + "/") and "python" in str(source):
            return f"pkg:generic/python@{platform.python_version()}"
        return "pkg:generic/repo-builder" if str(source).startswith("/context/") else "pkg:generic/base"


def distribution() -> str:
    """`debian` or `ubuntu`, from os-release."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("ID="):
            return line[3:].strip('"')
    return "linux"


def write_contents(layer: Layer, owners: Owners) -> None:
    """Write files and bytes per package, for `images inspect` and the SBOM."""
    packages: dict = {}
    for target, source in sorted(layer.sources.items()):
        purl = owners.of(source)
        entry = packages.setdefault(purl, {"files": 0, "bytes": 0, "licence": owners.about.get(purl, "")})
        compiled = target.parent.glob(f"__pycache__/{target.stem}.*.pyc") if target.suffix == ".py" else ()
        for path in (target, *compiled):
            entry["files"] += 1
            entry["bytes"] += path.stat().st_size
    path = layer.out / CONTENTS / f"{layer.out.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(packages, indent=1, sort_keys=True) + "\n")
    total = sum(entry["bytes"] for entry in packages.values())
    print(f"slim: {layer.out.name}: {len(layer.sources)} files, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
