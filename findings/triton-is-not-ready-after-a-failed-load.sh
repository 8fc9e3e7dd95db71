#!/bin/sh
# Triton: /v2/health/ready, which balancers and orchestrators ask, after one load that failed.
# Guess: a server that refuses a new model keeps serving, and keeps saying so: it is ready.
# Really: it serves every other model, and answers 400 to the question whether it is ready, until
# that model loads well. Unloading the model does not help. /v2/models/NAME/ready is right.
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
command = [home / "bin/tritonserver", "--model-repository=models", "--model-control-mode=explicit",
           "--load-model=m", "--backend-directory=backends", f"--http-port={port}",
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


def write(name, line):
    pathlib.Path("models", name, "1").mkdir(parents=True, exist_ok=True)
    pathlib.Path("models", name, "config.pbtxt").write_text("""backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }""")
    pathlib.Path("models", name, "1", "model.py").write_text(f"""class TritonPythonModel:
    def initialize(self, arguments):
        {line}
    def execute(self, requests):
        return []""")


def load(what, line=None):
    if line:
        write("n", line)
    status = ask("POST", f"/v2/repository/models/n/{what}")[0]
    server, model = (ask("GET", path)[0] for path in ("/v2/health/ready", "/v2/models/m/ready"))
    print(f"{what} n: status {status}; now the server is ready: {server}, model m: {model}")
    return status, server, model


write("m", "pass")
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"], "serves m")
    seen = [
        load("load", "raise ValueError(\"no such device\")"),
        load("unload"),
        load("load", "pass"),
    ]
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit(seen != [(400, 400, 200), (200, 400, 200), (200, 200, 200)])
PY
