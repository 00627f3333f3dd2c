"""Strict documents: frozen structs that are read from JSON text, in which no field is unknown, missing or mistyped.

msgspec checks types, bounds and patterns. The structs check the rules over several fields. msgspec accepts null for an
optional field, and a missing field that has a default. Writing the document again shows both.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Final, TypeVar, get_args

import msgspec
from msgspec import Meta

from interlock_contract.strict_json import JsonInvalid, build_encoder, parse_json

T = TypeVar("T")

MAX_TEXT: Final = 1024
_FIELD: Final = re.compile(r"Object (?:missing required|contains (unknown)) field `(.*)`", re.DOTALL)
_WORDS: Final[dict[str, str]] = {}
"""The words of `like`, by msgspec's message about a text that does not match."""
_encode = build_encoder(sort_keys=True, ensure_ascii=False)


class BundleInvalid(ValueError):  # noqa: N818 - says the state of a bundle, as the contract names it
    """The text is no bundle of this version; the message starts with the path of what is wrong."""


class StrictStruct(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True, gc=False
):
    """A JSON object with exactly these fields, in camelCase. A field that has its default is not written.

    A subclass with rules over several fields has a method `check`. It raises ValueError with the path from here on,
    such as `.name: is reserved`, or `: must have exactly one of a, b`. `check` runs only when a document is read: a
    guard must see an invalid bundle to close, so the control plane must be able to write one. The garbage collector
    ignores structs, because documents have no cycles.
    """


Document = TypeVar("Document", bound=StrictStruct)


def written(default: T) -> T:
    """Return a default that only Python code has: the field is always written, and a document must have it."""
    return msgspec.field(default_factory=lambda: default)


def like(pattern: str, words: str) -> Meta:
    """Return the constraint that a whole text matches a pattern; `words` complete "must be" in the refusal."""
    whole = rf"\A(?:{pattern.removeprefix('^').removesuffix('$')})\Z"
    _WORDS[f"Expected `str` matching regex {whole!r}"] = f"must be {words}"
    return Meta(pattern=whole)


Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[
    str, like(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a DNS label (lower case letters, digits and -, at most 63)")
]
"""Names become path segments, of URLs and of the pipes' directory."""
Digest = Annotated[str, like(r"[0-9a-f]{64}", "a SHA-256 in 64 hexadecimal digits")]


def parse_document(text: str, kind: type[Document], *versions: int, key: str) -> Document:
    """Read a document.

    Args:
        text: Strict JSON.
        kind: The struct of its root.
        versions: The versions that are read.
        key: The field of the root that holds the version.

    Raises:
        BundleInvalid: Naming the path, such as `sources[0].tools[2].operation`.
    """
    try:
        value = parse_json(text)
    except JsonInvalid as error:
        raise BundleInvalid(f"$: {error}") from None
    # The version comes first, because a document of another version can differ anywhere.
    if isinstance(value, dict) and value.get(key, versions[0]) not in versions:
        raise BundleInvalid(f"{key}: this program reads version {' and '.join(map(str, versions))}")
    try:
        document = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BundleInvalid(_explain(str(error))) from None
    again = dump_document(document)
    if again != text and again != _encode(value):  # what the control plane wrote is equal to the first
        raise BundleInvalid(next(_differences(value, parse_json(again), ""), "$: is written in another way"))
    _check(document, "")
    return document


def dump_document(document: StrictStruct) -> str:
    """Write a document canonically: equal documents give equal text, key order and spacing included."""
    return _encode(msgspec.to_builtins(document))


def refuse_doubles(values: Iterable[str], path: str, key: str) -> None:
    """Refuse a list in which two have the same key.

    Raises:
        ValueError: Two have.
    """
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise ValueError(f".{path}[{index}].{key}: {value!r} is there twice")
        seen.add(value)


def require_one(**fields: object) -> None:
    """Refuse an object that has none of these fields, or several.

    Raises:
        ValueError: It has.
    """
    if list(fields.values()).count(None) != len(fields) - 1:
        raise ValueError(f": must have exactly one of {', '.join(fields)}")


def _explain(error: str) -> str:
    """Return msgspec's message with the path first: `Expected `int` - at `$.a.b`` is `a.b: Expected `int``."""
    message, found, path = error.rpartition(" - at `$")
    message, path = (message, path.removesuffix("`")) if found else (path, "")
    field = _FIELD.fullmatch(message)
    if field is not None:
        return f"{path}.{field[2]}: is {field[1] or 'missing'}".removeprefix(".")
    return f"{path.removeprefix('.') or '$'}: {_WORDS.get(message, message)}"


def _check(struct: StrictStruct, path: str) -> None:
    """Check the rules of a struct and of all structs in it.

    Raises:
        BundleInvalid: A rule is broken.
    """
    for name, key in _nested(type(struct)):
        _check_within(getattr(struct, name), f"{path}.{key}")
    if (check := getattr(struct, "check", None)) is not None:
        try:
            check()
        except ValueError as error:
            raise BundleInvalid(f"{path}{error}".removeprefix(".")) from None


def _check_within(value: StrictStruct | tuple[Any, ...] | None, path: str) -> None:
    """Check the structs of a field: one, none, or those of a list, which may hold lists."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            _check_within(item, f"{path}[{index}]")
    elif value is not None:
        _check(value, path)


@cache
def _nested(kind: type[StrictStruct]) -> list[tuple[str, str]]:
    """Return the fields that hold structs, each as attribute and key."""
    return [(field.name, field.encode_name) for field in msgspec.structs.fields(kind) if _holds_structs(field.type)]


def _holds_structs(kind: Any) -> bool:
    return (isinstance(kind, type) and issubclass(kind, StrictStruct)) or any(map(_holds_structs, get_args(kind)))


def _differences(value: Any, again: Any, path: str) -> Iterator[str]:
    """Yield the paths of what stands in only one of a document and the same document written again."""
    if isinstance(value, dict):
        for key in sorted(value.keys() ^ again.keys()):
            yield f"{path}.{key}: {'must be left out' if key in value else 'is missing'}".removeprefix(".")
        for key in sorted(value.keys() & again.keys()):
            yield from _differences(value[key], again[key], f"{path}.{key}")
    elif isinstance(value, list):
        for index, (item, other) in enumerate(zip(value, again, strict=True)):
            yield from _differences(item, other, f"{path}[{index}]")
