"""The parser of a server's start command in an MCP client config: program, arguments, image, variables."""

import re
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.bridges import Bridge, find_bridge
from interlock_cli.credentials import fill_defaults, folder_problem, placeholders
from interlock_cli.docker_run import CONTAINER_PROGRAMS, parse_docker_run
from interlock_cli.findings import Findings, Word
from interlock_cli.harmless import harmful_arguments, is_program, show
from interlock_cli.pod_fit import is_machine_program
from interlock_cli.secret_names import name_words
from interlock_cli.vocabulary import split_words

PACKAGE_RUNNERS: Final = ("npx", "bunx", "pnpm", "uvx", "uv", "pipx", "yarn", "npm", "bun", "deno", "dnx", "nix")
PACKAGED: Final = ("npx", "bunx", "uvx")
"""Runners whose packages `--dockerfile` knows."""

_INTERPRETERS: Final = ("node", "python", "python3", "tsx", "ts-node", "ruby", "java", "php", "dotnet", "go", "cargo")
_SUBCOMMANDS: Final = split_words("run exec dlx tool x --")
_PACKAGE_FLAGS: Final = split_words("--from --package --spec --with --module --directory --project --prefix -m -jar")
_OPTIONS_WITH_VALUE: Final = split_words("--python --index-url --extra --group --registry --cache --index --refresh")
_SECRET_RUNNERS: Final = ("op", "dotenvx", "dotenv", "doppler", "infisical", "aws-vault", "chamber", "direnv")
_CONNECTORS: Final = ("ssh", "plink", "kubectl", "oc")
_SUFFIX: Final = re.compile(r"\.(cmd|exe|bat|ps1)$", re.IGNORECASE)
_SPACED_PATH: Final = re.compile(r"([A-Za-z]:[/\\]|\\\\|%[A-Za-z]+%|/Applications/|~?/.*/Application Support/)")


@dataclass
class Launch:
    """The command of a container.

    Attributes:
        program: The program that the MCP client starts, None for an image's own entry point.
        args: Its arguments.
        image: The image, if the config names one.
        env: The variables of the container.
        bridge: The server over HTTP that the program only translates to, None for other programs.
        package: The index of the argument after the package of a runner such as npx, 0 without one.
    """

    program: Word | None
    args: list[Word]
    image: Word | None = None
    env: dict[str, Word] = field(default_factory=dict)
    bridge: Bridge | None = None
    package: int = 0


def parse_launch(words: list[Word], env: dict[str, Word], findings: Findings) -> Launch:
    """Return the command of a container for the command of an MCP client config. Each problem goes to the findings.

    Args:
        words: The program and its arguments.
        env: The config's `env`, which `docker run -e NAME` passes on.
        findings: The findings about the server.
    """
    words, env = _unwrap(words, dict(env))
    program = words[0]
    name = _base(program)
    wrong = _elsewhere(name)
    if wrong:
        findings.problem(f"{findings.place(program.key)} {wrong}")
        return Launch(Word(name, program.key), [])
    if name in CONTAINER_PROGRAMS:
        run = parse_docker_run(words[1:], env, findings)
        entrypoint = run.entrypoint and _program(run.entrypoint, _base(run.entrypoint), findings)
        launch = Launch(entrypoint, run.args, run.image, run.env)
    else:
        launch = Launch(_program(program, name, findings), words[1:], env=env)
        launch.bridge = find_bridge(words, env, findings)
    if launch.bridge is None:
        _check_arguments(launch, findings)
    return launch


def _elsewhere(name: str) -> str:
    """Return why a program cannot start a server in a pod, empty if it can."""
    if name in _SECRET_RUNNERS:
        return (
            f"is {name}, which takes secrets from your machine or your account: write the program that it starts, and "
            "each secret into env as ${NAME}"
        )
    if name in _CONNECTORS:
        return (
            f"is {name}, which connects with your own login, and a pod does not have it: write the program of the "
            "server, to run it from an image, or its url"
        )
    return ""


def _base(program: Word) -> str:
    """Return the name of a program, without its folder and without a suffix of Windows."""
    return _SUFFIX.sub("", re.split(r"[/\\]", program.text)[-1])


def _unwrap(words: list[Word], env: dict[str, Word]) -> tuple[list[Word], dict[str, Word]]:
    """Take off what only starts the program on the user's machine: cmd /c, wsl, env."""
    while len(words) > 1:
        name = _base(words[0]).lower()
        rest = words[1:]
        if name == "cmd" and rest[0].text.startswith("/"):
            while len(rest) > 1 and rest[0].text.startswith("/"):
                rest = rest[1:]
        elif name == "wsl":
            while len(rest) > 1 and rest[0].text.startswith("-"):
                has_value = rest[0].text in ("-d", "--distribution", "-u", "--user", "--cd")
                rest = rest[2:] if has_value and len(rest) > 2 else rest[1:]  # noqa: PLR2004 - a flag and its value
        elif name == "env" and re.match(r"-S$|-i$|[A-Za-z_][A-Za-z0-9_]*=|[A-Za-z]", rest[0].text):
            while len(rest) > 1 and re.match(r"-|[A-Za-z_][A-Za-z0-9_]*=", rest[0].text):
                variable, given, value = rest[0].text.partition("=")
                if given:
                    env[variable] = Word(value, rest[0].key)
                rest = rest[1:]
        else:
            break
        words = rest
    return words, env


