#!/bin/sh
# tritonclient: float32 arrays that are sent to an input of type BF16.
# Guess: they are rounded to the nearest bfloat16, as ml_dtypes rounds.
# Really: the lower two bytes are cut off, so every number goes towards 0, by up to twice as much
# as rounding would change it: 1.999 is sent as 1.992. Errors do not cancel out: a sum over many
# positive numbers is too small by a quarter of a percent.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    "tritonclient[http]==2.69.0" ml-dtypes==0.5.4 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
from importlib.metadata import version
import ml_dtypes, numpy as np
from tritonclient.utils import serialize_bf16_tensor


def sent(x):
    return np.frombuffer(serialize_bf16_tensor(x).item(), ml_dtypes.bfloat16).astype(np.float32)


print("tritonclient", version("tritonclient"), "ml_dtypes", ml_dtypes.__version__)
few = np.array([1.5, 1.999, -1.999], np.float32)
rounded = few.astype(ml_dtypes.bfloat16).astype(np.float32)
print(f"{few}: rounded {rounded}, sent {sent(few)}")
many = (1 + np.random.default_rng(0).random(100_000)).astype(np.float32)
nearest = many.astype(ml_dtypes.bfloat16).astype(np.float32)
lost = [100 * float((x.astype(np.float64) - many).sum() / many.sum())
        for x in (nearest, sent(many))]
print(f"sum of {len(many)} from 1 to 2: rounded {lost[0]:+.4f} %, sent {lost[1]:+.4f} %")
right = rounded.tolist() == [1.5, 2, -2] and abs(lost[0]) < 0.01
sys.exit(not (right and sent(few).tolist() == [1.5, 1.9921875, -1.9921875] and lost[1] < -0.2))
PY
