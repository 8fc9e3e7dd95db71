"""A stage of a pipeline, written by repo-builder: needs numpy, and Pillow where it reads images."""

import json
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .stage import Stage


class TritonPythonModel:
    """One instance; Triton's Python stub makes it and calls it."""

    def initialize(self, args):
        """Read what the stage needs from the version's folder."""
        self._inputs = [tensor["name"] for tensor in json.loads(args["model_config"])["input"]]
        try:
            self._stage = Stage(Path(args["model_repository"]) / args["model_version"])
        except ModuleNotFoundError as missing:
            raise pb_utils.TritonModelException(str(missing)) from None

    def execute(self, requests):
        """Answer each request by itself: an image that cannot be read fails only its own."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            feeds = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self._inputs
            }
            outputs = self._stage.run(feeds)
        except ValueError as failure:  # of what was sent
            error = pb_utils.TritonError(str(failure), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        except Exception as failure:  # noqa: BLE001 - Triton must get an answer whatever went wrong
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(failure)))
        wanted = request.requested_output_names()
        tensors = [pb_utils.Tensor(name, outputs[name]) for name in wanted]
        return pb_utils.InferenceResponse(output_tensors=tensors)
