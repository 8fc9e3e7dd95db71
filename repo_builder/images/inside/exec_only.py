#!/usr/bin/python3 -IS
"""Stands where `sh` and `bash` would: runs one program, and is no shell.

Triton's Python backend starts its stub with `sh -c "STUB> /dev/null 2>&1"`, to see whether it can,
and then with `bash -c " exec STUB ARGUMENTS"` (python_backend, src/stub_launcher.cc). That is all
this does; there is nothing else in the image to run, and no way to run it.
"""

import os
import sys

SILENT = "> /dev/null 2>&1"


def main() -> None:
    """Replace this process by the one program that `-c` names."""
    if len(sys.argv) != 3 or sys.argv[1] != "-c":
        sys.exit(f"{sys.argv[0]}: this image has no shell")
    command = sys.argv[2]
    if command.endswith(SILENT):
        command = command[: -len(SILENT)]
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    words = command.split()
    if words[:1] == ["exec"]:
        del words[0]
    if not words or not words[0].startswith("/opt/tritonserver/backends/"):
        sys.exit(f"{sys.argv[0]}: this image has no shell")
    os.execv(words[0], words)  # noqa: S606


if __name__ == "__main__":
    main()
