"""What is read out of Triton's log."""

from __future__ import annotations

from pathlib import Path

from repo_builder.serve.log import LogReader, event, failures, no_stub

NOISE = 'E1124 05:48:18.785887 5278 server.cc:241] "CudaDriverHelper has not been initialized."\n'
NO_GPU = (
    'E1127 23:39:29.672598 16294 ensemble_scheduler.cc:1468] "unable to create stream for m: '
    'CUDA driver version is insufficient for CUDA runtime version"'
)
LOADING = 'I1124 05:48:18.787111 5278 model_lifecycle.cc:472] "loading: m:1"\n'
FAILED = (
    "E1124 05:48:10.270503 5230 model_lifecycle.cc:642] \"failed to load 'm' version 1: Internal: "
    r"TritonModelException: no such output\n\nAt:\n  /tmp/model.py(98): check" + '\\n"\n'
)
PORT = (
    'E1124 05:48:19.370409 5278 main.cc:245] "failed to start GRPC service: Unavailable - '
    "Socket '127.0.0.1:18001' already in use \"\n"
)
PROTOBUF = "[libprotobuf ERROR /tmp/a/text_format.cc:337] Error parsing text-format: 5:71: bad\n"
LAST = "error: creating server: Internal - failed to load all models\n"


def test_failures_are_tritons_own_words_without_noise() -> None:
    assert failures(NOISE + LOADING + FAILED + FAILED + LAST) == ["m: Internal: no such output"]
    assert failures(NOISE + PROTOBUF + LAST) == ["Error parsing text-format: 5:71: bad"]
    assert failures(NOISE + LAST) == ["creating server: Internal - failed to load all models"]
    assert failures(NOISE + PORT) == [
        "failed to start GRPC service: Unavailable - Socket '127.0.0.1:18001' already in use"
    ]


def test_a_stub_that_cannot_be_started_is_a_failure() -> None:
    lines = [
        "bash: -c: line 1: unexpected EOF while looking for matching `''",
        "/a/stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open",
    ]
    assert all(no_stub(line) for line in lines)
    assert not no_stub(LOADING)
    assert not no_stub("bash: warning: setlocale: LC_ALL: cannot change locale (xx)")
    assert failures(LOADING + "\n".join(lines)) == lines


def test_a_crash_without_an_error_shows_the_end_of_the_log() -> None:
    assert failures(LOADING + "Segmentation fault\n\n") == [
        LOADING.strip(),
        "Segmentation fault",
    ]


def test_events() -> None:
    assert event(LOADING.strip()) == "loading: m:1"
    assert event(NOISE.strip()) == ""
    assert event(NO_GPU) == ""
    assert event("| Model | Version |") == ""


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntw")
    reader = LogReader(log)
    assert reader.new_lines() == ["one"]
    assert reader.new_lines() == []
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert reader.new_lines() == ["two", "three"]
