#!/bin/sh
# zstd: a new version of a model's weights, compressed with the old version at hand (a delta).
# Guess: the old file given as a dictionary or as a prefix is the same thing, since both are what
# matches may point into.
# Really: as a dictionary, at the levels that one can afford, hardly a match is found in weights
# that are equal but for one in 5,000, and the "delta" is the whole file; as a prefix, with the
# same parameters, it is a thousandth of it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    pyzstd==0.20.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, pyzstd
from pyzstd import CParameter, DParameter

weights = np.random.default_rng(0).normal(size=2_000_000).astype(np.float32)
changed = weights.copy()
changed[::5000] += 1
old, new = weights.tobytes(), changed.tobytes()
dictionary = pyzstd.ZstdDict(old, is_raw=True)


def part(level, how):
    """Size of the delta, in parts of the new file; it is unpacked again to be sure."""
    options = {
        CParameter.compressionLevel: level,
        CParameter.windowLog: 24,
        CParameter.enableLongDistanceMatching: 1,
    }
    delta = pyzstd.compress(new, options, getattr(dictionary, how))
    assert pyzstd.decompress(delta, getattr(dictionary, how), {DParameter.windowLogMax: 24}) == new
    return len(delta) / len(new)


print("pyzstd", pyzstd.__version__, "zstd", pyzstd.zstd_version)
same = True
for level in (1, 3):
    whole, delta = part(level, "as_undigested_dict"), part(level, "as_prefix")
    print(f"level {level}: {100 * whole:.2f} % as a dictionary, {100 * delta:.2f} % as a prefix")
    same = same and whole > 0.5 and delta < 0.01
sys.exit(not same)
PY
