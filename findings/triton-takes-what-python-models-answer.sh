#!/bin/sh
# Triton: a model of the Python backend whose answer is not what its config.pbtxt declares.
# Guess: outputs are compared with the config, as inputs are, and an error names the difference.
# Really: another type and another shape go out with status 200. An output that is missing is left
# out, also where the request names it: status 200 and an empty list. One that the config does not
# know is dropped. Clients that read the config to make room for the answer find out.
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


def infer(model, **more):
    rows = {"name": "x", "datatype": "INT32", "shape": [1], "data": [0]}
    body = json.dumps({"inputs": [rows], **more})
    status, answer = ask("POST", f"/v2/models/{model}/infer", body)
    outputs = [(o["name"], o["datatype"], o["shape"]) for o in json.loads(answer)["outputs"]]
    print(f"{model}, asked {more or 'for all'}: status {status}, {outputs}")
    return status, outputs


for name, outputs in (
    ("other", '[("y", numpy.zeros((2, 3), numpy.float64)), ("z", one)]'),
    ("fewer", '[("y", one)]'),
    ("more", '[("y", one), ("z", one), ("w", one)]'),
):
    pathlib.Path("models", name, "1").mkdir(parents=True)
    pathlib.Path("models", name, "config.pbtxt").write_text("""backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }
output { name: "z" data_type: TYPE_INT32 dims: 1 }""")
    pathlib.Path("models", name, "1", "model.py").write_text(f"""
import numpy, triton_python_backend_utils as pb
one = numpy.ones(1, numpy.int32)
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor(*o) for o in {outputs}]) for _ in requests]""")
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"])
    seen = [infer("other"), infer("fewer"), infer("fewer", outputs=[{"name": "z"}]), infer("more")]
finally:
    os.killpg(triton.pid, signal.SIGKILL)
y, z = (("y", "INT32", [1]), ("z", "INT32", [1]))
wanted = [[("y", "FP64", [2, 3]), z], [y], [], [y, z]]
sys.exit(seen != [(200, outputs) for outputs in wanted])
PY
