"""The JSON of MCP client configs: comments and commas before a closing bracket are read, duplicate keys are refused.

VS Code, Zed and opencode write such files, and users add comments to those of other clients. Every step takes time in
proportion to the length of the text, whatever is in it.
"""

import json
import re
from typing import Any, Final, NoReturn

from interlock_cli.harmless import show_name

LARGEST_FILE: Final = 1048576
_LONGEST_INTEGER: Final = 19
_LONGEST_START: Final = 65536


class ImportRefusedError(Exception):
    """An input that cannot be imported.

    Attributes:
        messages: One sentence for each problem. None of them has a value that may be a secret.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


def quote(value: object, longest: int = 80) -> str:
    """Return any value as one short line of printable characters."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


# The possessive quantifier and the end of the text as a second way out keep unclosed strings and comments linear. A
# backslash may be the last sign of the text.
_STRING: Final = r'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)'
_COMMENT_OR_STRING: Final = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_COMMA_OR_STRING: Final = re.compile(rf"{_STRING}|,(?=\s*+[\]}}])", re.DOTALL)


def parse_config(text: str, largest: int = LARGEST_FILE) -> Any:
    """Parse JSON with comments.

    Args:
        text: The file.
        largest: The bound of its length, in characters.

    Raises:
        ImportRefusedError: The text is no such JSON, repeats a key, is too long or is nested too deeply.
    """
    if len(text) > largest:
        raise ImportRefusedError(f"the file has more than {largest} characters: import fewer servers at once")
    plain = _COMMENT_OR_STRING.sub(_blank_comment, text.removeprefix("\ufeff"))
    plain = _COMMA_OR_STRING.sub(lambda found: " " if found[0] == "," else found[0], plain)
    try:
        parsed = json.loads(plain, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
        json.dumps(parsed, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ImportRefusedError(
            _other_format(text)
            or f"line {error.lineno}, column {error.colno}: {error.msg}: this is not JSON, fix it there"
        ) from None
    except UnicodeEncodeError:
        raise ImportRefusedError(
            "a string has half of a character (a lone surrogate): write the whole character"
        ) from None
    except RecursionError:
        raise ImportRefusedError("the file is nested too deeply: no server needs that, remove it") from None
    return parsed


_FROM_TOML: Final = (
    'python3 -c "import json, sys, tomllib; print(json.dumps(tomllib.load(sys.stdin.buffer), default=str))"'
)


def _other_format(text: str) -> str:
    """Return what a text is that is not JSON, with the fix. Empty if its errors are only those of JSON."""
    start = text.removeprefix("\ufeff").lstrip()[:_LONGEST_START]
    found = ""
    if not start:
        found = 'the file is empty: write {"mcpServers": {"<name>": ...}}'
    elif start.startswith('"'):
        found = "the file is a part of a JSON object: write { before it and } after it"
    elif start.startswith(("{", "[{")):
        if re.search("[\u201c\u201d\u2018\u2019]", start) or re.match(r"[\[{]\s*'", start):
            found = 'the file has other quotation marks than JSON: write "straight double ones"'
    elif "```" in start:
        found = "the file has text around its JSON: remove that text and the lines of ```"
    elif re.search(r"^\[{1,2}[A-Za-z_][^\]\n]*\]", start, re.MULTILINE):
        found = f"the file is TOML, such as that of Codex. Convert it to JSON: {_FROM_TOML} < FILE > mcp.json"
    elif re.match(r"---|#|[A-Za-z_][-A-Za-z0-9_.]*:", start):
        found = "the file is YAML. Convert it to JSON, for example: yq -o json FILE > mcp.json"
    return found


def _blank_comment(found: re.Match[str]) -> str:
    """Replace a comment by spaces of its size, so that the lines and columns of errors are those of the file."""
    text = found[0]
    is_open = text.startswith("/*") and not (len(text) > len("/*/") and text.endswith("*/"))
    return text if text.startswith('"') or is_open else re.sub(r"[^\n]", " ", text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ImportRefusedError(f"the key {show_name(key)} is present twice in one object: keep one of them")
        members[key] = value
    return members


def _constant(text: str) -> NoReturn:
    raise ImportRefusedError(f"{text} is not JSON: write a number or a string")


def _integer(text: str) -> int | float:
    """Return an integer, and a float instead of one that Python refuses to convert."""
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)
