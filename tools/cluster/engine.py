"""Which Docker engine is used: one that answers, or a private one."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.machine.errors import UnavailableError
from tools.machine.process import pipe, run, say, succeeds
from tools.machine.settings import EngineChoice, Settings
from tools.nodeless import private_engine, private_runtime

ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers.

    Attributes:
        is_private: whether it is ours to stop.
        environment: the variables with which docker and kind reach it.
    """

    is_private: bool
    environment: Mapping[str, str] = field(default_factory=dict)

    def docker(self, *arguments: str, timeout: float = 600) -> str:
        """Run a docker command and return its output.

        Raises:
            CommandFailedError: docker's own words.
        """
        return run(["docker", *arguments], env=self.environment, timeout=timeout)

    def import_root(self, root: Path, name: str, changes: Sequence[str] = ()) -> None:
        """Create an image of a file tree, with changes as `docker import --change` takes them.

        Raises:
            CommandFailedError: docker's own words.
        """
        options = [word for change in changes for word in ("--change", change)]
        pack: list[str | Path] = ["tar", "--numeric-owner", "--directory", root, "--create", "--file", "-", "."]
        pipe(pack, ["docker", "import", *options, "-", name], env=self.environment)

    def build(self, *arguments: str, stdin: bytes, log: Path, timeout: float = 1800) -> None:
        """Run `docker build` with these arguments and append its output to log.

        Raises:
            CommandFailedError: docker's own words.
        """
        environ = dict(self.environment)
        if self.is_private or private_runtime.is_needed():
            # BuildKit starts runc itself, past the engine's default runtime that adapts to this machine.
            environ["DOCKER_BUILDKIT"] = "0"
        run(["docker", "build", *arguments], env=environ, stdin=stdin, log=log, timeout=timeout)

    def has_image(self, name: str) -> bool:
        """Return True if the engine holds this image."""
        return succeeds(["docker", "image", "inspect", name], env=self.environment)


def existing_answers() -> bool:
    """Return True if an existing engine answers this user (DOCKER_HOST, a docker context or the default socket)."""
    if shutil.which("docker") is None:
        return False
    return succeeds(["docker", "info"], timeout=ANSWER_SECONDS)


def running(settings: Settings) -> Engine | None:
    """Return the engine that our clusters would be in, without starting any."""
    private = Engine(is_private=True, environment=private_engine.environment(settings))
    if settings.engine is not EngineChoice.EXISTING and private_engine.is_running(settings):
        return private
    if settings.engine is not EngineChoice.PRIVATE and existing_answers():
        return Engine(is_private=False)
    return None


def impossible(settings: Settings) -> str | None:
    """Return the message that says why no engine can run here, or None if one can."""
    if running(settings) is not None:
        return None
    if settings.engine is EngineChoice.EXISTING:
        return "no Docker engine answers, and INTERLOCK_ENGINE=existing forbids to start one"
    return private_engine.impossible()


def ensure(settings: Settings) -> Engine:
    """Return the engine to use, started if it is the private one.

    Raises:
        UnavailableError: none answers and none can be started here.
        StepFailedError: the private one did not come up.
    """
    found = running(settings)
    if found is not None:
        say(f"engine: {'the private one of before' if found.is_private else 'the one that answers here'}")
        return found
    if reason := impossible(settings):
        raise UnavailableError(reason)
    private_engine.start(settings)
    return Engine(is_private=True, environment=private_engine.environment(settings))
