"""The usage of an answer that is no stream of events, read while the answer passes. Pure.

A small answer is kept and parsed when it has ended. From a large one, such as that of an embedding with megabytes of
numbers, only the few members that matter are kept.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from interlock_guard.budget.dialects import Dialect
from interlock_guard.budget.member_scanner import MemberScanner, Path, SetBack
from interlock_guard.budget.usage import Answer, build_answer, read_usage

_SMALL: Final = 64 * 1024
_USAGE: Final[Path] = ("usage",)
_MODEL: Final[Path] = ("model",)
_TIER: Final[Path] = ("service_tier",)


@dataclass(frozen=True, slots=True)
class Watch:
    """What must be known of a request to read its answer.

    Attributes:
        endpoint: The path that was posted to.
        dialect: How the provider counts.
        takes_out: Whether the guard alone has asked for the usage of a stream, so that the client expects none.
        set_back: A member that the answer repeats, and that the client has not sent.
        has_hour_cache: Whether the body may write to a cache of a long lifetime.
        echoes: Whether the answer repeats the prompt, whose bytes are then no output.
    """

    endpoint: str
    dialect: Dialect
    takes_out: bool = False
    set_back: SetBack | None = None
    has_hour_cache: bool = False
    echoes: bool = False

    def build_answer(self, usage: Any, model: Any, tier: Any, output_bytes: int = 0) -> Answer:
        """Return an answer from the members that it has."""
        read = read_usage(self.endpoint, usage, self.dialect, has_hour_cache=self.has_hour_cache)
        return build_answer(read, model=model, service_tier=tier, raw_usage=usage, output_bytes=output_bytes)


class BodyUsage:
    """Reads one answer.

    Args:
        watch: What is known of its request.

    Attributes:
        body: The whole answer, once it is finished; None of a large one, and of one that is no object.
    """

    def __init__(self, watch: Watch) -> None:
        self.body: dict[str, Any] | None = None
        self._watch = watch
        self._text = bytearray()
        self._is_small = True
        self._scanner: MemberScanner | None = None
        if watch.set_back is not None:
            self._scanner = MemberScanner((_USAGE, _MODEL, _TIER), watch.set_back)

    def feed(self, chunk: bytes) -> bytes:
        """Take a part of the answer, and return what passes of it. Only what is set back differs."""
        if self._is_small:
            self._text += chunk
            if len(self._text) > _SMALL:
                self._is_small, text = False, bytes(self._text)
                self._text.clear()
                if self._scanner is None:
                    self._scanner = MemberScanner((_USAGE, _MODEL, _TIER))
                    self._scanner.feed(text)
                    return chunk
        return chunk if self._scanner is None else self._scanner.feed(chunk)

    def finish(self) -> Answer:
        """Return what is known when the answer is complete."""
        found = self._scanner
        if self._is_small:
            try:
                body = json.loads(self._text)
            except (ValueError, RecursionError):
                body = None
            self.body = body if isinstance(body, dict) else None
        if found is not None:
            return self._watch.build_answer(found.get(_USAGE), found.get(_MODEL), found.get(_TIER))
        members = self.body or {}
        return self._watch.build_answer(members.get("usage"), members.get("model"), members.get("service_tier"))
