"""The entry point of an image: checks what Triton would load, then becomes Triton.

The first argument is Triton's executable; the rest goes to it. Keys in /etc/repo-builder/trusted
(baked in, or the device's own mounted over them) make a valid signature obligatory.
"""

import os
import sys
from pathlib import Path

HOME = Path("/etc/repo-builder")
MODELS = Path("/models")
# Builds TensorRT plans; here where the manifest has models that ask for it.
PROGRAM = Path(__file__).parent / "first-start"
STATE = Path("/var/cache/repo-builder")
REFUSED = 14


def main() -> None:
    """Refuse with a line per problem, or replace this process by Triton."""
    # `python -I` keeps the script's folder off sys.path.
    sys.path.insert(0, str(Path(__file__).parent))
    import check  # type: ignore[import-not-found]

    try:
        manifest = (HOME / "manifest.json").read_bytes()
        plans = (HOME / "plans.json").read_bytes() if (HOME / "plans.json").exists() else b""
        trusted = check.trusted_keys(HOME / "trusted")
        problems = check.signatures(manifest, plans, HOME, trusted)
        problems += check.models(manifest, MODELS, plans)
    except (OSError, ValueError) as error:
        problems = [str(error)]
    if problems:
        for problem in problems:
            print(f"refused: {problem}", file=sys.stderr)
        print(
            "refused: nothing was loaded; pull the image again, or build it again", file=sys.stderr
        )
        sys.exit(REFUSED)
    how = "signed, " if trusted else "unsigned, "
    print(f"models verified ({how}{len(manifest)} B of manifest)", file=sys.stderr, flush=True)
    command = sys.argv[1:]
    if PROGRAM.is_dir():
        import first_start  # type: ignore[import-not-found]

        command = first_start.begin(command, MODELS, STATE, PROGRAM)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
