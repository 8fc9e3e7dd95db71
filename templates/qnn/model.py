"""Serves a QNN context binary in Triton's python backend, through ONNX Runtime's QNN plugin.

On a Snapdragon its NPU answers; on x86-64 QNN's simulator does, for accuracy, never for speed. The
binary has one static shape: a request with more rows runs one block after another.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import onnxruntime_qnn as qnn
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Load `model.onnx`, which names the context binary beside it."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = ort.InferenceSession(str(folder / "model.onnx"), _options())
        config = json.loads(args["model_config"])
        self._batched = config["max_batch_size"] > 0
        self._inputs = {node.name: node.shape for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]
        for kind, known in (("input", self._inputs), ("output", self._outputs)):
            unknown = {port["name"] for port in config[kind]} ^ set(known)
            if unknown:
                raise pb_utils.TritonModelException(
                    f"config and context binary differ in {kind}s: {', '.join(sorted(unknown))}"
                )

    def execute(self, requests):
        """Answer each request; an error answers only its own."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            feeds = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self._inputs
            }
            outputs = self._run(feeds)
        except Exception as failure:  # noqa: BLE001 - Triton must get an answer whatever went wrong
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(failure)))
        wanted = request.requested_output_names()
        tensors = [pb_utils.Tensor(name, outputs[name]) for name in wanted]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _run(self, feeds):
        if not self._batched:
            return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        blocks = {name: shape[0] for name, shape in self._inputs.items()}
        counts = {len(feeds[name]) / block for name, block in blocks.items()}
        if len(counts) != 1 or not (count := counts.pop()).is_integer():
            raise ValueError(f"rows must be a multiple of {blocks}, the shape of the binary")
        runs = [
            self._session.run(
                self._outputs,
                {name: feeds[name][i * block : (i + 1) * block] for name, block in blocks.items()},
            )
            for i in range(int(count))
        ]
        return {
            name: np.concatenate([run[number] for run in runs])
            for number, name in enumerate(self._outputs)
        }


def _options():
    name = qnn.get_ep_name()
    ort.register_execution_provider_library(name, qnn.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(devices[:1], {"backend_path": qnn.get_qnn_htp_path()})
    return options
