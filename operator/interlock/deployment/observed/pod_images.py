"""The images that an agent's pods run, as far as a tag named them.

A tag may lead to another image tomorrow, and every pod that starts then runs that one. So what a tag led to is recorded
for each revision, and pods that run something else are found by comparing. An image that the spec names by its digest
cannot change, and the images of Interlock's own containers change with Interlock, so neither is read.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from interlock.deployment.names import MCP_CONTAINER_PREFIX, Manifest
from interlock_contract.pod import AGENT_CONTAINER

MOST_DIGEST: Final = 128
"""Characters of what is compared. A digest with its algorithm has 71."""
MOST_NAME: Final = 160
"""Characters of an image's name as it is recorded."""
_PINNED: Final = "@sha256:"


@dataclass(frozen=True, slots=True)
class PodImage:
    """The image of one container.

    Attributes:
        container: Name of the container.
        name: The image as the pod names it, with its tag. Of a longer name, the beginning and a digest of the whole.
        digest: Digest of the image in its repository. Where the container runtime names none, such as for an image
            that was loaded into the node, what it says instead.
    """

    container: str
    name: str
    digest: str


def read_images(pod: Manifest) -> tuple[PodImage, ...]:
    """Return the images of the agent's container and of the stdio servers that were named by a tag, if they are known.

    Example: `imageID: registry.example.com/agent@sha256:3f2a...` is `sha256:3f2a...`.
    """
    named = _images_by_tag(pod)
    found = []
    for one in _of(pod.get("status"), "containerStatuses", "initContainerStatuses"):
        container, digest = one["name"], _digest_of(one.get("imageID") or "")
        if container in named and digest:
            found.append(PodImage(container, _name_of(named[container]), digest))
    return tuple(found)


def is_image_unknown(pod: Manifest) -> bool:
    """Return True if one of these images is not known: its container was not started yet, or is started again."""
    return len(_images_by_tag(pod)) > len({one.container for one in read_images(pod)})


def _images_by_tag(pod: Manifest) -> dict[str, str]:
    """Return the images of the agent's container and of the stdio servers that a tag names, by container."""
    found = ((one["name"], one.get("image", "")) for one in _of(pod.get("spec"), "containers", "initContainers"))
    return {
        name: image
        for name, image in found
        if (name == AGENT_CONTAINER or name.startswith(MCP_CONTAINER_PREFIX)) and image and _PINNED not in image
    }


def _name_of(image: str) -> str:
    if len(image) <= MOST_NAME:
        return image
    whole = hashlib.sha256(image.encode()).hexdigest()
    return f"{image[: MOST_NAME - len(whole) - 1]}#{whole}"


def _of(part: dict[str, Any] | None, *lists: str) -> Iterable[dict[str, Any]]:
    for name in lists:
        yield from (part or {}).get(name) or ()


def _digest_of(image_id: str) -> str:
    """Return what is compared of an image's id. Runtimes write the repository before it, which may be another one."""
    repository, at, digest = image_id.rpartition("@")
    return (digest if at and repository else image_id)[:MOST_DIGEST]
