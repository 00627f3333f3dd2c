"""The shapes of values that may be printed: flag, small number, package, path, host, URL, known word.

No test can tell whether a string is a secret, so the import judges the other way around. A value of none of these
shapes is never printed: it becomes a key of a Secret, or its user allows it with `--keep`. The name before a value
narrows or widens the list (`kind_of`).
"""

import ipaddress
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from interlock_cli.secret_names import kind_of, name_words
from interlock_cli.vocabulary import KNOWN_WORDS, split_words

_LONGEST: Final = 1024
_MOST_WORDS: Final = 64
_SEED_PHRASE: Final = 12
_LONGEST_NAME: Final = 64
_MOST_DIGITS: Final = 10
_MOST_DIGITS_IN_ROW: Final = 15
_LEAST_IN_GROUPS: Final = 16
_GROUP_SIZES: Final = range(4, 7)
_MOST_PIECES: Final = 4
_MOST_UNKNOWN: Final = 2
_SHORT: Final = 4
_LONGEST_PIECE: Final = 14
_LONGEST_IN_URL: Final = 10
_LONGEST_IN_SCOPED: Final = 20
_LONGEST_NUMBER: Final = 4
_SWITCH: Final = split_words("""
    true false yes no on off none null auto default always never enabled disabled oauth basic bearer stdio *
    """)
_NUMBER: Final = re.compile(r"[+-]?\d{1,5}(\.\d{1,4})?(ms|s|m|h|d|k|kb|mb|gb|ki|mi|gi|%)?", re.IGNORECASE)
_MEASURE: Final = re.compile(
    r"[+-]?(\d{1,7}|\d{1,6}000|\d{1,3}000000)(\.\d{1,4})?(ms|s|m|h|d|k|kb|mb|gb|ki|mi|gi|%)?", re.IGNORECASE
)
_VERSION: Final = re.compile(
    r"[v^~]?\d{1,4}(\.\d{1,4}){1,3}([-.]?(alpha|beta|a|b|rc|dev|post)\.?\d{0,4})?|\d{4}-\d{2}-\d{2}"
)
_SIZE: Final = re.compile(r"\d{2,5}x\d{2,5}")
"""Of a window, such as 1920x1080."""

_TAG: Final = re.compile(r"\d{1,4}|20\d{6}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.,][A-Za-z0-9]+)*")
_ABBREVIATION: Final = re.compile(r"[a-z]{1,2}\d{1,2}[a-z]{0,2}|[A-Z]{1,2}\d{1,2}[A-Z]{0,2}")
"""Such as n8n, k8s, S3."""

_TITLE: Final = re.compile(r"[A-Z]?[a-z]+\d{0,6}|\d{1,6}")
_NUMBERS: Final = re.compile(r"[\d\s,;:-]+")
_GROUPS: Final = re.compile(r"[A-Za-z0-9]+(?:[- ][A-Za-z0-9]+){2,}")
_FLAG: Final = re.compile(r"--[A-Za-z][-A-Za-z0-9_.]*|-[A-Za-z]{1,3}")
_GO_FLAG: Final = re.compile(r"-[a-z]{4,}([-_][a-z]+)*")
_JAVA_FLAG: Final = re.compile(r"-X[a-z]{2}\d{1,4}[kmg]")
_ASSIGNED: Final = re.compile(r"(-{0,2}[A-Za-z_][-A-Za-z0-9_.]{0,63})(?:=|: )(.*)", re.DOTALL)
_PACKAGE: Final = re.compile(
    r"(?:npm:|jsr:|github:|gitlab:)?(@?[A-Za-z0-9][-A-Za-z0-9_.]*(?:/[A-Za-z0-9][-A-Za-z0-9_.]*){0,6})(\[[a-z,]+\])?"
    r"(?:(?:@|==|>=|~=|#)(.+))?"
)
_SCOPED: Final = re.compile(r"@([a-z0-9][-a-z0-9_.]{0,63})/([a-z0-9][-a-z0-9_.]{0,63})(?:@(.+))?")
_SCOPED_WORD: Final = re.compile(r"\d{0,10}[a-z]*\d{0,10}|[a-z]*\d{0,10}[a-z]*")
_TAGGED: Final = re.compile(r"[A-Za-z][-A-Za-z0-9_.]*@(latest|next|beta|canary|\d+\.\d+\.\d+)")
_IMAGE: Final = re.compile(r"([a-z0-9][-a-z0-9._:/]*)(@sha256:[0-9a-f]{64})?")
_PATH_START: Final = re.compile(r"(/|\.{1,2}([/\\]|$)|~([/\\]|$)|[A-Za-z]:[/\\]|\\\\|%[A-Z]+%[/\\])")
_EXTENSION: Final = re.compile(
    r".+\.(c?js|mjs|jsx|tsx?|py|pyz|rb|php|jar|sh|bash|ps1|cmd|bat|exe|dll|json|jsonc|jsonl|ya?ml|toml|ini|cfg|conf|env"
    r"|db|sqlite3?|duckdb|csv|txt|md|log|pem|crt|wasm)"
)
_SCHEMES: Final = split_words("""
    http https ws wss postgres postgresql mysql mariadb mongodb mongodb+srv redis rediss amqp amqps sqlite file
    git+https git+ssh ssh s3 gs bolt bolt+s neo4j neo4j+s neo4j+ssc nats ldap ldaps clickhouse
    """)
