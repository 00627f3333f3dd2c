"""The findings about one server: its problems, notes for the reviewer, and values that its user keeps."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from interlock_cli.client_config import ConfiguredServer
from interlock_cli.config_json import ImportRefusedError
from interlock_cli.credentials import Secrets
from interlock_cli.secret_names import name_words


@dataclass(frozen=True)
class Word:
    """A string of a config.

    Attributes:
        text: The string.
        key: Its key below its server in the file, such as `args[3]` or `env.PORT`.
    """

    text: str
    key: str


@dataclass
class Findings:
    """The findings about one server.

    Attributes:
        server: The server.
        keep: The keys of values that are kept as they are, whatever their shape.
        problems: A sentence for each reason why it cannot be imported.
        notes: Sentences for the reviewer.
        kept: The keys of `keep` that exist.
    """

    server: ConfiguredServer
    keep: frozenset[str] = frozenset()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.notes += self.server.notes
        self.secrets = Secrets(self.server.source)
        self.own = frozenset(word for word in name_words(self.server.name) if len(word) > 1)

    def key(self, setting: str) -> str:
        """Return the key in the file of a setting: `args[0]` may be `command[1]` there."""
        head, dot, rest = setting.partition(".")
        return f"{self.server.origins.get(head, head)}{dot}{rest}"

    def place(self, *keys: str) -> str:
        """Return the place of settings, all of this server, by their keys in the file."""
        return f"{self.server.place}.{', '.join(keys)}"

    def is_kept(self, word: Word, setting: str = "") -> bool:
        """Return True if the user keeps a value, by its key in the file or by its setting."""
        found = {word.key, setting} & self.keep
        self.kept |= found
        return bool(found)

    def keep_option(self, key: str) -> str:
        """Return the option that keeps a value, as a shell reads it."""
        return f"--keep {shlex.quote(f'{self.server.source}:{key}')}"

    def problem(self, message: str) -> None:
        """Add a problem."""
        self.problems.append(message)

    def problem_of(self, words: Sequence[Word], message: str) -> None:
        """Add one problem of several values, if there are any. `{has}` in the message agrees with their number."""
        if words:
            keys = list(dict.fromkeys(word.key for word in words))
            self.problem(f"{self.place(*keys)} {message.replace('{has}', 'has' if len(keys) == 1 else 'have')}")

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Turn a refusal inside into problems, so that the next check still runs."""
        try:
            yield
        except ImportRefusedError as error:
            self.problems += error.messages

    def finish(self) -> None:
        """End the import of the server.

        Raises:
            ImportRefusedError: It has problems, or a value to keep does not exist.
        """
        for key in sorted(self.keep - self.kept):
            self.problem(f"{self.keep_option(key)} names no value of {self.server.place} that was judged: remove it")
        if self.problems:
            raise ImportRefusedError(*dict.fromkeys(self.problems))
