"""The entry points of images that client configs run with `docker run`, which a pod spec cannot read from the image."""

from typing import Final, NamedTuple


class EntryPoint(NamedTuple):
    """What an image runs.

    Attributes:
        entrypoint: Its Entrypoint.
        cmd: Its Cmd, which arguments in the client config replace.
    """

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...] = ()


ENTRY_POINTS: Final = {
    "ghcr.io/github/github-mcp-server": EntryPoint(("/server/github-mcp-server",), ("stdio",)),
}
"""Entry points by the image's name without tag and digest."""


def entry_point(image: str) -> EntryPoint | None:
    """Return the entry point of an image, None if it is not known."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return ENTRY_POINTS.get(f"{folder}{slash}{last.partition(':')[0]}".removeprefix("docker.io/"))