_USERS: Final = split_words("root postgres mysql admin sa git reader readonly app user")
_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CONSONANTS: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", re.IGNORECASE)
_VOWEL: Final = re.compile(r"[aeiouy]", re.IGNORECASE)
_SHORT_FLAGS: Final = dict.fromkeys(split_words("-p -P -a -A -s -S -t -T -w -W"), "token-file") | {
    "-k": "key",
    "-K": "key",
}
"""Names for short flags that are often those of ports, and of passwords too."""
_OPERATORS: Final = frozenset(["&&", "||", "|", ";", "&", ">", "2>", ">>", "<"])


def is_harmless(value: str, name: str = "", own: frozenset[str] = frozenset()) -> bool:
    """Return True if a value has a shape that may be printed.

    Args:
        value: The value.
        name: The variable, flag, header or parameter that it is the value of. Empty if there is none.
        own: Further known words in lower case, such as those of the server's name.
    """
    if len(value) > _LONGEST or (value and not value.isprintable()) or _is_generated(value, own):
        return False
    if not value.isascii():  # folders have names in all languages
        return _PATH_START.match(value) is not None and _is_path(re.sub(r"[^\x00-\x7f]", "e", value), own)
    kind = kind_of(name)
    if kind == "secret":
        # A Secret's file, such as GOOGLE_APPLICATION_CREDENTIALS=/etc/crm/key.json, is no secret.
        return bool(_PATH_START.match(value) and _EXTENSION.fullmatch(value)) and _is_path(value, own)
    is_plain = not value or value.lower() in _SWITCH or _NUMBER.fullmatch(value) or _is_location(value, own)
    if is_plain or kind == "setting":
        return bool(is_plain)
    return (
        (kind == "measure" and _MEASURE.fullmatch(value) is not None)
        or (kind == "label" and _is_identifier(value, own))
        or _is_neutral(value, own)
    )


def harmful_arguments(words: Sequence[str], own: frozenset[str], packages: frozenset[int] = frozenset()) -> list[int]:
    """Return the indexes of arguments that must not be printed.

    Args:
        words: The arguments.
        own: Further known words in lower case.
        packages: The indexes of arguments in the place of a package, module or program file.
    """
    found, before = [], ""
    for index, word in enumerate(words):
        if _is_flag(word):
            before = word
            continue
        if not word or (word.endswith("=") and _is_flag(word[:-1])):  # an empty value is no secret
            before = ""
            continue
        name = _SHORT_FLAGS.get(before, before.lstrip("-"))
        if word.startswith("-") and "=" in word and kind_of(name) != "secret":
            name = ""  # a flag with a value of its own
        is_named = index in packages and is_package(word, own)
        if not is_named and not is_harmless(word, "" if index in packages else name, own):
            found.append(index)
        before = ""
    return found


