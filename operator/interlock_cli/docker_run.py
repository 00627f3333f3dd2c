"""The parser of `docker run` in a client config: flags, then the image, then the arguments of its entry point."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from interlock_cli.credentials import placeholders
from interlock_cli.findings import Findings, Word
from interlock_cli.harmless import is_image, is_name, show_name
from interlock_cli.vocabulary import split_words

CONTAINER_PROGRAMS: Final = ("docker", "podman", "nerdctl")
_SWITCHES: Final = re.compile(
    r"-[ditq]{1,4}|--(interactive|tty|rm|init|quiet|read-only|sig-proxy|detach|no-healthcheck|tls-verify)"
)
_LEFT_OUT: Final = split_words("""
    --name --pull --platform --hostname -h --label -l --memory -m --cpus --log-driver --log-opt
    --restart --shm-size --stop-timeout --security-opt --cap-drop --pids-limit --ulimit --memory-swap
    --cidfile --userns
    """)
"""Flags with a value that a pod has no use for, or that Interlock sets itself."""
_REFUSED: Final = split_words("""
    -v --volume --mount -p --publish --network --net --env-file --add-host --gpus --cap-add -u --user -w
    --workdir --device --link --volumes-from --dns --tmpfs --ipc --pid -P --publish-all --privileged
    """)
_WITHOUT_VALUE: Final = frozenset(["-P", "--publish-all", "--privileged"])


@dataclass
class DockerRun:
    """A `docker run`.

    Attributes:
        image: The image, None if there is none or if its place is not clear.
        args: The arguments after it.
        entrypoint: The program of `--entrypoint`, None for the image's own.
        env: The variables that it hands to the container.
    """

    image: Word | None = None
    args: list[Word] = field(default_factory=list)
    entrypoint: Word | None = None
    env: dict[str, Word] = field(default_factory=dict)


def parse_docker_run(words: list[Word], variables: Mapping[str, Word], findings: Findings) -> DockerRun:
    """Parse the words after the program. Each problem goes to the findings.

    Args:
        words: The arguments of docker.
        variables: The config's `env`. Variables that docker run does not pass on never reached the server.
        findings: The findings about the server.
    """
    rest = list(words)
    if rest and rest[0].text == "container":
        rest.pop(0)
    if not rest or rest[0].text != "run":
        findings.problem(
            f"{findings.place('args')} do not start with run: only docker run can be imported. "
            "Write docker run with the image of the server, or the program that runs in it"
        )
        return DockerRun()
    rest.pop(0)
    found, refused, is_clear = DockerRun(), list[str](), True
    while rest and rest[0].text.startswith("-") and is_clear:
        is_clear = _take_flag(rest, found, variables, findings, refused)
    if refused:
        findings.problem(
            f"{findings.place('args')}: {', '.join(dict.fromkeys(refused))} of docker run cannot be imported: remove it"
            " (a cluster has no folders and volumes of your machine), and write what the server needs into the binding"
        )
    if rest and is_clear:
        found.image, found.args = rest[0], rest[1:]
    elif is_clear:
        findings.problem(f"{findings.place('args')} name no image: write it after the flags of docker run")
    image = found.image
    if image is not None and not findings.is_kept(image) and (placeholders(image.text) or not is_image(image.text)):
        found.image = None
        findings.problem_of(
            [image],
            "{has} a placeholder in the image, which only the MCP client can fill in: write the image"
            if placeholders(image.text)
            else "is where docker run has its image, but has not the shape of one: write registry/name:tag, or add "
            f"{findings.keep_option(image.key)}",
        )
    return found


def _take_flag(
    rest: list[Word], found: DockerRun, variables: Mapping[str, Word], findings: Findings, refused: list[str]
) -> bool:
    """Take one flag with its value off the words. Return False if it is not clear where the image is."""
    word = rest.pop(0)
    flag, has_value, value = word.text.partition("=")
    if re.fullmatch(r"-e[A-Za-z_].*", word.text, re.DOTALL):
        flag, has_value, value = "-e", "=", word.text[2:]
    if _SWITCHES.fullmatch(flag):
        return True
    taken = Word(value, word.key)
    if not has_value and flag in (*_LEFT_OUT, *_REFUSED - _WITHOUT_VALUE, "-e", "--env", "--entrypoint"):
        taken = rest.pop(0) if rest else Word("", word.key)
    if flag in ("-e", "--env"):
        name, given, literal = taken.text.partition("=")
        if not is_name(name):
            findings.problem(f"{findings.place(taken.key)} passes on {show_name(name)}: write -e NAME=value")
        elif given:
            found.env[name] = Word(literal, taken.key)
        elif name in variables:
            found.env[name] = variables[name]
        else:
            findings.problem(
                f"{findings.place('args')} pass on {show_name(name)}, which env does not have: add it to env"
            )
    elif flag == "--entrypoint":
        found.entrypoint = taken
    elif flag not in _LEFT_OUT:
        refused.append(show_name(flag))
        return flag in _REFUSED or bool(has_value)
    return True
