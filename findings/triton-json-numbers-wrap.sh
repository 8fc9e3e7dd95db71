#!/bin/sh
# Triton, HTTP with JSON: numbers that do not fit into the declared type of an input.
# Guess: they are refused, as 1.7 for an INT32 and -1 for a UINT8 are.
# Really: integers are cut to their low bits (300 for an INT8 is 44), 1e39 for an FP32 is infinite,
# and the model computes on. An answer that is infinite comes as the bare word Infinity, which is
# not JSON: Python's reader takes it, a strict one refuses the whole answer.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0 \
    numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import http.client, json, os, pathlib, shutil, signal, socket, subprocess, sys, sysconfig, time

site = pathlib.Path(sysconfig.get_path("purelib"))
home = site / "pytriton/tritonserver"
stub = home / f"python_backend_stubs/3.{sys.version_info.minor}/triton_python_backend_stub"
shutil.copytree(home / "backends/python", "backends/python")
shutil.copy(stub, "backends/python")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
command = [home / "bin/tritonserver", "--model-repository=models",
           "--backend-directory=backends", f"--http-port={port}",
           "--http-address=127.0.0.1", "--allow-grpc=0", "--allow-metrics=0"]
libraries = f"{site}/nvidia_pytriton.libs:{sysconfig.get_config_var('LIBDIR')}"
environment = {"LD_LIBRARY_PATH": libraries, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionRefusedError:  # it does not listen yet
        return 0, b""


def infer(kind, number):
    rows = {"name": "x", "datatype": kind, "shape": [1], "data": [number]}
    status, answer = ask("POST", f"/v2/models/{kind}/infer", json.dumps({"inputs": [rows]}))
    text = answer.decode()
    text = text[text.index('"data":[') + 8 : text.index("]}]}")] if status == 200 else text
    print(f"{kind} {number}: status {status}, {text}")
    return text if status == 200 else status


for kind in ("INT8", "UINT8", "INT32", "FP32"):
    pathlib.Path("models", kind, "1").mkdir(parents=True)
    pathlib.Path("models", kind, "config.pbtxt").write_text(f"""backend: "python"
input {{ name: "x" data_type: TYPE_{kind} dims: 1 }}
output {{ name: "y" data_type: TYPE_{kind} dims: 1 }}""")
    pathlib.Path("models", kind, "1", "model.py").write_text("""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("y", x)]) for x in tensors]""")
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"])
    refused = [infer("INT32", 1.7), infer("UINT8", -1)]
    cut = [infer("INT8", 300), infer("UINT8", 256), infer("INT32", 2**31), infer("FP32", 1e39)]
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit((refused, cut) != ([500, 500], ["44", "0", "-2147483648", "Infinity"]))
PY
