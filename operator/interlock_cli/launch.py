"""The parser of a server's start command in an MCP client config: program, arguments, image, variables."""

import re
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.client_config import ImportRefusedError, quote
from interlock_cli.credentials import is_telling, is_telling_name, placeholders

PACKAGE_RUNNERS: Final = ("npx", "bunx", "pnpm", "uvx", "uv", "pipx")
_CONTAINERS: Final = ("docker", "podman", "nerdctl")
_HARMLESS_FLAGS: Final = ("-i", "-t", "-it", "-ti", "--interactive", "--tty", "--rm", "--init")
_VARIABLE_FLAGS: Final = ("-e", "--env")
_FLAG: Final = re.compile(r"(--?[A-Za-z][-A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)
_ASSIGNED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)[=:]\s*(.+)", re.DOTALL)
_DESKTOP_PATH: Final = re.compile(r"(/Users/|/home/|~/|[A-Za-z]:\\|/path/to/).*", re.DOTALL)


@dataclass
class Launch:
    """The command of a container.

    Attributes:
        program: Name of the program that the MCP client starts, None for an image's own entry point.
        args: Its arguments.
        image: The image, if the config names one.
        env: Variables among the arguments of `docker run`.
        notes: Sentences for the reviewer.
    """

    program: str | None
    args: list[str]
    image: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse_launch(command: str, args: list[str], variables: dict[str, str], place: str) -> Launch:
    """Return the command of a container for `command` and `args` of an MCP client config.

    Args:
        command: The program.
        args: Its arguments.
        variables: The config's `env`, which `docker run -e NAME` passes on.
        place: The server's place in the config.

    Raises:
        ImportRefusedError: Part of it has no counterpart in a cluster, or an argument has a secret.
    """
    if command.lower() in ("cmd", "cmd.exe") and len(args) > 1 and args[0].lower() == "/c":
        command, args = args[1], args[2:]
    if not command or command != command.strip() or " " in command:
        raise ImportRefusedError(
            f"{place}.command {quote(command)} is not a program: write only the program, and the rest as args"
        )
    in_a_container = command.rpartition("/")[2] in _CONTAINERS
    launch = _container(args, variables, place) if in_a_container else Launch(command, list(args), env=dict(variables))
    _check_arguments(launch.args, place)
    launch.notes += _notes(launch)
    return launch


def _container(args: list[str], variables: dict[str, str], place: str) -> Launch:
    """Parse `docker run`: flags, then the image, then the arguments of its entry point."""
    if not args or args[0] != "run":
        raise ImportRefusedError(f"{place}.args do not start with run: only docker run can be imported")
    rest, handed = list(args[1:]), {}
    while rest and rest[0].startswith("-"):
        flag, _, value = rest.pop(0).partition("=")
        if flag in _HARMLESS_FLAGS and not value:
            continue
        if flag not in _VARIABLE_FLAGS:
            raise ImportRefusedError(
                f"{place}.args: {quote(flag)} of docker run cannot be imported: remove it (a cluster has no folders "
                "and volumes of your machine), and write what the server needs into the binding"
            )
        name, given, literal = (value or (rest.pop(0) if rest else "")).partition("=")
        if not given and name not in variables:
            raise ImportRefusedError(f"{place}.args pass on {quote(name)}, which env does not have: add it to env")
        handed[name] = literal if given else variables[name]
    if not rest:
        raise ImportRefusedError(f"{place}.args name no image: write it after the flags of docker run")
    # Variables of the config's env that docker run does not pass on never reached the server.
    return Launch(None, rest[1:], rest[0], handed)


def _check_arguments(args: list[str], place: str) -> None:
    """Refuse secrets, because anyone who can read a pod can read its arguments."""
    fix = "anyone who can read the pod can read its arguments; write it into env, if the server reads it there"
    before = ""
    for index, argument in enumerate(args):
        at = f"{place}.args[{index}]"
        if placeholders(argument, at):
            raise ImportRefusedError(f"{at} has a placeholder, such as ${{TOKEN}}: {fix}")
        flag, assigned = _FLAG.fullmatch(argument), _ASSIGNED.fullmatch(argument)
        named = (flag.group(1) if flag and flag.group(2) else "") or (assigned.group(1) if assigned else "") or before
        if is_telling(argument) or is_telling_name(named):
            raise ImportRefusedError(f"{at} looks like a secret: {fix}")
        before = argument if flag and not flag.group(2) else ""


def _notes(launch: Launch) -> list[str]:
    notes = []
    if launch.program in PACKAGE_RUNNERS:
        notes.append(
            f"{launch.program} downloads its package when it starts. A pod has only the folder /tmp for it (set HOME) "
            "and often no network: use an image that has the package, and its program as command"
        )
    paths = [quote(one) for one in (*launch.args, *launch.env.values()) if _DESKTOP_PATH.fullmatch(one)]
    if paths:
        notes.append(f"these paths of your machine do not exist in a pod: {', '.join(paths)}")
    return notes
