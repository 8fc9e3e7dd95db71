"""How a request can fail, and what repeating it would help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A call that did not come back well. `status` is gRPC's name for it.

    kind          meaning                                    repeat it?
    unreachable   the server never saw the call              yes, costs it nothing
    broken        the connection broke under the call        yes, within the budget
    busy          the server refused for lack of room        yes, within the budget
    absent        the server does not have the model (now)   yes if it had it before
    late          this call's share of the deadline passed   no
    rejected      the request itself is wrong                no
    barred        what may go to the cloud does not allow it no
    failed        the server failed on the request           no
    """

    status: str
    details: str

    @property
    def kind(self) -> str:
        """Which of the kinds above."""
        status, details = self.status, self.details
        if status == "UNAVAILABLE":
            if "failed to connect" in details or "DNS resolution failed" in details:
                return "unreachable"
            if "queue" in details:
                return "busy"
            if "timeout expired" in details:  # it waited in Triton's queue longer than it might
                return "late"
            if "model" in details or "not ready" in details:
                return "absent"
            return "broken"
        # A model that is gone is NOT_FOUND; while it loads or unloads, UNAVAILABLE.
        kinds = {
            "NOT_FOUND": "absent",
            "RESOURCE_EXHAUSTED": "busy",
            "DEADLINE_EXCEEDED": "late",
            "FAILED_PRECONDITION": "barred",
            "INVALID_ARGUMENT": "rejected",
            "UNIMPLEMENTED": "rejected",
        }
        if status in ("UNKNOWN", "INTERNAL") and ("Stream removed" in details or "RST" in details):
            return "broken"
        return kinds.get(status, "failed")

    def __str__(self) -> str:
        return f"{self.status}: {self.details}"