def is_package(word: str, own: frozenset[str] = frozenset()) -> bool:
    """Return True if a word is the name of a package, module or program, with an optional version."""
    if len(word) > _LONGEST or _is_generated(word, own):
        return False
    scoped = _SCOPED.fullmatch(word)
    if scoped is not None:  # the names of packages have other words than English, but no random signs
        words = re.split(r"[-_.]", f"{scoped.group(1)}-{scoped.group(2)}")
        return all(_is_scoped_word(word, own) for word in words) and _is_version(scoped.group(3), own)
    named = _PACKAGE.fullmatch(word)
    if named is None:
        return _is_location(word, own)
    return _is_version(named.group(3), own) and all(
        _is_plain(part, own) for part in re.split(r"[^A-Za-z0-9]+", named.group(1)) if part
    )


def _is_scoped_word(word: str, own: frozenset[str]) -> bool:
    letters = re.findall("[a-z]+", word)
    is_word = _SCOPED_WORD.fullmatch(word) is not None and sum(map(str.isdigit, word)) <= _MOST_DIGITS
    return is_word and all(_is_readable(one, _LONGEST_IN_SCOPED, own) for one in letters)


def _is_version(version: str | None, own: frozenset[str]) -> bool:
    """Return True for what may follow the name of a package: a version, a tag, or an output of a Nix flake."""
    if version is None or _VERSION.fullmatch(version) or _TAG.fullmatch(version):
        return True
    return _is_plain(version, own) or all(_is_known(part, own) for part in re.split(r"[-_.]", version))


def is_program(word: str, own: frozenset[str] = frozenset()) -> bool:
    """Return True if a word is a program, by its name or path."""
    return len(word) <= _LONGEST and word.isascii() and (is_package(word, own) or _is_path(word, own))


def is_image(word: str) -> bool:
    """Return True if a word is the reference of an image: names, tag and digest."""
    named = _IMAGE.fullmatch(word[:_LONGEST])
    if named is None or len(word) > _LONGEST or _is_generated(named.group(1), frozenset()):
        return False
    name = re.sub(r"^\d{12}(?=\.dkr\.ecr\.)", "", named.group(1))  # the account of a registry of AWS
    parts = [part for part in re.split(r"[^a-z0-9]+", name) if part]
    return all(_is_plain(part, frozenset()) or _TAG.fullmatch(part) for part in parts)


def is_name(text: str) -> bool:
    """Return True if a text is a name that may be printed, of a variable, header or setting."""
    parts = re.split(r"[-_. /]", text)
    is_short = len(text) <= _LONGEST_NAME and text.isascii()
    return is_short and all(map(_is_name_part, parts)) and not _is_generated(text, frozenset())


def _is_name_part(part: str) -> bool:
    # Names have abbreviations, and words such as PASSPHRASE with many consonants.
    if re.fullmatch(r"([A-Z]{2,8}|[a-z]{2,8})\d{1,2}[A-Za-z]{0,3}", part):  # such as NEO4J
        return True
    is_word = part.isalpha() and len(part) <= _LONGEST_PIECE and (part.islower() or part.isupper() or part.istitle())
    return is_word or _is_plain(part, frozenset())


def show(value: str) -> str:
    """Return a value for a message: quoted if it is harmless, otherwise only its length."""
    return ascii(value) if is_harmless(value) else f"(a value of {len(value)} characters)"


def show_name(text: str) -> str:
    """Return a name for a message: quoted if it reads as a name, otherwise only its length."""
    return ascii(text) if is_name(text) else f"(a name of {len(text)} characters)"


def _is_flag(word: str) -> bool:
    is_flag = _FLAG.fullmatch(word[:_LONGEST]) and is_name(word.lstrip("-").replace(".", "-"))
    # Programs in Go have flags such as -debug. Others have a password after -p, so only known words are flags.
    is_known = _GO_FLAG.fullmatch(word[:_LONGEST]) and KNOWN_WORDS.issuperset(re.split("[-_]", word[1:]))
    return bool(is_flag or is_known) or _JAVA_FLAG.fullmatch(word) is not None


def _is_generated(value: str, own: frozenset[str]) -> bool:
    """Return True if a value has the form that programs give to secrets, whatever its parts look like.

    Such forms are a key written as a row of numbers, and a password in groups of one size, such as abcd-efgh-ijkl-mnop.
    """
    if any(sum(map(str.isdigit, found[0])) > _MOST_DIGITS_IN_ROW for found in _NUMBERS.finditer(value)):
        return True
    for found in _GROUPS.finditer(value):
        parts = re.split("[- ]", found[0])
        for size, row in groupby(parts, lambda part: 0 if _is_known(part, own) else len(part)):
            if size in _GROUP_SIZES and size * len(list(row)) >= _LEAST_IN_GROUPS:
                return True
    return False


