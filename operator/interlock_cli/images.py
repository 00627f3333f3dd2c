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


_NODE: Final = EntryPoint(("node", "dist/index.js"))
ENTRY_POINTS: Final = {
    "ghcr.io/github/github-mcp-server": EntryPoint(("/server/github-mcp-server",), ("stdio",)),
    "ghcr.io/sooperset/mcp-atlassian": EntryPoint(("mcp-atlassian",)),
    "mcp/fetch": EntryPoint(("mcp-server-fetch",)),
    "mcp/filesystem": EntryPoint(("node", "/app/dist/index.js")),
    "mcp/git": EntryPoint(("mcp-server-git",)),
    "mcp/memory": _NODE,
    "mcp/postgres": _NODE,
    "mcp/sequentialthinking": _NODE,
    "mcr.microsoft.com/playwright/mcp": EntryPoint(
        ("node", "cli.js", "--headless", "--browser", "chromium", "--no-sandbox")
    ),
    "mongodb/mongodb-mcp-server": EntryPoint(("mongodb-mcp-server",)),
}
"""Entry points by the image's name without `docker.io/`, tag and digest, as the projects' Dockerfiles state them.

An image without an Entrypoint is not listed: arguments would replace its program.
"""


def entry_point(image: str) -> EntryPoint | None:
    """Return the entry point of an image, None if it is not known."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return ENTRY_POINTS.get(f"{folder}{slash}{last.partition(':')[0]}".removeprefix("docker.io/"))