def _program(word: Word, name: str, findings: Findings) -> Word:
    text = word.text
    has_spaces = text != text.strip() or (re.search(r"\s", text) and not _SPACED_PATH.match(text))
    found = placeholders(text)
    if found:
        findings.problem(
            f"{findings.place(word.key)} has {folder_problem(found[0]).partition(':')[0]}: write the program as the "
            "image has it"
        )
    elif not text or has_spaces or re.search(r"\s", name):
        findings.problem(
            f"{findings.place(word.key)} {show(text)} is not a program: write only the program, and the rest as args"
        )
    elif name.lower() in ("powershell", "pwsh"):
        findings.problem(
            f"{findings.place(word.key)} is a shell of Windows: write the program that it starts, with its args"
        )
    elif not (is_program(name, findings.own) and (is_machine_program(text) or is_program(text, findings.own))) and not (
        findings.is_kept(word)
    ):
        findings.problem(
            f"{findings.place(word.key)} may be a secret: if it is none, add {findings.keep_option(word.key)}"
        )
    elif is_machine_program(text):
        findings.notes.append(
            f"{word.key} is a path of your machine, of which the binding has only the program, {name}: the image must "
            "have it in its PATH"
        )
        return Word(name, word.key)
    findings.is_kept(word)
    return Word(name, word.key) if _SUFFIX.search(text) else word


def packaged(launch: Launch) -> list[Word]:
    """Return the package that a runner such as npx or uvx starts, and the arguments after it."""
    return launch.args[launch.package - 1 :] if launch.package else []


def _package_places(launch: Launch) -> frozenset[int]:
    """Return the indexes of arguments that name a package, a module or a program file, and set `launch.package`."""
    program = re.split(r"[/\\]", launch.program.text)[-1] if launch.program else ""
    places = {index + 1 for index, word in enumerate(launch.args[:-1]) if word.text in _PACKAGE_FLAGS and program}
    if program in PACKAGE_RUNNERS or re.sub(r"[\d.]+$", "", program) in _INTERPRETERS:
        index = 0
        while index < len(launch.args):
            text = launch.args[index].text
            if text in _PACKAGE_FLAGS or text in _OPTIONS_WITH_VALUE or (program == "npx" and text == "-p"):
                places.add(index + 1)
                index += 2
                if text in ("-m", "-jar"):
                    break
            elif text.startswith("-") or text in _SUBCOMMANDS:
                places |= {index} if text in _SUBCOMMANDS else set()
                index += 1
            else:
                places.add(index)
                launch.package = index + 1 if program in PACKAGE_RUNNERS else 0
                break
    return frozenset(places)


def _check_arguments(launch: Launch, findings: Findings) -> None:
    """Refuse secrets, because anyone who can read a pod can read its arguments."""
    fix = "anyone who can read the pod can read its arguments; write it into env, if the server reads it there"
    args = launch.args
    kept = [findings.is_kept(word) for word in args]
    before = ""
    for index, word in enumerate(args):
        if not kept[index]:
            filled = fill_defaults(word.text, findings.server.inputs, before.lstrip("-"), findings.own)
            args[index] = Word(filled, word.key)
        before = word.text if word.text.startswith("-") and "=" not in word.text else ""
    found = [([] if is_kept else placeholders(word.text)) for word, is_kept in zip(args, kept, strict=True)]
    by_problem: dict[str, list[Word]] = {}
    for word, ones in zip(args, found, strict=True):
        folder = next((one for one in ones if one.is_folder), None)
        if ones:
            message = folder_problem(folder) if folder else f"a placeholder, such as ${{TOKEN}}: {fix}"
            by_problem.setdefault("{has} " + message, []).append(word)
    for message, words in by_problem.items():
        findings.problem_of(words, message)
    own = findings.own
    places = _package_places(launch)
    for index in sorted(places):
        if index < len(args) and not harmful_arguments([args[index].text], own, frozenset([0])):
            own |= frozenset(word for word in name_words(args[index].text) if len(word) > 1)
    harmful = harmful_arguments([word.text for word in args], own, places)
    secret = [args[index] for index in harmful if not kept[index] and not found[index]]
    keep = " ".join(findings.keep_option(word.key) for word in secret)
    findings.problem_of(
        secret,
        f"may be a secret: {fix}. If it is none, add {keep}"
        if len(secret) == 1
        else f"may be secrets: {fix}. For those that are none, add {keep}",
    )
