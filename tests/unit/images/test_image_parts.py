"""Images without an engine: layers, closures, trust, sizes, names, pins."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import ImageError, SpecError, TrustError, UsageError
from repo_builder.images import (
    build,
    context,
    engine,
    layers,
    manifest,
    pins,
    sizes,
    stages,
    trust,
)
from repo_builder.images.inside import check

INSIDE = Path(check.__file__).parent


def test_a_layer_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    files = {"2/model.onnx": tmp_path / "a", "config.pbtxt": b"name"}
    first = layers.of_files("m", "models/m", files)
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o600)
    again = layers.of_files("m", "models/m", dict(reversed(files.items())))
    assert first.diff_id == again.diff_id
    tar = b"".join(first.chunks())
    assert (len(tar), first.content) == (first.size, 1004)
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        members = found.getmembers()
    assert [m.name for m in members] == [
        *("models", "models/m", "models/m/2", "models/m/2/model.onnx", "models/m/config.pbtxt")
    ]
    assert {(m.mtime, m.uid, m.gid) for m in members} == {(0, 0, 0)}
    assert {m.mode for m in members} == {0o755, 0o644}


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    layer = layers.of_files("m", "m", {"a": path})
    chunks = layer.chunks()
    next(chunks), next(chunks)
    path.write_bytes(b"123")
    with pytest.raises(ImageError, match="changed while"):
        list(chunks)


def test_a_layer_written_anew_has_no_times(tmp_path: Path) -> None:
    made = []
    for mtime in (1, 2_000_000_000):
        source = tmp_path / f"{mtime}.tar"
        with tarfile.open(source, "w") as tar:
            for name in ("b", "a") if mtime == 1 else ("a", "b"):
                info = tarfile.TarInfo(name)
                info.mtime, info.uname, info.size = mtime, "me", 1
                tar.addfile(info, io.BytesIO(b"x"))
        with tarfile.open(source) as tar:
            layers.normalize(tar, tmp_path / "out.tar")
        made.append((tmp_path / "out.tar").read_bytes())
    assert made[0] == made[1]


def slim(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, INSIDE / "slim.py", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_closure_is_what_the_loader_loads(tmp_path: Path) -> None:
    done = slim(tmp_path / "out", "/usr/bin/tar:/usr/bin/")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["ldd", "/usr/bin/tar"], capture_output=True, text=True, check=True)
    wanted = {Path(word).name for word in listed.stdout.split() if word.startswith("/")}
    found = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert wanted <= found
    contents = json.loads((tmp_path / "out/usr/share/repo-builder/contents/out.json").read_text())
    assert any(purl.startswith("pkg:deb/") and "/tar@" in purl for purl in contents)
    upper = slim(tmp_path / "upper", "--on", tmp_path / "out", "/usr/bin/tar:/opt/")
    assert upper.returncode == 0, upper.stderr
    assert not list((tmp_path / "upper").rglob("libc.so*"))


def test_a_library_that_nobody_has_stops_the_build(tmp_path: Path) -> None:
    program = tmp_path / "program"
    content = Path("/usr/bin/tar").read_bytes()
    program.write_bytes(content.replace(b"libc.so.6\0", b"libx.so.6\0"))
    done = slim(tmp_path / "out", f"{program}:/usr/bin/program")
    assert done.returncode == 1
    assert f"libx.so.6, needed by {program}" in done.stderr
    assert slim(tmp_path / "o2", "--driver", "libx*", f"{program}:/usr/bin/program").returncode == 0
    program.write_bytes(content[:100])
    assert "not a whole ELF file" in slim(tmp_path / "o3", f"{program}:/usr/bin/program").stderr


def test_what_stands_for_the_shell_runs_one_thing(tmp_path: Path) -> None:
    shell = INSIDE / "exec_only.py"
    for command in ("id", "/bin/ls", "exec /bin/ls", "/opt/tritonserver/backends/../../x; id"):
        done = subprocess.run(
            [sys.executable, shell, "-c", command], capture_output=True, check=False
        )
        assert done.returncode == 1, (command, done)
    assert not list(tmp_path.iterdir())


def test_signatures_of_one_library_hold_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPO_BUILDER_KEYS", str(tmp_path))
    key = trust.new_key("a")
    assert key.private.stat().st_mode & 0o077 == 0
    envelope = tmp_path / "m.sig"
    envelope.write_bytes(key.sign(b"manifest"))
    trusted = trust.public_keys()
    assert check.signature(b"manifest", envelope, trusted) == []
    assert "does not fit" in check.signature(b"manifesT", envelope, trusted)[0]
    assert "not trusted" in check.signature(b"manifest", envelope, {"other": b""})[0]
    assert "not signed" in check.signature(b"manifest", tmp_path / "none", trusted)[0]
    envelope.write_bytes(b"[]")
    assert "damaged" in check.signature(b"manifest", envelope, trusted)[0]
    with pytest.raises(UsageError, match="never replaced"):
        trust.new_key("a")
    with pytest.raises(UsageError, match="did you mean 'a'"):
        trust.key("aa")
    (tmp_path / "bad.pub").write_text("-----BEGIN\nAAAA\n-----END\n")
    with pytest.raises(UsageError, match="not a public key"):
        trust.public_keys([tmp_path / "bad.pub"])


def models(tmp_path: Path, **files: bytes) -> bytes:
    from repo_builder.base import digest

    records: dict[str, dict[str, dict[str, list[object]]]] = {"m": {"files": {}}}
    for name, content in files.items():
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(content)
        records["m"]["files"][name] = [digest.of_bytes(content), len(content)]
    return json.dumps({"models": records}).encode()


def test_models_are_checked_for_changed_missing_and_foreign_files(tmp_path: Path) -> None:
    text = models(tmp_path, a=b"1", b=b"2", c=b"3")
    assert check.models(text, tmp_path) == []
    (tmp_path / "m" / "a").write_bytes(b"9")
    (tmp_path / "m" / "b").unlink()
    (tmp_path / "m" / "c").unlink()
    (tmp_path / "m" / "c").symlink_to("/etc/passwd")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "x").touch()
    problems = check.models(text, tmp_path)
    assert [p.split(":")[0] for p in problems] == ["m/b", "extra/x", "m/a", "m/c"]
    assert "not a regular file" in problems[-1]
    assert "damaged" in check.models(b"{", tmp_path)[0]


def planned(tmp_path: Path) -> tuple[bytes, Path]:
    """The manifest of a model that asks for a plan, and a folder where it was made since."""
    from repo_builder.base import digest

    text = models(tmp_path, **{"model.onnx": b"source", "tensorrt.json": b"{}"})
    (tmp_path / "m" / "model.plan").write_bytes(b"plan")
    record = {"record": {"model": digest.of_bytes(b"source")}}
    (tmp_path / "m" / "portability.json").write_text(json.dumps(record))
    return text, tmp_path


def test_plans_made_later_are_checked_as_models_are(tmp_path: Path) -> None:
    text, folder = planned(tmp_path)
    made = check.record_plans(text, folder)
    assert set(check.files_made(made)) == {"m/model.plan", "m/portability.json"}
    assert check.models(text, folder, made) == []
    assert "m/model.plan: not in the manifest" in check.models(text, folder)
    (folder / "m" / "model.plan").write_bytes(b"another")
    assert "m/model.plan: sha256" in check.models(text, folder, made)[0]
    (folder / "m" / "model.plan").unlink()
    assert check.models(text, folder, made) == ["m/model.plan: missing"]


def test_plans_json_can_add_plans_of_these_models_and_nothing_else(tmp_path: Path) -> None:
    text, folder = planned(tmp_path)
    made = json.loads(check.record_plans(text, folder))

    def problems(**changed: object) -> list[str]:
        return check.plans(text, folder, json.dumps({**made, **changed}).encode())

    assert problems() == []
    for name in ("m/model.py", "m/model.onnx", "other/model.plan", "../m/model.plan", "model.plan"):
        assert problems(files={name: ["", 0]}) == [f"{name}: plans.json may not add it"]
    assert problems(manifest="0") == ["plans.json belongs to another manifest"]
    assert "damaged" in problems(files=[])[0]
    (folder / "m" / "portability.json").write_text('{"record": {"model": "0"}}')
    assert problems() == ["m/portability.json: the plan was built from another model"]


def test_a_stage_is_sent_with_what_it_needs_and_no_more() -> None:
    text = (
        "ARG BASE=x\nFROM ${BASE} AS server\nRUN a\n# note\nFROM server AS slim\nRUN b\n"
        "FROM scratch AS runtime\nCOPY --from=slim /out /\nFROM server AS plan1\nRUN c\n"
        "FROM scratch AS plans\nCOPY --from=plan1 /m /m\nFROM runtime\nCOPY --from=plans / /\n"
    )
    found = stages.needed(text, stages.PLANS)
    assert found.startswith("ARG BASE=x\nFROM ${BASE} AS server\n")
    assert [line.split()[-1] for line in found.splitlines() if line.startswith("FROM")] == [
        *("server", "plan1", "plans")
    ]
    assert "RUN b" in stages.needed(text, stages.RUNTIME)
    assert "RUN c" not in stages.needed(text, stages.RUNTIME)


def test_what_builds_plans_runs_on_python_alone(tmp_path: Path) -> None:
    """As in its stage: from copied files, without any package."""
    context._fill_compiler(tmp_path, [])
    command = [sys.executable, "-I", "-S", "-c"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['m', 'c']\n"
    code += "from repo_builder.trt import __main__ as program; program.main()"
    done = subprocess.run([*command, code], capture_output=True, text=True, check=False)
    if done.returncode == 4:
        pytest.skip("this machine has an NVIDIA GPU")
    assert (done.returncode, "no NVIDIA driver here" in done.stderr) == (2, True), done.stderr


def test_a_folder_that_may_not_be_read_does_not_pass_for_an_empty_one(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import check\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "check.trusted_keys(Path(sys.argv[2]))\n"
    )
    (tmp_path / "trusted").mkdir(mode=0o000)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, INSIDE, tmp_path / "trusted"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in done.stderr


def test_verifying_a_folder_names_all_problems(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = models(tmp_path / "models", a=b"1", b=b"2")
    (tmp_path / "manifest.json").write_bytes(text)
    trust.verify_folder(tmp_path, {})
    (tmp_path / "models" / "m" / "a").unlink()
    (tmp_path / "models" / "m" / "b").unlink()
    with pytest.raises(TrustError) as caught:
        trust.verify_folder(tmp_path, {})
    assert [p.what for p in caught.value.problems] == ["m/a: missing", "m/b: missing"]


def model(name: str, version: str, size: int) -> manifest.Model:
    return manifest.Model(name, version, "", {"f": size}, {})


def test_a_release_only_moves_a_model_up() -> None:
    before = sorted(
        [model("a", "1.0.0", 10), model("b", "1.2.0", 5), model("c", "1.0.0", 10_000)],
        key=lambda m: m.rank,
    )
    assert [m.name for m in before] == ["c", "a", "b"]
    after = sorted([*before[1:], model("c", "1.0.1", 10_000)], key=lambda m: m.rank)
    assert [m.name for m in after] == ["a", "c", "b"]


def test_a_difference_counts_by_digest_and_by_chain() -> None:
    def stack(*names: str) -> list[sizes.LayerSize]:
        return [sizes.LayerSize(name, name, 2, 1) for name in names]

    found = sizes.difference(stack("base", "a", "b", "m"), stack("base", "a2", "b", "m2"))
    assert (found.by_digest, found.by_chain) == (2, 3)
    assert [new for _, new in found.layers] == [False, True, False, True]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("models/digits/1/model.onnx", "model digits"),
        ("opt/tritonserver/lib/libtritonserver.so", "server libraries"),
        ("opt/tritonserver/backends/python/stub", "backend python"),
        ("opt/tritonserver/bin/tritonserver", "server"),
        ("usr/local/lib/python3.11/dist-packages/numpy/core/x.so", "package numpy"),
        ("usr/lib/python3.11/os.py", "Python"),
        ("usr/bin/python3.11", "Python"),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", "system libraries"),
        ("etc/passwd", "checks and settings"),
    ],
)
def test_every_file_is_part_of_something(path: str, part: str) -> None:
    assert sizes.part(path) == part


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b", ("a/b", "")),
        ("localhost:5000/a:1.0-x", ("localhost:5000/a", "1.0-x")),
        ("Registry.example:5000/a/b_c", ("Registry.example:5000/a/b_c", "")),
    ],
)
def test_image_names_are_split(name: str, parts: tuple[str, str]) -> None:
    assert build.split_name(name) == parts


@pytest.mark.parametrize("name", ["", "A", "a//b", "a:", "a:x y", "a:-x", "/a", "a/" + "b" * 255])
def test_bad_image_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        build.split_name(name)


def test_the_pins_agree_with_the_targets() -> None:
    table, catalog = pins.load(Path(pins.SHIPPED)), targets.load()
    for name, entry in table.targets.items():
        served = [image.reference for image in catalog[name].images if image.use == "serve"]
        assert not served or table.families[entry.family].base in served, name
        machines = {platform.partition("/")[2] for platform in entry.platforms}
        assert machines <= set(catalog[name].architectures), name


def test_own_pins_are_laid_over_and_their_mistakes_named(tmp_path: Path) -> None:
    own = tmp_path / "pins.yaml"
    pins.write_bases(own, {"cpu": "x@sha256:1"})
    pins.write_bases(own, {"jetson": "y@sha256:2"})
    table = pins.load(own)
    assert (table.families["cpu"].base, table.families["jetson"].base) == (
        "x@sha256:1",
        "y@sha256:2",
    )
    assert table.families["cpu"].packages
    own.write_text("families: {cpu: {bse: x}}\n")
    with pytest.raises(SpecError) as caught:
        pins.load(own)
    assert caught.value.problems[0].line == 1
    with pytest.raises(UsageError, match="has no image"):
        pins.load(Path(pins.SHIPPED)).family("ethos-u55")


def test_an_engine_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    class Old(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ApiVersion": "1.40", "Version": "19.03", "MinAPIVersion": "1.12"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Old)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(ImageError, match=r"speaks API 1.40, and 1.41 is needed"):
            engine.connect()
    finally:
        server.shutdown()
        server.server_close()
