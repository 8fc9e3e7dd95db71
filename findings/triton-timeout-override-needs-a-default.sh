#!/bin/sh
# Triton: `allow_timeout_override: true` in the queue policy of a model's dynamic batcher.
# Guess: a request that says how long it may wait ("timeout", in microseconds) is refused then.
# Really: only where the policy has a default_timeout_microseconds too. A request may shorten the
# default alone, and without one (0, no limit) what it asks is passed over without a word: it waits
# for as long as the queue takes, and is computed although nobody waits for it any more.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0 \
    numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import http.client, json, os, pathlib, shutil, signal, socket, subprocess, sys, sysconfig
import threading, time

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


def infer(model, **parameters):
    rows = {"name": "x", "datatype": "INT32", "shape": [1, 1], "data": [0]}
    body = json.dumps({"inputs": [rows], "parameters": parameters})
    return ask("POST", f"/v2/models/{model}/infer", body)


HOUR = "default_timeout_microseconds: 3600000000"
for name, default in (("without", ""), ("with", HOUR)):
    pathlib.Path("models", name, "1").mkdir(parents=True)
    pathlib.Path("models", name, "config.pbtxt").write_text(f"""backend: "python" max_batch_size: 4
input {{ name: "x" data_type: TYPE_INT32 dims: 1 }}
output {{ name: "y" data_type: TYPE_INT32 dims: 1 }}
dynamic_batching {{ default_queue_policy {{ allow_timeout_override: true {default} }} }}""")
    pathlib.Path("models", name, "1", "model.py").write_text(f"""
import pathlib, time, triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        pathlib.Path("{os.getcwd()}/{name}-is-busy").touch()
        time.sleep(2)
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
    seen = []
    for name in ("without", "with"):
        first = threading.Thread(target=infer, args=[name])
        first.start()
        while not pathlib.Path(f"{name}-is-busy").exists():
            time.sleep(0.01)
        status, answer = infer(name, timeout=1000)  # behind the first, which takes two seconds
        first.join()
        seen.append(status)
        print(f"{name} a default, behind it, for 1 ms at most: {status} {answer.decode()}")
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit(seen != [200, 503])
PY
