"""The client's calls: infer, describe, close; each within one deadline.

No I/O: yields effects (see rules/effects.py), so that the rules hold for the synchronous and the
asynchronous client alike, and can be tested by a simulator.
"""

from __future__ import annotations

from repo_builder.client.calls.call import Call
from repo_builder.client.calls.context import Context
from repo_builder.client.errors import (
    ClientError,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from repo_builder.client.models.model import Model, version_number
from repo_builder.client.models.tensors import Inputs
from repo_builder.client.result import Result
from repo_builder.client.rules.effects import Acquire, Effects
from repo_builder.client.rules.failure import Failure


class Core(Context):
    """One client's calls and what they share; thread-safe."""

    def infer(
        self, model: str, inputs: Inputs, timeout: float | None, version: str
    ) -> Effects[Result]:
        """One call, within one deadline, behind the bulkhead."""
        started = self.clock()
        timeout = self.settings.limits.timeout if timeout is None else timeout
        try:
            if self.closed:
                raise Closed("the client was closed")
            if not self.bulkhead.try_acquire():
                yield from self._wait(timeout)
            try:
                call = Call(self, model, version_number(version), started, timeout)
                result = yield from call.run(inputs)
            finally:
                self.bulkhead.release()
        except ClientError as error:
            self.metrics.count("errors_total", (("model", model), ("error", type(error).__name__)))
            raise
        seconds = result.timings["total"] = self.clock() - started
        self.metrics.answered(model, result.source, result.sources, seconds)
        return result

    def close(self) -> Effects[None]:
        """No call may begin any more; leave nothing behind on the servers."""
        self.closed = True
        yield from self.regions.close()
        for store in (self.cache, self.spool):
            if store is not None:
                store.close()

    def describe(self, model: str, timeout: float | None, version: str = "") -> Effects[Model]:
        """What the edge, or else the cloud, says of `model`."""
        timeout = self.settings.limits.timeout if timeout is None else timeout
        deadline = self.clock() + timeout
        number = version_number(version)
        patient = self.cloud is None and self.settings.retry.patient
        found = yield from self.catalog.model(self.edge, model, number, deadline, patient)
        if isinstance(found, Failure) and self.cloud is not None:
            name = self.fallback.cloud_name(model, None)
            found = yield from self.catalog.model(self.cloud, name, "", deadline, False)
        if isinstance(found, Failure):
            kind = ModelNotFound if found.kind == "absent" else Unavailable
            servers = ", ".join(self.settings.edge.addresses)
            raise kind(f"model '{model}': edge ({servers}): {found}")
        return found

    def image_inputs(self, model: str, image: bytes, timeout: float | None) -> Effects[Inputs]:
        """The inputs that the model's spec makes of an encoded image."""
        from repo_builder.client.models.preprocess import Preprocess

        found = yield from self.describe(model, timeout)
        if not found.preprocess:
            raise InvalidInput(f"model '{model}' does not say how it wants images prepared")
        try:
            recipe = Preprocess.from_json(found.preprocess)
            dtype = next(t.dtype for t in found.inputs if t.name == recipe.input)
            tensor, _ = recipe.sent(image, dtype)
        except StopIteration:
            raise InvalidInput(f"model '{model}': its recipe is for an input it has not") from None
        except ValueError as error:
            raise InvalidInput(f"model '{model}': {error}") from error
        # One image is one sample: without the batch axis.
        return {recipe.input: tensor[0] if found.max_rows else tensor}

    def _wait(self, timeout: float) -> Effects[None]:
        admitted = yield Acquire(self.bulkhead, timeout)
        if admitted is None:
            self.metrics.count("shed_total")
            raise Overloaded(
                f"{self.settings.limits.concurrency} calls are under way and "
                f"{self.settings.limits.queue} wait: not sent (see Limits)"
            )
        if not admitted:
            raise DeadlineExceeded(f"no turn within {timeout:g} s: too many calls under way")
