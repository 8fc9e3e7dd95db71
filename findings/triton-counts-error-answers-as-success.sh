#!/bin/sh
# Triton: what its statistics call a success, for a model of the Python backend.
# Guess: a request that was answered with an error counts as failed ("fail" in the statistics), so
# the share of failures shows how a new version does.
# Really: an error that the model gives as its response, INTERNAL even, is a success, with its time
# among those of good answers. Only what execute() raises counts as failed.
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


for name, line in (
    ("answers", 'return [pb.InferenceResponse(error=pb.TritonError("no")) for _ in requests]'),
    ("raises", 'raise ValueError("no")'),
):
    pathlib.Path("models", name, "1").mkdir(parents=True)
    pathlib.Path("models", name, "config.pbtxt").write_text("""backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }""")
    pathlib.Path("models", name, "1", "model.py").write_text(f"""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        {line}""")
rows = {"name": "x", "datatype": "INT32", "shape": [1], "data": [0]}
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"])
    seen = []
    for name in ("answers", "raises"):
        body = json.dumps({"inputs": [rows]})
        statuses = {ask("POST", f"/v2/models/{name}/infer", body)[0] for _ in range(5)}
        (stats,) = json.loads(ask("GET", f"/v2/models/{name}/stats")[1])["model_stats"]
        counts = [stats["inference_stats"][key]["count"] for key in ("success", "fail")]
        seen.append((statuses, counts))
        print(f"{name} its errors: status {statuses}; {counts[0]} successes, {counts[1]} failures")
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit(seen != [({500}, [5, 0]), ({500}, [0, 5])])
PY
