"""The `spec.server` of a binding: image and command of a server to run, or the URL of one that runs elsewhere."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from interlock.api.messages import URL_INVALID
from interlock_cli.client_config import WRITE_STREAMABLE, names_http
from interlock_cli.config_json import ImportRefusedError, quote
from interlock_cli.credentials import fill_defaults, folder_problem, placeholders, reference_for
from interlock_cli.findings import Findings, Word
from interlock_cli.harmless import is_harmless, is_image, is_name, is_program, show_name
from interlock_cli.images import entry_point
from interlock_cli.launch import PACKAGE_RUNNERS, PACKAGED, Launch, packaged, parse_launch
from interlock_cli.pod_fit import add_notes, is_own_machine
from interlock_contract import http_target

_IMAGE: Final = re.compile(r"[!-~]{1,512}")
_PRIVATE_NAME: Final = re.compile(r"[a-z0-9-]+|.*\.(svc|local|internal|lan|corp|home|intranet)(\.cluster\.local)?")
_MOST_WORDS: Final = 1024
_GUARDS_HEADERS: Final = ("accept", "content-type", "mcp-protocol-version")
PACKAGED_COMMAND: Final = "mcp-server"
"""The program of an image that `--dockerfile` prints."""


@dataclass(frozen=True)
class Choices:
    """The options of an import, which complete the config. Servers have the names of their sources.

    Attributes:
        environments: The environments of the bindings.
        namespace: Their namespace, None for that of kubectl.
        images: Image by server.
        program_images: Image by the program that starts a server, such as npx.
        packaged: Image by server, made with the Dockerfile that the import prints.
        commands: Program and first arguments by server, for the entry point of an image.
        private: Servers over HTTP that have private addresses.
        tools: The answer to tools/list, by server.
        keep: The keys of values that are printed whatever their shape, by server.
    """

    environments: Sequence[str] = ("development",)
    namespace: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    program_images: Mapping[str, str] = field(default_factory=dict)
    packaged: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    private: frozenset[str] = frozenset()
    tools: Mapping[str, Any] = field(default_factory=dict)
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)


_CLOSED: Final = (
    "the server reaches no network; if it calls a service, write spec.server.stdio.network: Public, or Private for a "
    "private address"
)


def build_server(findings: Findings, choices: Choices) -> dict[str, Any]:
    """Return `spec.server` of a server. Each problem and note goes to the findings."""
    members = findings.server.members
    if "url" in members and "command" not in members:
        headers = _strings(findings, "headers")
        url = members["url"]
        if not isinstance(url, str):
            findings.problem(f"{findings.place(findings.key('url'))} is not a string: write it in quotation marks")
            return {}
        return _http(Word(url, findings.key("url")), headers, findings, choices, is_said=names_http(findings.server))
    launch = read_launch(findings)
    if launch is None:
        return {}
    if launch.bridge is not None:
        bridge = launch.bridge
        if bridge.is_sse:
            findings.problem(
                f"{findings.place(bridge.url.key)} uses SSE, the transport of 2024-11-05, which Interlock does not "
                f"support: {WRITE_STREAMABLE}"
            )
        return _http(bridge.url, bridge.headers, findings, choices, is_said=False)
    return _stdio(launch, findings, choices)


def read_launch(findings: Findings) -> Launch | None:
    """Return the command of a server that an MCP client starts, None if its config has none."""
    members = findings.server.members
    command, args = members.get("command"), list[str]()
    with findings.collected():
        args = read_words(members.get("args", []), findings.place(findings.key("args")))
    env = _strings(findings, "env")
    if not isinstance(command, str):
        if "command" in members:
            findings.problem(f"{findings.place(findings.key('command'))} is not a string: write it in quotation marks")
        return None
    words = [Word(command, findings.key("command"))]
    words += [Word(text, findings.server.origins.get(key, key)) for key, text in _indexed(args)]
    return parse_launch(words, env, findings)


def _indexed(args: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"args[{index}]", text) for index, text in enumerate(args)]


def _text(value: Any) -> str | None:
    """Return a string, a whole number or a truth value as clients write it, None for other values.

    A fraction is none of them: 1.10 in a file would become 1.1.
    """
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else None


def read_words(value: Any, place: str) -> list[str]:
    """Return a list of strings. A single string is a list of one.

    Raises:
        ImportRefusedError: The value is not such a list.
    """
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and len(found) > _MOST_WORDS:
        raise ImportRefusedError(f"{place} has {len(found)} words, and at most {_MOST_WORDS} are read: write fewer")
    words = [text for text in map(_text, found) if text is not None] if isinstance(found, list) else []
    if not isinstance(found, list) or len(words) < len(found):
        raise ImportRefusedError(
            f'{place} is not a list of strings: write ["one", "two"], numbers in quotation marks too'
        )
    if isinstance(value, str) and re.search(r"\s", value.strip()):
        raise ImportRefusedError(f'{place} is one string with spaces: write a list of words, ["one", "two"]')
    return words


def _strings(findings: Findings, name: str) -> dict[str, Word]:
    """Return a setting that is an object of strings, empty if it is missing."""
    value, key = findings.server.members.get(name, {}), findings.key(name)
    if not isinstance(value, Mapping):
        findings.problem(f'{findings.place(key)} is not an object: write {{"NAME": "value"}}')
        return {}
    found = {}
    for one, written in value.items():
        text = _text(written)
        if written is None:  # to VS Code, a variable that is not set
            continue
        if not is_name(one) and not findings.is_kept(Word("", f"{key}.{one}")):
            findings.problem(
                f"{findings.place(key)} has {show_name(one)} that may be a secret: write the name of a variable or "
                f"header, or add {findings.keep_option(f'{key}.NAME')} with this name"
            )
        elif text is not None:
            found[one] = Word(text, f"{key}.{one}")
        else:
            findings.problem(f"{findings.place(key)}.{show_name(one)} is not a string: write it in quotation marks")
    return found


def _stdio(launch: Launch, findings: Findings, choices: Choices) -> dict[str, Any]:
    source = findings.server.source
    is_packaged = source in choices.packaged
    args = packaged(launch)[1:] if is_packaged else launch.args
    if is_packaged and not launch.package:
        findings.problem(f"--packaged {source}: only packages that npx or uvx starts have such images: use --image")
    command = [PACKAGED_COMMAND] if is_packaged else _command(launch, findings, choices)
    stdio: dict[str, Any] = {"image": _image(launch, findings, choices), "command": [_literal(one) for one in command]}
    if args:
        stdio["args"] = [_literal(word.text) for word in args]
    env = [_variable(name, word, findings) for name, word in launch.env.items()]
    if env:
        stdio["env"] = env
    printed = {word.key for word in args}
    printed |= {word.key for word, one in zip(launch.env.values(), env, strict=True) if "value" in one}
    if launch.program and launch.program.text in PACKAGE_RUNNERS and not is_packaged:
        recipe = (
            f", such as that of --dockerfile {source}" if launch.package and launch.program.text in PACKAGED else ""
        )
        findings.notes.append(
            f"{launch.program.text} downloads its package when it starts. A pod has only the folder /tmp for it (set "
            f"HOME) and often no network: use an image that has the package{recipe}, and its program as command"
        )
    add_notes(findings, [*args, *launch.env.values()], frozenset(printed))
    findings.notes.append(_CLOSED)
    return {"stdio": stdio}


def _command(launch: Launch, findings: Findings, choices: Choices) -> Sequence[str]:
    stated = choices.commands.get(findings.server.source)
    if stated:
        return stated
    if launch.program is not None:
        return [launch.program.text]
    if launch.image is None:
        return []
    known = entry_point(launch.image.text)
    if known is not None:
        return [*known.entrypoint, *(() if launch.args else known.cmd)]
    image, source = quote(launch.image.text), findings.server.source
    wanted = "Entrypoint" if launch.args else "Entrypoint and Cmd"
    findings.problem(
        f"{findings.server.place}: the entry point of image {image} is not in the file, but a binding needs it: add "
        f'--command "{source}=<{wanted}>", as docker image inspect --format '
        f'"{{{{json .Config.Entrypoint}}}} {{{{json .Config.Cmd}}}}" {image} shows them'
    )
    return []


def _image(launch: Launch, findings: Findings, choices: Choices) -> str:
    source, place = findings.server.source, findings.server.place
    program = launch.program.text.rpartition("/")[2] if launch.program else ""
    own = launch.image.text if launch.image else None
    image = choices.packaged.get(source) or choices.images.get(source) or own or choices.program_images.get(program)
    if image is None:
        if launch.program is not None:
            shown = program if is_program(program, findings.own) else "PROGRAM"
            findings.problem(
                f"{place}: the file names no image for the server: add --image {source}=<image with the "
                f"server in it>, or --image-for {shown}=<image> for all that this program starts"
            )
        return ""
    if not _IMAGE.fullmatch(image):
        named = quote(image) if image != own or is_image(image) else "the image"
        findings.problem(f"{place}: {named} is not an image: write it without spaces, at most 512 characters")
    return image


def _literal(word: str) -> str:
    """Return a word escaped for Kubernetes, which replaces $(NAME) in commands, arguments and values."""
    return word.replace("$(", "$$(")


def _variable(name: str, word: Word, findings: Findings) -> dict[str, Any]:
    at = findings.place(word.key)
    if "\x00" in word.text:
        findings.problem(f"{at} has control characters: write ${{{name}}}, and the value into the Secret")
    is_kept = findings.is_kept(word, f"env.{name}")
    if not is_name(name) and not is_kept:
        findings.problem(f"{at} sets {show_name(name)} that may be a secret: write the name of a variable before the =")
        return {"name": "", "value": ""}
    if is_kept:
        return {"name": name, "value": _literal(word.text)}
    value = fill_defaults(word.text, findings.server.inputs, name, findings.own)
    with findings.collected():
        reference = reference_for(value, name, at, findings.secrets, findings.own)
        if reference is not None:
            return {"name": name, "valueFrom": reference}
    return {"name": name, "value": _literal(value)}


def _http(
    url: Word, headers: Mapping[str, Word], findings: Findings, choices: Choices, *, is_said: bool
) -> dict[str, Any]:
    source = findings.server.source
    is_private = source in choices.private
    if source in {**choices.images, **choices.commands, **choices.packaged}:
        findings.notes.append("the image and the command that options name are not used: the server runs elsewhere")
    filled = Word(fill_defaults(url.text, findings.server.inputs, "", findings.own), url.key)
    _check_url(filled, findings, is_private=is_private, is_said=is_said)
    http: dict[str, Any] = {"url": filled.text}
    if is_private:
        http["network"] = "Private"
    own = [name for name in headers if name.lower() in _GUARDS_HEADERS]
    if own:
        findings.notes.append(f"left out, because the guard writes them: {', '.join(own)}")
    if len(own) < len(headers):
        http["headers"] = [_header(name, word, findings) for name, word in headers.items() if name not in own]
    return {"http": http}


def _header(name: str, word: Word, findings: Findings) -> dict[str, Any]:
    value = fill_defaults(word.text, findings.server.inputs, name, findings.own)
    if findings.is_kept(word, f"headers.{name}"):
        return {"name": name, "value": word.text}
    with findings.collected():
        reference = reference_for(value, name, findings.place(word.key), findings.secrets, findings.own)
        if reference is not None:
            return {"name": name, "valueFrom": reference}
    return {"name": name, "value": value}


def _check_url(url: Word, findings: Findings, *, is_private: bool, is_said: bool) -> None:
    """Refuse a URL that the guard would not dial, without repeating a possible secret."""
    place, text, source = findings.place(url.key), url.text, findings.server.source
    is_kept = findings.is_kept(url, "url")
    keep = findings.keep_option(url.key)
    found = placeholders(text)
    if found and not is_kept:
        folder = next((one for one in found if one.is_folder), None)
        findings.problem(
            f"{place} has {folder_problem(folder)}"
            if folder
            else f"{place} has a placeholder: write the complete URL, and send a secret as a header"
        )
        return
    is_shown = is_kept or is_harmless(text, "", findings.own)
    if not http_target.matches(http_target.URL, text):
        named = quote(text) if is_shown else f"(a value of {len(text)} characters)"
        findings.problem(f"{place}: {URL_INVALID.format(text=named)}")
        return
    parts = urlsplit(text)
    host = (parts.hostname or "").lower()
    if is_own_machine(host) or _is(host, "is_loopback"):
        shown = quote(host)[1:-1] if is_shown or host == "localhost" or _is(host, "is_loopback") else "localhost"
        findings.problem(
            f"{place} is your own machine ({shown}): run the server in the cluster and write its Service's name"
        )
        return
    if not is_shown:
        findings.problem(
            f"{place} has a possible secret, which anyone who can read the binding can read: send it as a header. "
            f"If it has none, add {keep}"
        )
    if parts.scheme == "http" and not is_private:
        findings.problem(
            f"{place} is http://, which is allowed only for servers at private addresses: write https://, or add "
            f"--private {source} if the network may read all requests"
        )
    elif not is_private and (_PRIVATE_NAME.fullmatch(host) or _is(host, "is_private")):
        findings.notes.append(f"the URL has a private address by its name: add --private {source} if it has one")
    if re.search(r"(^|/)sse/?$", parts.path) and not is_kept:
        if is_said:
            findings.notes.append(
                f"the URL ends in /sse, as those of the SSE transport do, which Interlock does not support: "
                f"{WRITE_STREAMABLE}"
            )
        else:
            findings.problem(
                f"{place} ends in /sse, as those of the SSE transport of 2024-11-05 do, which Interlock does not "
                f"support: {WRITE_STREAMABLE} (often /mcp). If this URL is streamable HTTP, add {keep}"
            )


def _is(host: str, quality: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), quality))
    except ValueError:
        return False
