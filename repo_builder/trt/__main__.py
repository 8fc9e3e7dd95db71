"""`python3 -m repo_builder.trt MODELS CACHE`: build the plans that a repository asks for.

What a stage of an image runs, with nothing of this package but what lies beside this file. The
command line of devices is `repo-builder engines`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from repo_builder import console
from repo_builder.errors import MissingExtra, RepoBuilderError, UsageError
from repo_builder.trt import engine, first_start, probe


def main() -> None:
    """Build the plans, or exit with one line that says what the stage lacks."""
    models, cache = map(Path, sys.argv[1:])
    try:
        probe.gpu("builds of images must get the GPU (docs/images.md, TensorRT)")
        _check_versions(engine.version(), probe.library())
        first_start.run(models, cache)
    except MissingExtra:
        console.error(
            "python3 of the base image has no TensorRT module that loads; choose a base that has "
            "it, or pin the wheel of its version (docs/images.md, TensorRT)"
        )
        sys.exit(MissingExtra.exit_code)
    except RepoBuilderError as failure:
        console.error(str(failure))
        sys.exit(failure.exit_code)


def _check_versions(module: str, library: str) -> None:
    """Records name the module's version, and plans are tied to that of the library."""
    if module.split(".")[:3] != library.split(".")[:3]:
        raise UsageError(
            f"the base image has TensorRT {library}, and its Python module is {module}; pin the "
            "wheel of that version (docs/images.md, TensorRT)"
        )


if __name__ == "__main__":
    main()