def _is_neutral(value: str, own: frozenset[str]) -> bool:
    """Return True for what is harmless under any name that does not name a secret."""
    if _VERSION.fullmatch(value) or _SIZE.fullmatch(value) or value in ("-", "--") or _is_flag(value):
        return True
    if _is_compound(value, own) or _is_scoped_package(value, own):
        return True
    if re.fullmatch(r"\$\([A-Z][A-Z0-9_]*\)", value):
        return is_name(value[2:-1])
    if value[0] in "{[":
        return _is_harmless_json(value, own)
    assigned = _ASSIGNED.fullmatch(value) if value.count("=") <= _MOST_WORDS else None
    if assigned and ";" not in value and is_name(assigned.group(1).lstrip("-")):
        return is_harmless(assigned.group(2), assigned.group(1).lstrip("-"), own)
    return _is_list(value, own)


def _is_location(value: str, own: frozenset[str]) -> bool:
    return _is_host(value) or _is_url(value, own) or _is_path(value, own)


def _is_compound(value: str, own: frozenset[str]) -> bool:
    """Return True if a value consists of known words and small numbers, such as text-embedding-3-small."""
    words = re.split(r"[-_./]", value)
    known = [_is_known(word, own) for word in words]
    numbers = [bool(re.fullmatch(r"\d{1,6}|20[0-4]\d[01]\d[0-3]\d|\d{1,3}[a-z]|v\d{1,3}", word)) for word in words]
    digits = sum(sign.isdigit() for sign in value)
    return any(known) and digits <= _MOST_DIGITS and all(map(max, known, numbers))


def _is_known(word: str, own: frozenset[str]) -> bool:
    lower = word.lower()
    if lower in KNOWN_WORDS or lower in own or (lower[-1:].isdigit() and lower[:-1] in KNOWN_WORDS):
        return True
    pieces = _CAMEL.findall(word)
    is_whole = "".join(pieces) == word and 1 < len(pieces) <= _MOST_PIECES
    return is_whole and all(len(one) > 1 and (one.lower() in KNOWN_WORDS or one.lower() in own) for one in pieces)


def _is_plain(word: str, own: frozenset[str]) -> bool:
    """Return True if a word between separators reads as a name and not as random signs."""
    if _is_known(word, own) or not word or _ABBREVIATION.fullmatch(word):
        return True
    pieces = _CAMEL.findall(word)
    unknown = [one for one in pieces if not (one.isdigit() or one.lower() in KNOWN_WORDS or one.lower() in own)]
    is_mixed = len(unknown) > _MOST_UNKNOWN or (unknown and any(map(str.isdigit, pieces[1:-1])))
    if "".join(pieces) != word or len(pieces) > _MOST_PIECES or is_mixed:
        return False
    return all(
        len(one) <= _LONGEST_NUMBER if one.isdigit() else _is_readable(one, _LONGEST_PIECE, own) for one in pieces
    )


def _is_readable(letters: str, longest: int, own: frozenset[str]) -> bool:
    if letters.lower() in KNOWN_WORDS or letters.lower() in own or len(letters) <= _SHORT:
        return True
    is_pronounced = not _CONSONANTS.search(letters.lower().replace("mcp", "")) and _VOWEL.search(letters)
    return len(letters) <= longest and bool(is_pronounced)


def _is_identifier(value: str, own: frozenset[str]) -> bool:
    if not _IDENTIFIER.fullmatch(value) or sum(sign.isdigit() for sign in value) > _MOST_DIGITS:
        return False
    parts = re.split(r"[-_.,]", value)
    has_one_case = value in (value.lower(), value.upper()) or all(map(_TITLE.fullmatch, parts))
    return has_one_case and all(_is_plain(part, own) or re.fullmatch(r"\d{1,6}", part) for part in parts)


def _is_scoped_package(value: str, own: frozenset[str]) -> bool:
    """Return True for a package that can be nothing else, such as @scope/name, name==1.2.3 or name@latest."""
    is_alone = (value.startswith("@") and "/" in value) or "==" in value or _TAGGED.fullmatch(value) is not None
    return is_alone and is_package(value, own)


