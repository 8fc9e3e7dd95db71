"""The container engine: Docker's, or Podman through its Docker-compatible socket.

Everything goes through the `docker` package. What an engine or a registry can answer is turned
into one line of an ImageError here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from repo_builder.base.errors import ImageError, MissingExtra
from repo_builder.base.progress import counted

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

T = TypeVar("T")
# Docker 20.10: the oldest with multi-platform images and the archive format that is loaded here.
MIN_API = (1, 41)
_TIMEOUT_S = 600
_TRIES = 4
_FIRST_WAIT_S = 0.5
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# What may pass by itself, in the words of engines, registries and Go's network library.
_PASSING = (
    "received unexpected http status: 5",
    "internal server error",
    "bad gateway",
    "service unavailable",
    "too many requests",
    "toomanyrequests",
    "connection reset",
    "connection refused",
    "i/o timeout",
    "tls handshake timeout",
    "unexpected eof",
)


class Engine:
    """A container engine that answers; `connect` makes one."""

    def __init__(self, client: DockerClient, name: str) -> None:
        self._client = client
        self.name = name

    def identity(self) -> str:
        """What tells this engine from those of other machines."""
        with _wrap_engine_errors("engine"):
            return str(self._client.info()["ID"])

    def architecture(self) -> str:
        """The architecture that the engine runs natively, as OCI names it: amd64, arm64."""
        version: Mapping[str, Any] = self._client.version()
        return str(version["Arch"])

    def image(self, reference: str) -> Image:
        """A local image by name or id; ImageError where there is none."""
        import docker.errors

        with _wrap_engine_errors(f"image {reference}"):
            try:
                return self._client.images.get(reference)
            except docker.errors.ImageNotFound:
                raise ImageError(
                    f"no image '{reference}' here; repo-builder images list shows those there are"
                ) from None

    def has(self, reference: str) -> bool:
        """Whether an image is here, by name or id."""
        import docker.errors

        with _wrap_engine_errors(f"image {reference}"):
            try:
                self._client.images.get(reference)
            except docker.errors.ImageNotFound:
                return False
        return True

    def labelled(self, label: str) -> list[Image]:
        """All local images that carry a label (`name` or `name=value`)."""
        with _wrap_engine_errors("list images"):
            found: list[Image] = self._client.images.list(filters={"label": label})
            return found

    def find(self, image_id: str, label: str, config: Mapping[str, Any]) -> str | None:
        """The engine's id of an image that is here, or None.

        Engines that keep manifests (containerd) call an image otherwise than by the digest of its
        configuration, so there it is known by its label; an image derived from it carries that
        label too, and differs in layers or settings.
        """
        for image in self.labelled(label):
            same_layers = image.attrs["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
            settings = image.attrs["Config"]
            if image.id == image_id or (
                same_layers and all(settings.get(k) == v for k, v in config["config"].items())
            ):
                return str(image.id)
        return None

    def base(self, reference: str, platform: str) -> str:
        """The id of a base image, pulled where it is not here."""
        import docker.errors

        with _wrap_engine_errors(f"base image {reference}"):
            try:
                image = self._client.images.get(reference)
            except docker.errors.ImageNotFound:
                self.pull(reference, platform)
                image = self._client.images.get(reference)
        has = f"{image.attrs['Os']}/{image.attrs['Architecture']}"
        if has != platform:
            raise ImageError(f"base image {reference} is for {has}, not {platform}; pull that one")
        return str(image.id)

    def build(
        self, context: IO[bytes], stage: str, platform: str, mark: str, say: Callable[[str], None]
    ) -> str:
        """Build a stage of a tarred context without network; returns the image's id.

        `mark` becomes the label of the stages below it, by which `drop` finds them.
        `say` gets the engine's lines as they come. Leaving early (Ctrl-C) ends the build: the
        engine stops when its client hangs up.
        """
        image_id, said = "", list[str]()
        with _wrap_engine_errors("build"):
            lines = self._client.api.build(
                fileobj=context,
                custom_context=True,
                encoding="identity",
                target=stage,
                buildargs={"STAGE": mark},
                network_mode="none",
                platform=platform,
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in lines:
                if "error" in line:
                    told = " ".join([*said[-5:], line["error"]])
                    raise ImageError(f"the image does not build: {_reason(told)}")
                if text := _COLOUR.sub("", line.get("stream", "")).rstrip():
                    say(text)
                    if text.startswith("Step "):
                        said.clear()
                    elif not text.startswith((" --->", "Removing ")):
                        said.append(text)
                image_id = line.get("aux", {}).get("ID", image_id)
        if not image_id:
            raise ImageError("the engine ended in the middle of the build; see its log, try again")
        return image_id

    def save(self, reference: str, out: IO[bytes]) -> None:
        """Write an image's archive (as `docker save`) to a file."""
        with _wrap_engine_errors(f"save {reference}"):
            image = self.image(reference)
            chunks = image.save(named=not reference.startswith("sha256:") and reference)
            for chunk in counted(chunks, f"saving {reference}", image.attrs.get("Size")):
                out.write(chunk)

    def load(self, archive: Iterable[bytes]) -> None:
        """Load an image archive from a stream; layers that are here already are kept."""
        with _wrap_engine_errors("load"):
            for line in self._client.api.load_image(archive):
                if "error" in line:
                    raise ImageError(
                        f"the engine does not take the image: {_reason(line['error'])}"
                    )

    def tag(self, reference: str, repository: str, tag: str) -> None:
        """Give a local image a name."""
        with _wrap_engine_errors(f"tag {repository}:{tag}"):
            self.image(reference).tag(repository, tag)

    def push(self, repository: str, tag: str, progress: Callable[[str], None]) -> str:
        """Push a local image; returns the digest by which it can be pulled.

        What may pass by itself (5xx, broken connections) is tried again; layers that arrived are
        not sent twice.
        """

        def once() -> str:
            digest = ""
            with _wrap_engine_errors(f"push {repository}:{tag}"):
                for line in self._client.api.push(repository, tag, stream=True, decode=True):
                    if "error" in line:
                        raise ImageError(f"push {repository}:{tag}: {_reason(line['error'])}")
                    _report(line, progress)
                    digest = line.get("aux", {}).get("Digest", digest)
            if not digest:
                raise ImageError(f"push {repository}:{tag}: the engine ended before it was done")
            return digest

        return _retried(once, progress)

    def pull(
        self,
        reference: str,
        platform: str | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Pull an image, trying again what may pass by itself."""

        def once() -> None:
            with _wrap_engine_errors(f"pull {reference}"):
                lines = self._client.api.pull(
                    reference, platform=platform, stream=True, decode=True
                )
                for line in lines:
                    if "error" in line:
                        raise ImageError(f"pull {reference}: {_reason(line['error'])}")
                    _report(line, progress)

        _retried(once, progress)

    def registry_digest(self, reference: str) -> str | None:
        """The digest that a registry has under a name now, or None where it has none."""
        import docker.errors

        def once() -> str | None:
            with _wrap_engine_errors(f"registry {reference}"):
                try:
                    data = self._client.images.get_registry_data(reference)
                    return str(data.id)
                except docker.errors.NotFound:
                    return None
                except docker.errors.APIError as failure:
                    # Docker says 404 of a missing tag in words of the registry's, as a 500.
                    if "manifest unknown" in str(failure) or "name unknown" in str(failure):
                        return None
                    raise

        return _retried(once, lambda _: None)

    def drop(self, image_id: str, mark: str) -> None:
        """Remove an image, and the stages that `build` marked and that nobody names.

        What others build on stays, as build cache, until the next prune.
        """
        with _wrap_engine_errors(f"remove {image_id}"):
            with _unless_in_use():
                self._client.images.remove(image_id, force=True)
            label = f"io.repo-builder.stage={mark}"
            with _unless_in_use():
                self._client.images.prune(filters={"dangling": True, "label": label})


def connect() -> Engine:
    """The engine that DOCKER_HOST names, else Docker's socket, else Podman's.

    Raises ImageError where none answers, is too old, or may not be used.
    """
    try:
        import docker
        import docker.errors
    except ImportError:
        raise MissingExtra("images", "working with images") from None
    tried = []
    for url in _addresses():
        try:
            with _wrap_engine_errors(f"engine at {url}"):
                client = docker.DockerClient(base_url=url, timeout=_TIMEOUT_S, version="auto")
                version = client.version()
        except ImageError as failure:
            tried.append(str(failure))
            continue
        api = tuple(int(part) for part in version["ApiVersion"].split("."))
        name = version.get("Platform", {}).get("Name") or version.get("Components", [{}])[0].get(
            "Name"
        )
        if api < MIN_API:
            raise ImageError(
                f"the engine at {url} speaks API {version['ApiVersion']}, and "
                f"{'.'.join(map(str, MIN_API))} is needed (Docker 20.10, Podman 4); update it"
            )
        return Engine(client, f"{name or 'engine'} {version['Version']}")
    raise ImageError("; ".join(tried))


def listening() -> bool:
    """Whether `connect` is worth a try: cheap, since it does not import the `docker` package."""
    for url in _addresses():
        path = url.removeprefix("unix://")
        if path == url:
            return True  # what DOCKER_HOST names elsewhere, only `connect` can tell
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(path)
            return True
    return False


def _addresses() -> list[str]:
    """Where to look: what the user says is final; otherwise every socket that is there."""
    if host := os.environ.get("DOCKER_HOST"):
        return [host]
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    sockets = ["/var/run/docker.sock", f"{runtime}/docker.sock"]
    sockets += [f"{runtime}/podman/podman.sock", "/run/podman/podman.sock"]
    there = [f"unix://{path}" for path in sockets if Path(path).exists()]
    return there or ["unix:///var/run/docker.sock"]


@contextlib.contextmanager
def _unless_in_use() -> Iterator[None]:
    """Let an image be that the engine keeps because others are built on it or run."""
    import docker.errors

    try:
        yield
    except docker.errors.APIError as failure:
        if failure.status_code != http.client.CONFLICT:
            raise


@contextlib.contextmanager
def _wrap_engine_errors(doing: str) -> Iterator[None]:
    """Turn what the `docker` package raises into one line that says what to do."""
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    broken = (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,  # in the middle of a stream `requests` lets these through
        OSError,
    )
    try:
        yield
    except docker.errors.APIError as failure:
        raise ImageError(f"{doing}: {_reason(failure.explanation or str(failure))}") from failure
    except broken as failure:
        text = str(failure)
        if "Permission denied" in text:
            fix = "you may not use this engine; join its group (docker), or use sudo"
        elif "No such file" in text or "Connection refused" in text:
            fix = "no engine answers there; start Docker or Podman, or set DOCKER_HOST"
        elif "No space left" in text:
            fix = "the disk is full; free some space"
        else:
            fix = f"the engine stopped answering ({' '.join(text.split())[:200]}); see its log"
        raise ImageError(f"{doing}: {fix}") from failure


def _reason(text: str) -> str:
    """An engine's or a registry's message as one line, with what to do where that is known."""
    line = " ".join(str(text).split())
    low = line.lower()
    for sign, fix in (
        ("no space left", "the disk is full; free some space"),
        ("no basic auth", "log in: docker login REGISTRY"),
        ("unauthorized", "log in: docker login REGISTRY"),
        ("denied", "this login may not do that; check its rights"),
        ("manifest unknown", "the registry has no such tag or digest"),
        ("name unknown", "the registry has no such repository"),
        ("not found", "check the name"),
        ("no matching manifest", "the image is not made for this platform"),
        ("does not match the specified platform", "pull the image of this platform"),
    ):
        if sign in low:
            return f"{line[:300]}; {fix}"
    return line[:300]


def _retried(action: Callable[[], T], progress: Callable[[str], None]) -> T:
    """Run `action`, again with growing pauses where its failure may pass by itself."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            return action()
        except ImageError as failure:
            if not left or not any(sign in str(failure).lower() for sign in _PASSING):
                raise
            wait = _FIRST_WAIT_S * 2 ** (_TRIES - 1 - left)
            progress(f"{failure}; trying again in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def _report(line: dict[str, Any], progress: Callable[[str], None]) -> None:
    """One line of an engine's progress; the steps of a bar are left out."""
    if line.get("status") and not line.get("progressDetail"):
        progress(f"{line.get('id', '')} {line['status']}".strip())
