#!/bin/sh
# ml_dtypes: sum and mean of an array of bfloat16, to look at a tensor or to compare two of them.
# Guess: numpy adds up with more bits than the type has, or pairwise, so the mean of 1,000 ones is
# 1, as it is for float16.
# Really: each addition is rounded to the 8 bits of bfloat16, so the sum stands still at 256, and
# the mean is 0.256. A mean error that is computed so looks four times as good as it is, and a
# larger tensor looks better. Give dtype=np.float32.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check ml-dtypes==0.5.4 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import ml_dtypes, numpy as np


def looks(kind, count, **how):
    ones = np.ones(count, kind)
    total, mean = float(ones.sum(**how)), float(ones.mean(**how))
    print(f"{count} ones of {np.dtype(kind)} {how or ''}: sum {total}, mean {mean:.4f}")
    return total, round(mean, 2)


print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__)
right = [looks(np.float16, 1000), looks(ml_dtypes.bfloat16, 200),
         looks(ml_dtypes.bfloat16, 1000, dtype=np.float32)]
wrong = [looks(ml_dtypes.bfloat16, 1000), looks(ml_dtypes.bfloat16, 10_000)]
sys.exit((right, wrong) != ([(1000, 1), (200, 1), (1000, 1)], [(256, 0.26), (256, 0.03)]))
PY
