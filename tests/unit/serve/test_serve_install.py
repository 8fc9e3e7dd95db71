"""Which Triton is found, and the backend directory that is put together for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repo_builder.base.errors import ServeError
from repo_builder.serve import install

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation as NVIDIA's images have it, with a C++ onnxruntime backend and python."""
    files = {
        "bin/tritonserver": b"",
        "backends/onnxruntime/libtriton_onnxruntime.so": b"",
        "backends/python/libtriton_python.so": b"",
        f"backends/python/{install.STUB}": b"statically linked",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_ours_stand_in_only_where_a_backend_is_missing(prefix: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    assert install.find(prefix).prepare_backends(folder) == ["openvino"]
    assert (folder / "onnxruntime/libtriton_onnxruntime.so").is_file()
    assert not (folder / "onnxruntime/model.py").exists()
    assert sorted(path.name for path in (folder / "openvino").iterdir()) == [
        "bfloat16.py",
        "cpp_checks.py",
        "joined_requests.py",
        "model.py",
    ]


def test_the_executable_names_its_installation(prefix: Path) -> None:
    assert install.find(prefix / "bin/tritonserver") == install.find(prefix)


def test_a_stub_per_python_is_chosen(prefix: Path, tmp_path: Path) -> None:
    stub = prefix / "python_backend_stubs" / VERSION / install.STUB
    stub.parent.mkdir(parents=True)
    stub.write_bytes(b"")
    install.find(prefix).prepare_backends(tmp_path / "prepared")
    assert (tmp_path / "prepared/python" / install.STUB).samefile(stub)
    library = tmp_path / "prepared/python/libtriton_python.so"
    assert library.is_file()
    assert not library.is_symlink()


def test_no_stub_for_this_python(prefix: Path, tmp_path: Path) -> None:
    (prefix / "python_backend_stubs/3.1").mkdir(parents=True)
    with pytest.raises(ServeError, match=f"no Python stub for Python {VERSION}; it has 3.1"):
        install.find(prefix).prepare_backends(tmp_path / "prepared")


def test_a_stub_of_another_python(prefix: Path, tmp_path: Path) -> None:
    (prefix / "backends/python" / install.STUB).write_bytes(b"\0libpython3.1.so.1.0\0")
    with pytest.raises(ServeError, match=f"is built for Python 3.1 and this is {VERSION}"):
        install.find(prefix).prepare_backends(tmp_path / "prepared")


def test_ours_need_the_python_backend(prefix: Path, tmp_path: Path) -> None:
    (prefix / "backends/python").rename(prefix / "backends/other")
    with pytest.raises(ServeError, match="no python backend, so there is nothing to run openvino"):
        install.find(prefix).prepare_backends(tmp_path / "prepared")


def test_large_pages_unless_the_user_says_otherwise(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    found = install.find(prefix)
    assert found.environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    assert found.environment()["GLIBC_TUNABLES"] == ""
