#!/bin/sh
# Triton: going back to an older copy of a model, whose folder is a link that is put in its place.
# Guess: a load through the API loads what is there now, or says that it did not.
# Really: Triton compares the times of files with those of its last load. Where none is newer, as in
# a copy that was unpacked before, `load` answers 200 and does nothing: the newer model goes on
# answering. A file in it with a newer time makes it load.
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


def value():
    rows = {"name": "x", "datatype": "INT32", "shape": [1], "data": [0]}
    answer = ask("POST", "/v2/models/m/infer", json.dumps({"inputs": [rows]}))[1]
    return json.loads(answer)["outputs"][0]["data"][0]


for name, number, stamp in (("old", 1, 1_600_000_000), ("new", 2, 1_700_000_000)):
    pathlib.Path(name, "1").mkdir(parents=True)
    pathlib.Path(name, "config.pbtxt").write_text("""backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }""")
    pathlib.Path(name, "1", "model.py").write_text(f"""
import numpy, triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        y = pb.Tensor("y", numpy.array([{number}], numpy.int32))
        return [pb.InferenceResponse([y]) for _ in requests]""")
    for path in (pathlib.Path(name), *pathlib.Path(name).rglob("*")):
        os.utime(path, (stamp, stamp))
pathlib.Path("models").mkdir()
pathlib.Path("models/m").symlink_to(pathlib.Path("new").resolve())
log = open("log", "w")
triton = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
try:
    until = time.monotonic() + 60
    while ask("GET", "/v2/health/ready")[0] != 200:
        if triton.poll() is not None or time.monotonic() > until:
            print(open("log").read()), os._exit(2)
        time.sleep(0.1)
    print("Triton", json.loads(ask("GET", "/v2")[1])["version"], "model", value(), "answers")
    seen = [value()]
    pathlib.Path("next").symlink_to(pathlib.Path("old").resolve())
    pathlib.Path("next").replace("models/m")
    for touched in (False, True):
        if touched:
            later = time.time() + 60  # seconds: newer than whatever Triton looked at
            os.utime("old/1/model.py", (later, later))
        status = ask("POST", "/v2/repository/models/m/load")[0]
        seen.append(value())
        print(f"load of model 1, touched {touched}: status {status}, model {seen[-1]} answers")
finally:
    os.killpg(triton.pid, signal.SIGKILL)
sys.exit(seen != [2, 2, 1])
PY
