#!/bin/sh
# Triton: the response cache, and requests that differ in their "parameters" alone.
# Guess: another temperature, seed or language, which the model reads there, is another request.
# Really: the key is made of the model, its version and its input tensors. The second request gets
# the answer to the first, as a success, and the model is not run.
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
           "--cache-config=local,size=1048576", f"--cache-directory={home}/caches",
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


def infer(x, **parameters):
    rows = {"name": "x", "datatype": "INT32", "shape": [1], "data": [x]}
    body = json.dumps({"inputs": [rows], "parameters": parameters})
    answer = json.loads(ask("POST", "/v2/models/m/infer", body)[1])
    answer = answer["outputs"][0]["data"][0]
    print(f"x {x}, parameters {parameters}: {answer}")
    return answer


pathlib.Path("models/m/1").mkdir(parents=True)
pathlib.Path("models/m/config.pbtxt").write_text("""backend: "python"
response_cache { enable: true }
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }""")
pathlib.Path("models/m/1/model.py").write_text("""
import json, triton_python_backend_utils as pb
class TritonPythonModel:
    def answer(self, request):
        x = pb.get_input_tensor_by_name(request, "x").as_numpy()
        factor = json.loads(request.parameters())["factor"]
        return pb.InferenceResponse([pb.Tensor("y", x * factor)])
    def execute(self, requests):
        return [self.answer(request) for request in requests]""")
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"])
    seen = [infer(5, factor=1), infer(5, factor=10), infer(6, factor=10), infer(5, factor=10)]
    counts = json.loads(ask("GET", "/v2/models/m/stats")[1])["model_stats"][0]["inference_stats"]
    hits, successes = (counts[key]["count"] for key in ("cache_hit", "success"))
    print(f"{hits} of {successes} from the cache")
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit((seen, hits, successes) != ([5, 5, 60, 5], 2, 4))
PY
