"""Everything a call can raise. The client stands alone, so these are not the package's errors.

A message says what was asked for, of whom, and what came back, on one line.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the client."""


class InvalidInput(ClientError):
    """The request does not fit the model: name, version, shape, type. Repeating will not help."""


class ModelNotFound(ClientError):
    """No server of this side has the model, or the version, that was asked for."""


class DeadlineExceeded(ClientError):
    """The deadline of the call passed before there was an answer."""


class Unavailable(ClientError):
    """No server could be reached, or none was able to answer."""


class Overloaded(ClientError):
    """A queue is full: the client's own, and the request was never sent, or the server's."""


class ServerFailed(ClientError):
    """The server took the request and failed on it."""


class Closed(ClientError):
    """The client was closed."""
