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
    """How a connection is encrypted, and who is trusted. All files are PEM.

    authority    whom to trust; None: the roots that gRPC brings
    certificate  who the client is, for servers that ask (mTLS); belongs together with `key`
    key          the private key of `certificate`
    server_name  the name to verify in the server's certificate; "": the host of its address

    Raises ValueError where only one of `certificate` and `key` is given.
    """

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

    addresses    "host:port" of Triton's gRPC, one or more
    tls          None: in the clear
    token        sent as `authorization: Bearer ...`; a callable is asked before every call, so that
                 it can renew. It never travels in the clear: it needs `tls`, or servers on this
                 host
    headers      sent along with every request
    compression  of requests

    Raises ValueError without an address, and for a token that would travel in the clear.
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
    """How long and how many.

    timeout      seconds: the deadline of a call that names none
    concurrency  calls under way at a time
    queue        calls that wait for their turn; what comes on top is refused at once (Overloaded)
    """

    timeout: float = 10.0
    concurrency: int = 64
    queue: int = 256


@dataclass(frozen=True)
class Retry:
    """How often a side is tried.

    attempts   of one call, where another side can still answer; otherwise the deadline bounds it
    budget     share of all calls: repeats that a server has to work for are at most this many, plus
               a small reserve
    delay      seconds before the first repeat; each doubles the one before, with full jitter
    max_delay  seconds that a delay is at most
    hedge      with several servers on a side, send a call that is slower than the p95 to a second
    patient    False: `attempts` bounds a call also where no other side can answer
    """

    attempts: int = 3
    budget: float = 0.1
    delay: float = 0.02
    max_delay: float = 0.5
    hedge: bool = True
    patient: bool = True


@dataclass(frozen=True)
class Breaker:
    """When a server that fails is left alone. One call at a time probes it then.

    failures      in a row that open the breaker
    cooldown      seconds until the first probe; each failed probe doubles the wait
    max_cooldown  seconds that the wait is at most
    """

    failures: int = 5
    cooldown: float = 0.25
    max_cooldown: float = 2.0


@dataclass(frozen=True)
class Fallback:
    """What may go to the cloud, and when.

    Policy and threshold come with the model. Rates and costs bound what unsure rows may use up; a
    row that is not let through is answered by the edge, marked `edge-unverified`.

    models           edge model -> the cloud's; default: what the model says, else the same name
    memory           a file: what models said is known also to a client that is started while the
                     edge is down
    score            outputs, name -> `[n, ...]`, to how sure each row is, `[n]`; replaces the
                     policy, and needs `threshold`
    threshold        rows of at least this score stay at the edge; replaces the model's
    edge_share       of the time left: what the edge may use while a cloud stands behind it
    timeout          seconds: bounds the cloud's part further; None: the deadline alone
    rows_per_second  to the cloud; None: any
    bytes_per_hour   of tensors to the cloud; None: any
    cost_per_row     in a unit of your own
    cost_per_hour    in the same unit; needs `cost_per_row`; None: any
    never_send       inputs that do not leave the device: the cloud's model has to do without them,
                     or it is not asked

    Raises ValueError for a score without a threshold, and `cost_per_hour` without `cost_per_row`.
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
    """Tensors to a server on this host, without copying them through a socket.

    enabled    False: all go over the wire
    minimum    bytes that a call carries at least (where it starts to pay: benchmarks/client.py)
    max_bytes  that the pool holds; calls beyond go over the wire
    """

    enabled: bool = True
    minimum: int = 128 * 1024
    max_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True)
class Cache:
    """Answers kept on the device in one SQLite file, least recently used out first.

    path             the file; processes may share it
    max_bytes        that the answers take
    near_duplicates  bits, 0 to 16: an answer is good for a frame too whose perceptual hash of 64
                     bits differs in at most so many; 0 wants equal bytes

    Raises ValueError for `near_duplicates` beyond 16.
    """

    path: Path
    max_bytes: int = 64 * 1024 * 1024
    near_duplicates: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.near_duplicates <= 16:
            raise ValueError("Cache: near_duplicates is between 0 and 16 bits")


@dataclass(frozen=True)
class Collector:
    """Unsure samples kept on disk for a later upload, as one `.npz` file each.

    path       the folder
    consent    model's name -> whether its samples may be kept
    max_bytes  of all samples; the oldest go first
    audit      share of all other samples kept too, by chance, for an unbiased view
    redact     may change a sample, or return None to drop it
    """

    path: Path
    consent: Callable[[str], bool]
    max_bytes: int = 256 * 1024 * 1024
    audit: float = 0.01
    redact: Callable[[Sample], Sample | None] | None = None
