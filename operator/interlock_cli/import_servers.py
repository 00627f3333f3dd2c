"""The command `interlock-import`: it prints MCPBindings for an MCP client config, or suggestions by audit records."""

import argparse
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interlock.api.messages import NAME
from interlock.api.shared_types import EnvironmentClass
from interlock_cli import suggest
from interlock_cli.binding import Imported, build_binding
from interlock_cli.client_config import ConfiguredServer, parse_servers
from interlock_cli.config_json import LARGEST_FILE, ImportRefusedError, parse_config, quote
from interlock_cli.dockerfile import print_dockerfile
from interlock_cli.printing import print_bindings
from interlock_cli.registry import PACKAGE_TYPES
from interlock_cli.server import Choices

_LARGEST_LIST = 16 * LARGEST_FILE


def main(arguments: list[str] | None = None) -> int:
    """Print the bindings of a config, or its problems on standard error. Return the exit code.

    With `suggest` as the first argument, it is the command of `interlock_cli.suggest`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["suggest"]:
        return suggest.main(given[1:])
    options = _parser().parse_args(given)
    try:
        sys.stdout.write(_import(options))
    except ImportRefusedError as error:
        for message in error.messages:
            _say(message)
        return 1
    return 0


def _say(message: str) -> None:
    print(f"interlock-import: {message}", file=sys.stderr)  # noqa: T201 - this is a program for a terminal


def _import(options: argparse.Namespace) -> str:
    config = parse_servers(_read(options.file, LARGEST_FILE), options.package)
    for sentence in config.left_out:
        _say(f"left out: {sentence}")
    names = _Names(config.servers)
    choices = _choices(options, names)
    wanted, twins = _wanted(config.servers, options, names)
    if options.dockerfile is not None:
        server = names.find(options.dockerfile)
        return print_dockerfile(server, choices.keep.get(server.source, frozenset()))
    imported: list[Imported] = []
    refused: list[tuple[ConfiguredServer, tuple[str, ...]]] = [(server, (message,)) for server, message in twins]
    for server in wanted:
        try:
            imported.append(build_binding(server, choices))
        except ImportRefusedError as error:
            refused.append((server, error.messages))
    if refused:
        messages = [message for _, several in refused for message in several]
        if imported:
            skips = " ".join(f"--skip {shlex.quote(names.key(server))}" for server, _ in refused)
            total = len(imported) + len(refused)
            messages.append(f"{len(imported)} of {total} servers can be imported: to import these alone, add {skips}")
        raise ImportRefusedError(*messages)
    if not imported:
        raise ImportRefusedError("no server is left to import: name a disabled one with --only")
    return print_bindings(imported)


class _Names:
    """The servers of a file by the names that options may have for them: those of the file, and their sources."""

    def __init__(self, servers: Sequence[ConfiguredServer]) -> None:
        count = Counter(server.name for server in servers)
        self._shared = frozenset(name for name in count if count[name] > 1)
        self._by_name = {self.key(server): server for server in servers}
        self._by_source: dict[str, list[ConfiguredServer]] = {}
        for server in servers:
            self._by_source.setdefault(server.source, []).append(server)

    def key(self, server: ConfiguredServer) -> str:
        """Return the name of a server for options, its place if it has none of its own."""
        return server.place if not server.name or server.name in self._shared else server.name

    def find_all(self, name: str) -> list[ConfiguredServer]:
        """Return the server of this name, or the servers of this source.

        Raises:
            ImportRefusedError: There is none.
        """
        found = [self._by_name[name]] if name in self._by_name else self._by_source.get(name, [])
        if not found or not name:
            known = ", ".join(quote(known)[1:-1] for known in sorted(self._by_name))
            raise ImportRefusedError(f"the file has no server {quote(name)}, but {known}")
        return found

    def find(self, name: str) -> ConfiguredServer:
        """Return the first server of this name or source.

        Raises:
            ImportRefusedError: There is none.
        """
        return self.find_all(name)[0]


def _wanted(
    servers: Sequence[ConfiguredServer], options: argparse.Namespace, names: _Names
) -> tuple[list[ConfiguredServer], list[tuple[ConfiguredServer, str]]]:
    """Return the servers to import, and those whose source another one has, each with its message.

    Other servers are not checked.
    """
    skipped = [server for name in options.skip for server in names.find_all(name)]
    if options.only:
        wanted = [server for name in options.only for server in names.find_all(name)]
    else:
        wanted = [server for server in servers if not server.is_disabled]
        for server in servers:
            if server.is_disabled and server not in skipped:
                _say(f"left out, because it is disabled: {server.place}")
    by_source: dict[str, ConfiguredServer] = {}
    twins = []
    for server in wanted:
        if server in skipped:
            continue
        other = by_source.setdefault(server.source or server.place, server)
        if other is not server:
            message = f"{server.place} and {other.place} would be one source, {server.source}: rename one"
            twins.append((server, message))
    return list(by_source.values()), twins


def _choices(options: argparse.Namespace, names: _Names) -> Choices:
    if options.namespace is not None and not re.fullmatch(NAME[1:-1], options.namespace):
        raise ImportRefusedError(
            f"--namespace {quote(options.namespace)} is not a name: write lower case letters, digits, dashes"
        )
    return Choices(
        environments=tuple(dict.fromkeys(options.environment or ["development"])),
        namespace=options.namespace,
        images=_by_source(options.image, "--image", names),
        program_images=_pairs(options.image_for, "--image-for"),
        packaged=_by_source(options.packaged, "--packaged", names),
        commands={name: _split(name, text) for name, text in _by_source(options.command, "--command", names).items()},
        private=frozenset(names.find(name).source for name in options.private),
        tools={name: _read_list(name, path) for name, path in _by_source(options.tools, "--tools", names).items()},
        keep=_keep(options.keep, names),
    )


def _by_source(written: list[str], option: str, names: _Names) -> dict[str, str]:
    return {names.find(name).source: value for name, value in _pairs(written, option).items()}


def _keep(written: list[str], names: _Names) -> dict[str, frozenset[str]]:
    kept: dict[str, frozenset[str]] = {}
    for one in written:
        name, has_key, key = one.rpartition(":")
        if not has_key or not name or not key:
            raise ImportRefusedError(
                f"--keep {quote(one)} names no value: write --keep SERVER:env.NAME or --keep SERVER:args[3]"
            )
        source = names.find(name).source
        kept[source] = kept.get(source, frozenset()) | {key}
    return kept


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
    text = _read(path, _LARGEST_LIST)
    try:
        return parse_config(text, _LARGEST_LIST)
    except ImportRefusedError:
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
        epilog="interlock-import suggest --help: print what to add to MCPBindings and AgentPolicies, by audit records.",
    )
    add = parser.add_argument
    add("file", help="the MCP client config, - for standard input")
    add(
        "--only",
        action="append",
        default=[],
        metavar="SERVER",
        help="only this server, by its name in the file; may be repeated, like all options",
    )
    add("--skip", action="append", default=[], metavar="SERVER", help="all servers but this one")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="SERVER:PLACE",
        help="print this value, which is no secret: env.NAME, args[3], url or headers.NAME",
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
    add(
        "--dockerfile",
        metavar="SERVER",
        help="print the Dockerfile of the package that npx or uvx starts, instead of bindings",
    )
    add(
        "--packaged",
        action="append",
        default=[],
        metavar="SERVER=IMAGE",
        help="the image that was built with the Dockerfile of --dockerfile",
    )
    add(
        "--package",
        choices=PACKAGE_TYPES,
        help="the kind of package of a server.json; the default is the first of these",
    )
    add("--environment", action="append", choices=[one.value for one in EnvironmentClass], help="default: development")
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
