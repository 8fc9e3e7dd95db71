"""The software bill of materials of an image, as CycloneDX JSON.

Packages come from the inventory that the build left in the image, models from its manifest, so any
image has one, wherever it was pulled from. The same image gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone

from repo_builder.base.errors import ImageError, MissingExtra
from repo_builder.images.archive import SavedImage

_CONTENTS = "usr/share/repo-builder/contents/"
_MANIFEST = "etc/repo-builder/manifest.json"
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "repo-builder/sbom")


def make(name: str, image: SavedImage) -> str:
    """The SBOM of a saved image called `name`; ImageError where it has no inventory."""
    try:
        from cyclonedx.model import HashAlgorithm, HashType, Property
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.license import DisjunctiveLicense
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL
    except ImportError:
        raise MissingExtra("images", "writing an SBOM") from None
    files = image.read(_CONTENTS, _MANIFEST)
    inventories = [content for path, content in files.items() if path.startswith(_CONTENTS)]
    if not inventories or _MANIFEST not in files:
        raise ImageError(f"{name} has no inventory; repo-builder did not make it")
    packages: dict[str, dict[str, object]] = {}
    for inventory in inventories:
        for purl, entry in json.loads(inventory).items():
            known = packages.setdefault(purl, {"bytes": 0, "licence": entry["licence"]})
            known["bytes"] = int(str(known["bytes"])) + int(entry["bytes"])
    bom = Bom(
        serial_number=uuid.uuid5(_SPACE, json.dumps(image.diff_ids)),
    )
    bom.metadata.timestamp = datetime.fromtimestamp(0, timezone.utc)
    bom.metadata.component = root = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=image.config["config"]["Labels"].get("org.opencontainers.image.version"),
        bom_ref="image",
    )
    components = []
    for purl, entry in sorted(packages.items()):
        url = PackageURL.from_string(purl)
        licences = [DisjunctiveLicense(name=str(entry["licence"]))] if entry["licence"] else []
        components.append(
            Component(
                type=ComponentType.LIBRARY,
                name=url.name,
                version=url.version,
                purl=url,
                bom_ref=purl,
                licenses=licences,
                properties=[Property(name="repo-builder:bytes", value=str(entry["bytes"]))],
            )
        )
    for model, record in sorted(json.loads(files[_MANIFEST])["models"].items()):
        components.append(
            Component(
                type=ComponentType.MACHINE_LEARNING_MODEL,
                name=model,
                version=record["version"],
                bom_ref=f"model:{model}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=record["digest"])],
            )
        )
    for component in components:
        bom.components.add(component)
    bom.register_dependency(root, components)
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text + "\n"
