"""Runs inside a build stage: writes down the TensorRT plans that the stage has made.

    plans.py MANIFEST MODELS OUT

The manifest is older than the plans, so it cannot hold their digests. OUT holds them; the container
checks it before Triton starts, as it checks the manifest.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Write the record, or exit with what is wrong with the plans."""
    import check  # type: ignore[import-not-found]

    manifest, models, out = map(Path, sys.argv[1:])
    text = check.record_plans(manifest.read_bytes(), models)
    problems = check.plans(manifest.read_bytes(), models, text)
    if problems:
        sys.exit("\n".join(problems))
    out.write_bytes(text)


if __name__ == "__main__":
    main()
