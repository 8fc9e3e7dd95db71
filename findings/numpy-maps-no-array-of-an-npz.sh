#!/bin/sh
# NumPy: numpy.load("rows.npz", mmap_mode="r") of arrays that numpy.savez stored without compression.
# Guess: they are mapped, as those of a .npy file are: the bytes lie in the file as they are. So data
# larger than memory can be read row by row.
# Really: mmap_mode is taken and does nothing, without a word. The first row reads the whole array,
# and the second row reads it all again, since nothing is remembered. Unpack to .npy, then map those.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys, tracemalloc
import numpy as np

rows = np.zeros((4000, 4000), np.float32)
np.save("rows.npy", rows)
np.savez("rows.npz", rows=rows)
size = rows.nbytes
del rows


def cost(read):
    """The type that `read` gives a row of, and bytes taken for it on the way."""
    tracemalloc.start()
    array = read()
    row = array[7].copy()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return type(array).__name__, peak, row.nbytes


print("numpy", np.__version__, f"- an array of {size / 1e6:.0f} MB, one row of it")
stored = np.load("rows.npz", mmap_mode="r")
found = {
    "rows.npy": cost(lambda: np.load("rows.npy", mmap_mode="r")),
    "rows.npz": cost(lambda: stored["rows"]),
    "rows.npz, again": cost(lambda: stored["rows"]),
}
for name, (kind, peak, row) in found.items():
    print(f"{name}: {kind}, {peak / 1e6:.1f} MB taken for a row of {row / 1e3:.0f} kB")
mapped, first, again = found.values()
as_told = mapped[0] == "memmap" and mapped[1] < size / 50
sys.exit(not (as_told and all(f[0] == "ndarray" and f[1] >= size for f in (first, again))))
PY
