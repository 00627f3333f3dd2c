"""The `spec.server` of a binding: image and command of a server to run, or the URL of one that runs elsewhere."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from interlock.api.messages import URL_INVALID
from interlock_cli.client_config import ConfiguredServer, ImportRefusedError, quote, read_strings, read_text, read_words
from interlock_cli.credentials import Secrets, is_telling, looks_secret, placeholders, reference_for
from interlock_cli.launch import Launch, parse_launch
from interlock_contract import http_target

_IMAGE: Final = re.compile(r"[!-~]{1,512}")
_LOOPBACK: Final = ("localhost", "localhost.localdomain", "host.docker.internal")


@dataclass(frozen=True)
class Choices:
    """The options of an import, which complete the config. Servers have the names of their sources.

    Attributes:
        environments: The environments of the bindings.
        namespace: Their namespace, None for that of kubectl.
        images: Image by server.
        program_images: Image by the program that starts a server, such as npx.
        commands: Program and first arguments by server, for the entry point of an image.
        private: Servers over HTTP that have private addresses.
        tools: The answer to tools/list, by server.
    """

    environments: Sequence[str] = ("development",)
    namespace: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    program_images: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    private: frozenset[str] = frozenset()
    tools: Mapping[str, Any] = field(default_factory=dict)

    def named(self) -> set[str]:
        """Return every source that an option names."""
        return {*self.images, *self.commands, *self.private, *self.tools}


_CLOSED = (
    "the server reaches no network; if it calls a service, write spec.server.stdio.network: Public, or Private for a "
    "private address"
)


def build_stdio(
    server: ConfiguredServer, source: str, choices: Choices, secrets: Secrets
) -> tuple[dict[str, Any], list[str]]:
    """Return `spec.server` for a server that an MCP client starts, and notes about it.

    Raises:
        ImportRefusedError: It cannot run in a container, or its image is not given.
    """
    args = read_words(server.members.get("args", []), f"{server.place}.args")
    launch = parse_launch(read_text(server, "command"), args, read_strings(server, "env"), server.place)
    command = _command(launch, source, choices, server.place)
    stdio: dict[str, Any] = {
        "image": _image(launch, source, choices, server.place),
        "command": [_literal(word) for word in command],
    }
    if launch.args:
        stdio["args"] = [_literal(word) for word in launch.args]
    if launch.env:
        stdio["env"] = [_variable(name, launch.env[name], server.place, secrets) for name in launch.env]
    return {"stdio": stdio}, [*launch.notes, _CLOSED]


def build_http(
    server: ConfiguredServer, source: str, choices: Choices, secrets: Secrets
) -> tuple[dict[str, Any], list[str]]:
    """Return `spec.server` for a server that runs elsewhere.

    Raises:
        ImportRefusedError: The guard could not reach it, or its URL has a secret.
    """
    url = read_text(server, "url")
    _check_url(url, f"{server.place}.url", is_private=source in choices.private)
    http: dict[str, Any] = {"url": url}
    if source in choices.private:
        http["network"] = "Private"
    headers = read_strings(server, "headers")
    if headers:
        http["headers"] = [_header(name, headers[name], server.place, secrets) for name in headers]
    return {"http": http}, []


def _command(launch: Launch, source: str, choices: Choices, place: str) -> Sequence[str]:
    stated = choices.commands.get(source)
    if stated:
        return stated
    if launch.program is None:
        raise ImportRefusedError(
            f"{place}: the entry point of image {quote(launch.image)} is not in the file, but a binding needs it: "
            f'add --command "{source}=<program>" (docker inspect shows Entrypoint)'
        )
    return [launch.program]


def _image(launch: Launch, source: str, choices: Choices, place: str) -> str:
    program = (launch.program or "").rpartition("/")[2]
    image = choices.images.get(source) or launch.image or choices.program_images.get(program)
    if image is None:
        raise ImportRefusedError(
            f"{place}: the file names no image for the server: add --image {source}=<image with the "
            f"server in it>, or --image-for {quote(program)[1:-1]}=<image> for all that this program starts"
        )
    if not _IMAGE.fullmatch(image):
        raise ImportRefusedError(
            f"{place}: {quote(image)} is not an image: write it without spaces, at most 512 characters"
        )
    return image


def _literal(word: str) -> str:
    """Return a word escaped for Kubernetes, which replaces $(NAME) in commands, arguments and values."""
    return word.replace("$(", "$$(")


def _variable(name: str, value: str, place: str, secrets: Secrets) -> dict[str, Any]:
    at = f"{place}.env.{quote(name)[1:-1]}"
    reference = reference_for(value, name, at, secrets)
    if reference is not None:
        return {"name": name, "valueFrom": reference}
    if not value.isprintable():
        raise ImportRefusedError(f"{at} has control characters: write ${{{name}}}, and the value into the Secret")
    return {"name": name, "value": _literal(value)}


def _header(name: str, value: str, place: str, secrets: Secrets) -> dict[str, Any]:
    reference = reference_for(value, name, f"{place}.headers.{quote(name)[1:-1]}", secrets)
    return {"name": name, "value": value} if reference is None else {"name": name, "valueFrom": reference}


def _check_url(url: str, place: str, *, is_private: bool) -> None:
    """Refuse a URL that the guard would not dial, without repeating a possible secret."""
    if placeholders(url, place):
        raise ImportRefusedError(f"{place} has a placeholder: write the complete URL, and send a secret as a header")
    if is_telling(url) or any(looks_secret(name, value) for name, value in _query(url)):
        raise ImportRefusedError(
            f"{place} has a possible secret, which anyone who can read the binding can read: send it as a header"
        )
    if not http_target.matches(http_target.URL, url):
        raise ImportRefusedError(f"{place}: {URL_INVALID.format(text=quote(url))}")
    host = urlsplit(url).hostname or ""
    if host in _LOOPBACK or _is_loopback(host):
        raise ImportRefusedError(
            f"{place} is your own machine ({host}): run the server in the cluster and write its Service's name"
        )
    if url.startswith("http:") and not is_private:
        raise ImportRefusedError(
            f"{place} is http://, which is allowed only for servers at private addresses: write https://, or add "
            "--private <name of the server> if the network may read all requests"
        )


def _query(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
