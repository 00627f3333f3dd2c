"""Strict reading of JSON objects: an unknown, missing or mistyped field is refused with its path."""

import re
from typing import Any, Final

MAX_TEXT: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


class BundleInvalid(ValueError):  # noqa: N818 - says the state of a bundle, as the contract names it
    """The text is no bundle of this version; the message starts with the path of what is wrong."""


class StrictFields:
    """One JSON object being taken apart; what was not taken when it is closed is refused."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise BundleInvalid(f"{path or '$'}: must be an object")
        self._left = dict(value)
        self._path = path

    def at(self, key: str) -> str:
        """Return the path of a field."""
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        """Say whether a field is there and not taken yet."""
        return key in self._left

    def take(self, key: str) -> Any:
        """Take a field, whatever it is."""
        if key not in self._left:
            raise BundleInvalid(f"{self.at(key)}: is missing")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        """Take a string."""
        return _text(self.take(key), self.at(key))

    def name(self, key: str) -> str:
        """Take a DNS label: names become path segments, of URLs and of the pipes' directory."""
        value = self.take(key)
        if not isinstance(value, str) or _NAME.match(value) is None:
            raise BundleInvalid(f"{self.at(key)}: must be a DNS label (lower case letters, digits and -, at most 63)")
        return value

    def number(self, key: str, least: int, most: int) -> int:
        """Take an integer within bounds."""
        value = self.take(key)
        if type(value) is not int or not least <= value <= most:  # True is an int, and 1.0 == 1
            raise BundleInvalid(f"{self.at(key)}: must be an integer from {least} to {most}")
        return value

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        """Take one of some words."""
        return _one_of(self.take(key), self.at(key), choices)

    def items(self, key: str) -> list[tuple[Any, str]]:
        """Take a list: what is in it, each with its path."""
        value = self.take(key)
        if not isinstance(value, list):
            raise BundleInvalid(f"{self.at(key)}: must be a list")
        return [(item, f"{self.at(key)}[{index}]") for index, item in enumerate(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of strings."""
        return tuple(_text(item, path) for item, path in self.items(key))

    def some_of(self, key: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Take a list of words out of some."""
        return tuple(_one_of(item, path, choices) for item, path in self.items(key))

    def exactly_one(self, *keys: str) -> str:
        """Return which one of these fields is there."""
        there = [key for key in keys if self.has(key)]
        if len(there) != 1:
            raise BundleInvalid(f"{self._path}: must have exactly one of {', '.join(keys)}")
        return there[0]

    def close(self) -> None:
        """Refuse what is left."""
        for key in self._left:
            raise BundleInvalid(f"{self.at(key)}: is unknown")


def refuse_doubles(values: list[str], path: str, key: str) -> None:
    """Refuse a list in which two have the same key."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise BundleInvalid(f"{path}[{index}].{key}: {value!r} is there twice")
        seen.add(value)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise BundleInvalid(f"{path}: must be a string of 1 to {MAX_TEXT} characters")
    return value


def _one_of(value: Any, path: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise BundleInvalid(f"{path}: must be one of {', '.join(choices)}")
    return value
