"""The command `interlock-import FILE`: it prints MCPBindings for an MCP client config."""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from interlock.api.messages import NAME
from interlock.api.shared_types import Environment
from interlock_cli.binding import Imported, build_binding, source_name
from interlock_cli.client_config import (
    LARGEST_FILE,
    ConfiguredServer,
    ImportRefusedError,
    is_disabled,
    parse_servers,
    quote,
)
from interlock_cli.printing import print_bindings
from interlock_cli.server import Choices

_LARGEST_LIST = 16 * LARGEST_FILE


def main(arguments: list[str] | None = None) -> int:
    """Print the bindings of a config, or its problems on standard error. Return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        imported = _import(options)
    except ImportRefusedError as error:
        for message in error.messages:
            print(f"interlock-import: {message}", file=sys.stderr)  # noqa: T201 - this is a program for a terminal
        return 1
    sys.stdout.write(print_bindings(imported))
    return 0


def _import(options: argparse.Namespace) -> list[Imported]:
    choices = _choices(options)
    servers = _wanted(parse_servers(_read(options.file, LARGEST_FILE)), options.only, choices)
    imported: list[Imported] = []
    refused: list[str] = []
    for server in servers:
        try:
            imported.append(build_binding(server, choices))
        except ImportRefusedError as error:
            refused += error.messages
    if refused:
        raise ImportRefusedError(*refused)
    return imported


def _wanted(servers: tuple[ConfiguredServer, ...], only: list[str], choices: Choices) -> list[ConfiguredServer]:
    by_source: dict[str, ConfiguredServer] = {}
    for server in servers:
        other = by_source.setdefault(source_name(server), server)
        if other is not server:
            raise ImportRefusedError(
                f"{quote(server.name)} and {quote(other.name)} would be one source, {source_name(server)}: rename one"
            )
    unknown = sorted(({*only} | choices.named()) - by_source.keys())
    if unknown:
        raise ImportRefusedError(f"the file has no server {quote(unknown[0])}, but {', '.join(sorted(by_source))}")
    if only:
        return [server for source, server in by_source.items() if source in only]
    for server in by_source.values():
        if is_disabled(server):
            print(f"interlock-import: left out, because it is disabled: {server.place}", file=sys.stderr)  # noqa: T201
    return [server for server in by_source.values() if not is_disabled(server)]


def _choices(options: argparse.Namespace) -> Choices:
    if options.namespace is not None and not re.fullmatch(NAME[1:-1], options.namespace):
        raise ImportRefusedError(
            f"--namespace {quote(options.namespace)} is not a name: write lower case letters, digits, dashes"
        )
    return Choices(
        environments=tuple(dict.fromkeys(options.environment or ["development"])),
        namespace=options.namespace,
        images=_pairs(options.image, "--image"),
        program_images=_pairs(options.image_for, "--image-for"),
        commands={name: _split(name, text) for name, text in _pairs(options.command, "--command").items()},
        private=frozenset(options.private),
        tools={name: _read_list(name, path) for name, path in _pairs(options.tools, "--tools").items()},
    )


def _pairs(written: list[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in written:
        name, is_there, value = one.partition("=")
        if not is_there or not name or not value:
            raise ImportRefusedError(f"{option} {quote(one)} has no name or no value: write {option} name=value")
        if name in pairs:
            raise ImportRefusedError(f"{option} names {quote(name)} twice: write it once")
        pairs[name] = value
    return pairs


def _split(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ImportRefusedError(f"--command of {quote(name)}: {error}: close the quotation mark") from None


def _read_list(name: str, path: str) -> Any:
    try:
        return json.loads(_read(path, _LARGEST_LIST))
    except (json.JSONDecodeError, RecursionError):
        raise ImportRefusedError(
            f"--tools {quote(name)}: {quote(path)} is not JSON: save the answer to tools/list"
        ) from None


def _read(path: str, largest: int) -> str:
    try:
        if path == "-":
            return sys.stdin.read(largest + 1)
        with Path(path).open(encoding="utf-8") as file:
            return file.read(largest + 1)
    except OSError as error:
        raise ImportRefusedError(f"{quote(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ImportRefusedError(f"{quote(path)} is not UTF-8: save it as UTF-8") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interlock-import",
        description="Print MCPBindings for the servers of an MCP client config. No server is started or called.",
    )
    add = parser.add_argument
    add("file", help="the MCP client config, - for standard input")
    add(
        "--only",
        action="append",
        default=[],
        metavar="SERVER",
        help="only this server; may be repeated, like all options",
    )
    add("--image", action="append", default=[], metavar="SERVER=IMAGE", help="the image that a server runs in")
    add(
        "--image-for",
        action="append",
        default=[],
        metavar="PROGRAM=IMAGE",
        help="the image of all servers that this program starts",
    )
    add(
        "--command",
        action="append",
        default=[],
        metavar="SERVER=PROGRAM",
        help="the command instead of the file's",
    )
    add(
        "--tools", action="append", default=[], metavar="SERVER=FILE", help="the server's answer to tools/list, as JSON"
    )
    add("--environment", action="append", choices=[one.value for one in Environment], help="default: development")
    add(
        "--private", action="append", default=[], metavar="SERVER", help="a server over HTTP that has a private address"
    )
    add("--namespace", help="namespace of the bindings")
    return parser


def run() -> None:
    """Run the command, for the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
