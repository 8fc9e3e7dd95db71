"""ELF files less what no loader reads: the same program, at the same addresses."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repo_builder.images.inside import elf


def test_a_stripped_library_answers_as_before(tmp_path: Path) -> None:
    """The wheels' own: shared libraries as patchelf leaves them, with segments behind symbols."""
    import numpy.linalg._umath_linalg as module
    import PIL._imaging as imaging

    for one in (module, imaging):
        source = Path(str(one.__file__))
        copy = tmp_path / source.name
        shutil.copyfile(source, copy)
        won = elf.strip(copy)
        assert won == source.stat().st_size - copy.stat().st_size
        assert won > 0
        assert elf.strip(copy) == 0  # nothing is left to take
        command = f"import importlib.util as u; s = u.spec_from_file_location({one.__name__!r}, "
        command += repr(str(copy)) + ")"
        command += "; print(len(dir(u.module_from_spec(s))))"
        env = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries(source)))}
        done = subprocess.run(
            [sys.executable, "-c", command], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 5


def libraries(source: Path) -> list[Path]:
    """The folders that auditwheel put beside the package: where a moved module finds its own."""
    return [path for path in source.parents[2].glob("*.libs") if path.is_dir()] + [
        path for path in source.parents[1].glob("*.libs") if path.is_dir()
    ]


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    for content in (b"", b"\x7fELF\x01\x01 of 32 bits", b"text"):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert elf.strip(path) == 0
        assert path.read_bytes() == content


def test_icu_data_is_emptied_and_still_found(tmp_path: Path) -> None:
    """Of the genuine library: its one symbol stays, with a table of contents of no entries."""
    import pytriton

    folder = Path(str(pytriton.__file__)).parents[1] / "nvidia_pytriton.libs"
    (source,) = folder.glob("libicudata*")
    copy = tmp_path / source.name
    shutil.copyfile(source, copy)
    elf.empty_icu_data(copy)
    assert elf.strip(copy) > 25e6
    data = ctypes.c_ubyte * 260
    found = data.in_dll(ctypes.CDLL(str(copy)), "icudt70_dat")
    length = found[0] + 256 * found[1]
    assert bytes(found[2:4]) == b"\xda\x27"
    assert bytes(found[length : length + 4]) == bytes(4)


def test_a_library_without_icu_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no ICU data"):
        elf.empty_icu_data(Path(sys.executable).resolve())
