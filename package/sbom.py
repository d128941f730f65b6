"""The package's bill of materials, CycloneDX 1.6 in JSON: name, version, licence, hash."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from package.platforms import Platform
    from package.site_packages import Archive

_LICENSE_CLASSIFIER = "License :: "
_LONGEST_LICENSE = 80
"""Characters; some put a whole licence text where its name belongs."""


def make(
    distributions: list[Distribution],
    archives: list[Archive],
    platform: Platform,
    epoch_s: int,
) -> str:
    """The document; the same for the same package, whenever it is made."""
    hashes: dict[str, list[Archive]] = {}
    for archive in archives:
        hashes.setdefault(archive.name, []).append(archive)
    components = {
        canonicalize_name(one.metadata["Name"]): _component(one, hashes) for one in distributions
    }
    root = components.pop(canonicalize_name("milepost"))
    root.name, root.type = "milepost-agent", ComponentType.APPLICATION
    root.purl = PackageURL(
        "deb", "milepost", "milepost-agent", root.version, {"arch": platform.debian}
    )
    bom = Bom(components=components.values())
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromtimestamp(epoch_s, UTC)
    for distribution in distributions:
        name = canonicalize_name(distribution.metadata["Name"])
        wanted = {canonicalize_name(Requirement(text).name) for text in distribution.requires or ()}
        bom.register_dependency(
            components.get(name, root), [components[one] for one in wanted if one in components]
        )
    seed = "".join(sorted(f"{one.file} {one.sha256}\n" for one in archives)) + str(root.purl)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, seed)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _component(distribution: Distribution, archives: dict[str, list[Archive]]) -> Component:
    told = distribution.metadata
    name = canonicalize_name(told["Name"])
    wheels = archives.get(name, [])
    return Component(
        name=name,
        version=distribution.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{distribution.version}",
        description=told["Summary"],
        purl=PackageURL("pypi", None, name, distribution.version),
        licenses=[
            LicenseFactory().make_from_string(
                _license(distribution), license_acknowledgement=LicenseAcknowledgement.DECLARED
            )
        ],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256) for one in wheels],
        properties=[
            Property(name=f"milepost:archive:{one.file}", value=f"sha256:{one.sha256}")
            for one in wheels
        ],
    )


def _license(distribution: Distribution) -> str:
    """As the distribution declares it: an SPDX expression, its licence field, a classifier."""
    told = distribution.metadata
    for field in ("License-Expression", "License"):
        text = str(told[field]) if field in told else ""
        if text and len(text) <= _LONGEST_LICENSE and "\n" not in text:
            return text
    for classifier in told.get_all("Classifier") or ():
        if classifier.startswith(_LICENSE_CLASSIFIER):
            return str(classifier.rsplit(" :: ", 1)[-1])
    return "NOASSERTION"
