"""Image files -> the input of a model, by the recipe of the model's spec."""

import json

import numpy as np
from PIL import Image  # noqa: F401 - where it is missing the load fails, not the first request

from .preprocess import Preprocess


class Stage:
    """`file` [rows, 1] -> the model's input [rows, ...], and `to_image` [rows, 4]."""

    def __init__(self, folder):
        said = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        self._recipe = Preprocess.from_json(json.dumps(said["recipe"]))
        self._dtype = np.dtype(said["dtype"])

    def run(self, feeds):
        """All outputs by name; ValueError names the row that is no image."""
        tensors, places = [], []
        for row, content in enumerate(feeds["file"].ravel()):
            try:
                tensor, place = self._recipe.sent(bytes(content), self._dtype)
            except ValueError as failure:
                raise ValueError(f"row {row}: {failure}") from None
            tensors.append(tensor)
            places.append(place)
        sizes = sorted({tensor.shape[1:] for tensor in tensors})
        if len(sizes) > 1:
            said = " and ".join(f"{width} x {height}" for height, width, _ in sizes[:2])
            raise ValueError(f"images of {said} pixels in one request; send them one by one")
        return {
            self._recipe.input: np.concatenate(tensors),
            "to_image": np.array(places, np.float32),
        }
