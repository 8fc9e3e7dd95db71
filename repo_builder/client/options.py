"""What an application may set: a few frozen groups, each with defaults that are right for most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from repo_builder.client.sample import Sample

    Score = Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[np.floating[Any]]]

_LOOPBACK = ("localhost", "127.", "[::1]", "unix:")


def is_local(address: str) -> bool:
    """Whether a gRPC address can only be this host."""
    return address.startswith(_LOOPBACK)


@dataclass(frozen=True)
class Tls:
    """Files in PEM. Without `authority` the system's roots are trusted; with `certificate` and
    `key` the client shows who it is (mTLS). `server_name` replaces the host name to verify."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Tls: certificate and key belong together; one of them is missing")


@dataclass(frozen=True)
class Servers:
    """The servers of one side, all serving the same models, and how to talk to them.

    `token` is sent as `authorization: Bearer ...`; a callable is asked before every call, so that
    it can renew. A token never travels in the clear: it needs `tls`, or servers on this host.
    """

    addresses: Sequence[str]
    tls: Tls | None = None
    token: str | Callable[[], str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Literal["none", "deflate", "gzip"] = "none"

    def __post_init__(self) -> None:
        if isinstance(self.addresses, str) or not self.addresses:
            raise ValueError("Servers: addresses is a non-empty list of 'host:port'")
        if self.token and not self.tls:
            for address in self.addresses:
                if not is_local(address):
                    raise ValueError(f"Servers: a token for {address} needs tls=Tls(...)")

    @classmethod
    def of(cls, given: str | Sequence[str] | Servers) -> Servers:
        """`given` as Servers; a text is one address, or several with commas between."""
        if isinstance(given, Servers):
            return given
        if isinstance(given, str):
            given = [part.strip() for part in given.split(",") if part.strip()]
        return cls(tuple(given))


@dataclass(frozen=True)
class Limits:
    """`timeout` in seconds is the deadline of a call that names none. At most `concurrency` calls
    are under way, `queue` more wait their turn; what comes on top is refused at once."""

    timeout: float = 10.0
    concurrency: int = 64
    queue: int = 256


@dataclass(frozen=True)
class Retry:
    """How often a side is tried.

    `attempts` bounds one call where another side can still answer; otherwise the deadline does,
    unless `patient` is False. `budget` bounds all calls together: repeats that a server has to work
    for are at most this share of the calls, plus a small reserve. Delays, in seconds, double from
    `delay` to `max_delay`, with full jitter. With `hedge`, and more than one server on a side,
    a call that is slower than the p95 is sent to a second server too.
    """

    attempts: int = 3
    budget: float = 0.1
    delay: float = 0.02
    max_delay: float = 0.5
    hedge: bool = True
    patient: bool = True


@dataclass(frozen=True)
class Breaker:
    """After `failures` in a row a server is left alone for `cooldown` seconds, then probed by one
    call; each failed probe doubles the wait, up to `max_cooldown`."""

    failures: int = 5
    cooldown: float = 0.25
    max_cooldown: float = 2.0


@dataclass(frozen=True)
class Fallback:
    """What may go to the cloud, and when.

    The policy and threshold come with the model; `score` and `threshold` replace them.
    `models` names the cloud's model for an edge model (default: what the model itself says, else
    the same name); with `memory`, a file, what the models said is known also to a client that is
    started while the edge is down. While a cloud stands behind it, the edge may use `edge_share`
    of the time left.
    `timeout` bounds the cloud's part further. Rates and costs bound what unsure rows may use up;
    a row that is not let through is answered by the edge, marked. An input in `never_send` does
    not leave the device: the cloud's model has to do without it, or it is not asked.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    memory: Path | None = None
    score: Score | None = None
    threshold: float | None = None
    edge_share: float = 0.5
    timeout: float | None = None
    rows_per_second: float | None = None
    bytes_per_hour: float | None = None
    cost_per_row: float = 0.0
    cost_per_hour: float | None = None
    never_send: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.score is not None and self.threshold is None:
            raise ValueError("Fallback: a score of your own needs a threshold")
        if self.cost_per_hour is not None and not self.cost_per_row:
            raise ValueError("Fallback: cost_per_hour needs cost_per_row")


@dataclass(frozen=True)
class SharedMemory:
    """Tensors go to a server on this host through shared memory where a call carries at least
    `minimum` bytes (where it starts to pay: benchmarks/client.py). The pool holds at most
    `max_bytes`; calls beyond that go over the wire."""

    enabled: bool = True
    minimum: int = 128 * 1024
    max_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True)
class Cache:
    """Answers kept on the device in one SQLite file, least recently used out first.

    `near_duplicates` takes an answer for a frame that differs from a known one in at most this
    many of the 64 bits of a perceptual hash; 0 wants equal bytes.
    """

    path: Path
    max_bytes: int = 64 * 1024 * 1024
    near_duplicates: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.near_duplicates <= 16:
            raise ValueError("Cache: near_duplicates is between 0 and 16 bits")


@dataclass(frozen=True)
class Collector:
    """Unsure samples kept on disk for a later upload, at most `max_bytes` of them, the oldest out
    first; `audit` is the share of all other samples kept too, by chance, for an unbiased view.

    Nothing is kept unless `consent` says yes for the model's name. `redact` may change a sample,
    or return None to drop it.
    """

    path: Path
    consent: Callable[[str], bool]
    max_bytes: int = 256 * 1024 * 1024
    audit: float = 0.01
    redact: Callable[[Sample], Sample | None] | None = None
