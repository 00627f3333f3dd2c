"""Files of clients with what their import must print, and the check of one of them."""

from dataclasses import dataclass
from typing import Any

import yaml

from interlock.api.binding import MCPBinding
from tests.unit.cli.conftest import Run

SECRET = "Zq1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h"  # noqa: S105 - made up
IMAGES = ("--image", "crm=example/crm:1")
REMOTE = "https://crm.example.com/mcp"


@dataclass(frozen=True)
class Case:
    """A file, and what its import must print.

    Attributes:
        file: The file, or its only server.
        printed: What both streams must have together, white space and comment signs aside.
        code: The exit code.
        options: The options of the import.
        absent: What neither stream may have.
    """

    file: Any
    printed: tuple[str, ...] = ()
    code: int = 0
    options: tuple[str, ...] = ()
    absent: tuple[str, ...] = (SECRET,)


def stdio(*args: str, command: str = "crm-server", **members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"command": command, "args": list(args), **members}}}


def remote(url: str = REMOTE, **members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"url": url, **members}}}


def refused(file: Any, *printed: str, options: tuple[str, ...] = IMAGES) -> Case:
    return Case(file, printed, 1, options)


def imported(file: Any, *printed: str, options: tuple[str, ...] = IMAGES, absent: tuple[str, ...] = ()) -> Case:
    return Case(file, printed, 0, options, (SECRET, *absent))


HTTP = ()
FOLDER = "which only the MCP client can fill in"
SSE = "the SSE transport of 2024-11-05, which Interlock does not support"
MACHINE = "these paths of your machine do not exist in a pod"
KEY = "--from-file="


def check(run: Run, case: Case) -> None:
    """Import a file and check exit code, both streams and the bindings."""
    code, out, err = run(case.file, *case.options)
    text = " ".join(line.strip().removeprefix("#").strip() for line in (out + err).splitlines())
    absent = [one for one in case.absent if one not in str(case.printed)]
    assert (code, [one for one in case.printed if one not in text], [one for one in absent if one in text]) == (
        case.code,
        [],
        [],
    ), text
    for binding in yaml.safe_load_all(out):
        MCPBinding.model_validate(binding)
    assert bool(out) == (code == 0)
