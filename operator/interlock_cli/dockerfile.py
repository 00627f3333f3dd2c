"""The Dockerfile of a package that npx or uvx starts: an image that has the package and needs no network to start."""

import json
import re
import shlex
from itertools import pairwise
from typing import Final

from interlock_cli.client_config import ConfiguredServer
from interlock_cli.config_json import ImportRefusedError
from interlock_cli.findings import Findings
from interlock_cli.launch import PACKAGED, packaged
from interlock_cli.server import PACKAGED_COMMAND, read_launch

_PIN: Final = """\
# Pin the base image by its digest, and the version of the package, so that each build is the one that you reviewed.
"""
_NPX: Final = """\
FROM node:24-slim
WORKDIR /app
RUN npm install --omit=dev --no-audit --no-fund {package}
# The program of the package, under a name that does not depend on it.
RUN node -e '{script}'
USER 65532:65532
"""
_SCRIPT: Final = (
    'const fs = require("fs"), path = require("path"), folder = path.resolve("node_modules", {name}); '
    'const bin = JSON.parse(fs.readFileSync(path.join(folder, "package.json"))).bin; '
    'const program = typeof bin === "string" ? bin : bin[{last}] || Object.values(bin)[0]; '
    "const target = path.join(folder, program); fs.chmodSync(target, 0o755); "
    'fs.symlinkSync(target, "/usr/local/bin/{command}");'
)
_GIT: Final = "RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*\n"
_UVX: Final = """\
FROM python:3.13-slim
{before}RUN pip install --no-cache-dir {packages}
# The program of the package, under a name that does not depend on it.
RUN ln -s "$(command -v {program})" /usr/local/bin/{command}
USER 65532:65532
"""


def print_dockerfile(server: ConfiguredServer, keep: frozenset[str]) -> str:
    """Return the Dockerfile of a server that a client starts with npx or uvx.

    Args:
        server: The server.
        keep: The keys of its values that may be printed whatever their shape.

    Raises:
        ImportRefusedError: Its package type has no such recipe, or its command has problems.
    """
    findings = Findings(server, keep)
    launch = read_launch(findings) if "command" in server.members else None
    program = launch.program.text.rpartition("/")[2] if launch and launch.program else ""
    words = [word.text for word in packaged(launch)] if launch else []
    if program not in PACKAGED or not words:
        raise ImportRefusedError(
            f"{server.place}: --dockerfile knows the packages that npx, bunx or uvx starts: write a Dockerfile for "
            "this server, and name its image with --image"
        )
    if findings.problems:
        raise ImportRefusedError(*findings.problems)
    assert launch is not None  # noqa: S101 - it has words
    before = [word.text for word in launch.args[: launch.package - 1]]
    if program == "uvx":
        named, _, version = words[0].partition("@")
        package = _option(before, "--from") or (f"{named}=={version}" if version and version != "latest" else named)
        packages = [package, *(after for one, after in pairwise(before) if one == "--with")]
        return _PIN + _UVX.format(
            before=_GIT if any("git+" in one for one in packages) else "",
            packages=shlex.join(packages),
            program=shlex.quote(re.split(r"[\[=<>~!]", named)[0]),
            command=PACKAGED_COMMAND,
        )
    stated = _option(before, "--package") or _option(before, "-p")
    package = stated or words[0]
    name = re.sub(r"(?<=.)@.*$", "", package)
    if not re.fullmatch(r"[-@A-Za-z0-9_./]+", name):
        raise ImportRefusedError(f"{server.place}: its package is not the name of one: write the Dockerfile yourself")
    last = words[0] if stated else name.rpartition("/")[2]
    script = _SCRIPT.format(name=json.dumps(name), last=json.dumps(last), command=PACKAGED_COMMAND)
    return _PIN + _NPX.format(package=shlex.quote(package), script=script)


def _option(words: list[str], flag: str) -> str:
    return next((after for before, after in pairwise(words) if before == flag), "")
