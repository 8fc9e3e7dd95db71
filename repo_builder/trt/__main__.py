"""`python3 -m repo_builder.trt MODELS CACHE [STATUS TRITON]`: build the plans of a repository.

What a stage of an image runs, and a container at its first start, with nothing of this package but
what lies beside this file. The command line of devices is `repo-builder engines`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from repo_builder.base import console
from repo_builder.base.errors import MissingExtra, RepoBuilderError, UsageError
from repo_builder.trt import engine, first_start, probe
from repo_builder.trt.record import Device


def main() -> None:
    """Build the plans, or exit with one line that says what the stage lacks."""
    models, cache = map(Path, sys.argv[1:3])
    status, triton = (Path(sys.argv[3]), sys.argv[4]) if len(sys.argv) > 3 else (None, "")
    who = "the container" if triton else "builds of images"
    try:
        first_start.run(models, cache, status=status, triton=triton, find=lambda: _here(who))
    except MissingExtra:
        console.error(
            "python3 of the base image has no TensorRT module that loads; choose a base that has "
            "it, or pin the wheel of its version (docs/images.md, TensorRT)"
        )
        sys.exit(MissingExtra.exit_code)
    except RepoBuilderError as failure:
        console.error(str(failure))
        sys.exit(failure.exit_code)


def _here(who: str) -> Device:
    """This machine. Records name the module's version, and plans are tied to the library's."""
    probe.gpu(f"{who} must get the GPU (docs/images.md, TensorRT)")
    module, library = engine.version(), probe.library()
    if module.split(".")[:3] != library.split(".")[:3]:
        raise UsageError(
            f"the base image has TensorRT {library}, and its Python module is {module}; pin the "
            "wheel of that version (docs/images.md, TensorRT)"
        )
    return probe.device(module)


if __name__ == "__main__":
    main()
