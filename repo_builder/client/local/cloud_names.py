"""Which cloud model stands behind each edge model, kept on the device for a start without the edge.

Only the edge's server says it (with the policy, in the model's config). A client that has never
reached that server since it was started can answer from the cloud all the same with what was
said last time.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

_log = logging.getLogger("repo_builder.client")


class CloudNames:
    """Names of cloud models by edge model, in a JSON file; thread-safe, any process may share it.

    A file that cannot be read or written costs no call: then it is as if nothing had been said.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._names = self._read()

    def cloud_model(self, name: str) -> str:
        """The cloud's name for the edge model `name` as it was said last, or ""."""
        return self._names.get(name, "")

    def remember(self, name: str, cloud_model: str) -> None:
        """The edge says that `cloud_model` ("": one of the same name) stands behind `name`."""
        if self._path is None or self._names.get(name, "") == cloud_model:
            return
        import tempfile  # seldom needed, and it would cost every start some milliseconds

        # Read anew: another process may have added its models.
        self._names = {**self._read(), name: cloud_model}
        text = json.dumps(self._names, indent=1, sort_keys=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".memory-", dir=self._path.parent) as folder:
                draft = Path(folder) / self._path.name
                draft.write_text(text, encoding="utf-8")
                draft.replace(self._path)
        except OSError as failure:
            _log.warning("%s: %s; a start without the edge will not know '%s'",
                         self._path, failure.strerror, cloud_model)  # fmt: skip

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_bytes()) if self._path else {}
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {k: v for k, v in found.items() if isinstance(v, str)}
