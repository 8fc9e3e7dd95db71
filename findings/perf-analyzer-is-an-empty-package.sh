#!/bin/sh
# perf-analyzer, the load generator of Triton, by pip on a system with glibc 2.36 (Debian 12).
# Guess: pip installs the tool, or says that there is no wheel for this system.
# Really: the releases that hold the tool have wheels for manylinux_2_38 alone. For an older system
# pip goes back to 0.1.0, an empty package that keeps the name, and reports success. (pip is told
# the system by name here, so that every machine shows the same.)
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
for glibc in 36 38; do
    venv/bin/pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --platform "manylinux_2_${glibc}_x86_64" --dest "glibc-2.$glibc" \
        "perf-analyzer<=2.60.0" || exit 2
done
venv/bin/python - <<'PY'
import importlib.metadata, pathlib, sys, zipfile

print("pip", importlib.metadata.version("pip"))
programs = {}
for folder in sorted(pathlib.Path().glob("glibc-*")):
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith("METADATA"))
        summary = [line for line in archive.read(about).decode().splitlines() if "Summary" in line]
    programs[folder.name] = [n for n in names if n.endswith("bin/perf_analyzer")]
    print(f"{folder.name}: {wheel.name}, {wheel.stat().st_size / 1e6:.3f} MB, {summary}")
    print(f"  the program in it: {programs[folder.name]}")
sys.exit(not (programs["glibc-2.38"] and not programs["glibc-2.36"]))
PY