def _is_path(value: str, own: frozenset[str]) -> bool:
    if not (_PATH_START.match(value) or _EXTENSION.fullmatch(value)) or "//" in value or len(value) > _LONGEST:
        return False
    start = re.sub(r"^([A-Za-z]:|%[A-Z]+%)", "", value)
    parts = re.split(r"[/\\]", start)
    if not all(re.fullmatch(r"@?[-A-Za-z0-9_.+~ ()*]*", part) for part in parts):
        return False
    return all(_is_plain(word, own) for part in parts for word in re.split(r"[^A-Za-z0-9]+", part))


def _is_host(value: str) -> bool:
    host, _, port = value.partition(":") if value.count(":") == 1 else (value, "", "")
    if port and not re.fullmatch(r"\d{1,5}", port):
        return False
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        labels = host.split(".")
        is_domain = len(labels) > 1 and bool(re.fullmatch(r"[a-z]{2,12}", labels[-1]))
        return host == "localhost" or (is_domain and all(map(_is_label, labels)))
    return True


def _is_label(label: str) -> bool:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", label):
        return False
    return all(_is_plain(word, frozenset()) for word in label.split("-"))


def _is_url(value: str, own: frozenset[str]) -> bool:
    parts = _split_url(value.removeprefix("jdbc:"))
    if parts is None or parts.scheme.lower() not in _SCHEMES or parts.fragment or "webhook" in value.lower():
        return False
    if parts.scheme in ("file", "sqlite"):
        return not parts.netloc and not parts.query and _is_path(f"/{parts.path.lstrip('/')}", own)
    known = own | frozenset(name_words(parts.netloc))
    query = _split_query(parts.query)
    return (
        _is_address(parts)
        and all(_is_url_word(word, known) for word in re.split(r"[-_./@]", parts.path))
        and query is not None
        and all(is_name(name) and (not text or is_harmless(text, name, known)) for name, text in query)
    )


def _is_address(parts: SplitResult) -> bool:
    """Return True if a URL has a harmless host, and at most one of the usual users of databases."""
    user, has_user, address = parts.netloc.rpartition("@")
    address = address.lower()
    if has_user and (parts.scheme.startswith(("http", "ws")) or user.lower() not in _USERS):
        return False
    # A Service's name in its own namespace, such as http://crm:8000, is no domain.
    name, _, port = address.partition(":")
    is_service = _is_label(name) and re.fullmatch(r"\d{0,5}", port) is not None
    return not address.startswith("hooks.") and (_is_host(address) or is_service)


def _is_url_word(word: str, own: frozenset[str]) -> bool:
    """Return True if a word of a URL's path is no key: a known word, a small number, or few letters."""
    if not word or _is_known(word, own) or re.fullmatch(r"v?\d{1,4}([a-z]+\d?)?", word):
        return True
    return bool(re.fullmatch(r"[A-Z]?[a-z]+", word)) and _is_readable(word, _LONGEST_IN_URL, own)


def _split_url(value: str) -> SplitResult | None:
    if "://" not in value:
        return None
    try:
        return urlsplit(value)
    except ValueError:
        return None


def _split_query(query: str) -> list[tuple[str, str]] | None:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return None


def _is_harmless_json(value: str, own: frozenset[str]) -> bool:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return all(is_name(name) and is_harmless(text, name, own) for name, text in _leaves(parsed, ""))


def _leaves(value: Any, name: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{name} {key}".strip())
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, name)
    else:
        yield name, "" if value is None else str(value)


def _is_list(value: str, own: frozenset[str]) -> bool:
    """Return True for several harmless values: a list, or the line of a shell."""
    for separator in (";", ",", ":"):
        parts = [part.strip() for part in value.split(separator)]
        if separator in value and len(parts) <= _MOST_WORDS and " " not in value.replace(f"{separator} ", separator):
            is_paths = separator != ":" or all(_is_path(part, own) for part in parts)
            return is_paths and all(part != value and is_harmless(part, "", own) for part in parts)
    try:
        words = shlex.split(value)
    except ValueError:
        return False
    if len(words) < 2 or len(words) > _MOST_WORDS or (len(words) >= _SEED_PHRASE and value.replace(" ", "").isalpha()):  # noqa: PLR2004
        return False
    return not harmful_arguments([word for word in words if word not in _OPERATORS], own)
