#!/bin/sh
# safetensors: the same tensors with the same metadata, saved twice.
# Guess: equal bytes, so that a digest of the file names its content: the format is a header of JSON
# and the tensors as they are, and the tensors have a fixed order whatever order they are given in.
# Really: the header keeps metadata in a hash map with a seed of its own in each process, so with two
# keys or more the bytes differ from run to run. Put all you have to say into one key, as JSON.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check safetensors==0.8.0 numpy==1.26.4 || exit 2
cat > save.py <<'PY'
import hashlib, sys
import numpy as np
from safetensors.numpy import save

keys = sys.argv[1:]
content = save({"w": np.ones(2, np.float32)}, {key: "value" for key in keys})
print(hashlib.sha256(content).hexdigest()[:12], content[8:130].split(b',"w"')[0].decode())
PY
venv/bin/python -c "import safetensors, numpy; print('safetensors', safetensors.__version__)"
several=$(for _ in 1 2 3 4 5 6 7 8; do venv/bin/python save.py epoch seed net loss rate; done)
single=$(for _ in 1 2 3 4 5 6 7 8; do venv/bin/python save.py epoch; done)
echo "$several"
echo "$single" | sort | uniq -c
test "$(echo "$several" | sort -u | wc -l)" -gt 1 || exit 1
test "$(echo "$single" | sort -u | wc -l)" -eq 1 || exit 1
