"""Credentials of HTTP servers and providers: a rotation is used by the next request, an unchanged file is not read."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from interlock_contract.http_target import HttpTarget, TargetHeader
from interlock_guard.upstream.credentials import Credentials, CredentialsUnreadable, open_end
from tests.requirements import requirement

LONG_AGO = 1_700_000_000
OLD, NEW = "Bearer old-secret-1", "Bearer new-secret-2"


def swap_as_the_kubelet(folder: Path, content: str) -> None:
    """Write a new directory and swap the link to it, as the kubelet updates a volume."""
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    (version / "0").write_text(content)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").rename(folder / "..data")
    if not (folder / "0").is_symlink():
        (folder / "0").symlink_to("..data/0")
    os.utime(version / "0", (LONG_AGO, LONG_AGO))


def write_in_place(folder: Path, content: str) -> None:
    """Write the file itself."""
    with (folder / "0").open("w") as opened:
        opened.write(content)


def credentials_of(folder: Path) -> Credentials:
    header = TargetHeader("Authorization", value=None, file="0")
    target = HttpTarget("https://mcp.example", "Public", (header,), None)
    return Credentials(target, folder)


@pytest.mark.parametrize("rotate", [swap_as_the_kubelet, write_in_place])
def test_a_rotation_takes_effect_on_the_next_call(rotate: Callable[[Path, str], None], tmp_path: Path) -> None:
    rotate(tmp_path, OLD)
    credentials = credentials_of(tmp_path)
    assert credentials.read_headers() == {"Authorization": OLD}
    assert credentials.read_key("0") == OLD
    rotate(tmp_path, NEW)
    assert credentials.read_headers() == {"Authorization": NEW}
    assert credentials.read_key("0") == NEW
    assert credentials.stands_in(b"... new-secret-2 ...")
    assert credentials.stands_in(b"... old-secret-1 ..."), "the peer may still accept it"


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_as_the_kubelet(tmp_path, OLD)
    credentials = credentials_of(tmp_path)
    assert credentials.read_key("0") == OLD
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("the file was read again"))
    assert credentials.read_key("0") == OLD


def test_a_file_that_is_taken_away_is_noticed_by_the_next_call(tmp_path: Path) -> None:
    swap_as_the_kubelet(tmp_path, OLD)
    credentials = credentials_of(tmp_path)
    assert credentials.read_key("0") == OLD
    (tmp_path / "..data").unlink()
    with pytest.raises(CredentialsUnreadable, match="0 cannot be read: No such file"):
        credentials.read_key("0")


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("a\nb", "no header"), ("x" * 1048577, "more than")]
)
def test_what_cannot_be_a_header_is_refused_without_quoting_it(content: str, message: str, tmp_path: Path) -> None:
    write_in_place(tmp_path, content)
    with pytest.raises(CredentialsUnreadable, match=message):
        credentials_of(tmp_path).read_headers()


KEY = "Zm9v/YmFy+cXV4&MTIz=="  # of a gateway, in Base64
WRITERS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "PHP": lambda text: text.replace("/", "\\/"),
    "Go": lambda text: text.replace("&", "\\u0026"),
    ".NET": lambda text: text.replace("+", "\\u002B").replace("&", "\\u0026"),
    "every character escaped": lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    "escapes without backslashes": lambda text: "".join(f"u{ord(one):04x}" for one in text),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"key": text.replace("/", "\\/")})),
    "JSON in JSON in JSON": lambda text: json.dumps(
        json.dumps(json.dumps("".join(f"\\u{ord(one):04X}" for one in text)))
    ),
    "a URL": lambda text: quote(text, safe=""),
    "a URL with slashes": quote,
}


@requirement("credentials.withheld")
@pytest.mark.parametrize("key", [KEY, "sk-abcdefghijkl", 'quo"ted\\back\\slash', "x" * 200 + KEY], ids=repr)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_secret_is_found_however_json_or_a_url_writes_it(writer: str, key: str, tmp_path: Path) -> None:
    write_in_place(tmp_path, f"Bearer {key}\n")
    credentials = credentials_of(tmp_path)
    credentials.read_headers()

    def answer(key: str) -> bytes:
        written = json.dumps(key)[1:-1] if writer in {"PHP", "Go", ".NET"} else key
        return f'{{"error": "no such key: {WRITERS[writer](written)}"}}'.encode()

    assert credentials.stands_in(answer(key))
    assert not credentials.stands_in(answer(f"{key[:-1]}Q"))


@requirement("credentials.withheld")
@pytest.mark.parametrize("writer", ["plain", "every character escaped", "escapes without backslashes", "a URL"])
def test_the_end_that_is_kept_of_a_text_suffices_to_find_a_secret_in_two_pieces(writer: str, tmp_path: Path) -> None:
    key = "".join(chr(ord("A") + index % 26) for index in range(64))
    write_in_place(tmp_path, key)
    credentials = credentials_of(tmp_path)
    credentials.read_headers()
    for escaped in (slice(None), slice(-1, None), slice(0, 1)):  # all of it, or its last or first character
        first, last = escaped.indices(len(key))[:2]
        written = key[:first] + WRITERS[writer](key[escaped]) + key[last:]
        for cut in range(len(written)):
            text = open_end("x" * 600 + written[:cut]) + written[cut:]
            assert credentials.stands_in(text.encode()), cut


@requirement("credentials.withheld")
@pytest.mark.parametrize("before", [b"", b"x", b"xy"])
def test_the_end_that_is_kept_of_a_text_suffices_to_find_a_secret_in_base64(before: bytes, tmp_path: Path) -> None:
    key = "".join(chr(ord("A") + index % 26) for index in range(64))
    write_in_place(tmp_path, key)
    credentials = credentials_of(tmp_path)
    credentials.read_headers()
    written = base64.b64encode(before + key.encode() + b"z").decode()
    for cut in range(len(written)):
        first = "-" * 600 + written[:cut]
        second = open_end(first) + written[cut:]
        assert credentials.stands_in(first.encode()) or credentials.stands_in(second.encode()), cut


@requirement("credentials.withheld")
@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("Bearer abcdefgh", ["abcdefgh"]),
        ("Token abcdefgh", ["abcdefgh"]),
        ('Token token="abcdefgh"', ["abcdefgh"]),
        ("sid=abcdefgh; lang=en", ["abcdefgh"]),
        ("lang=en; sid=abcdefgh, ijklmnop", ["abcdefgh", "ijklmnop"]),
        ("AWS4-HMAC-SHA256 Credential=AKIAabcd/20260101, Signature=0123456789", ["AKIAabcd/20260101", "0123456789"]),
        ("Zm9vYmFyYmF6cXV4Cg==", ["Zm9vYmFyYmF6cXV4Cg=="]),
        ("Basic dXNlcjpvcGVuc2VzYW1l", ["dXNlcjpvcGVuc2VzYW1l", "opensesame"]),
        ("basic dXNlcjpvcGVuc2VzYW1lIQ==", ["dXNlcjpvcGVuc2VzYW1lIQ==", "opensesame!"]),
        ("Basic !no-base64!", ["!no-base64!"]),
        ("a b c d e f", ["a b c d e f"]),
    ],
)
def test_each_part_of_a_value_that_is_secret_by_itself_is_found(value: str, parts: list[str], tmp_path: Path) -> None:
    write_in_place(tmp_path, value)
    credentials = credentials_of(tmp_path)
    credentials.read_headers()
    for part in parts:
        assert credentials.stands_in(f'{{"error": "no such key: {part}"}}'.encode())
    for other in ("AWS4-HMAC-SHA256", "Credential", "Bearer", "Token", "lang=en", "Basic", "token", "user"):
        assert not credentials.stands_in(f"is {other} wanted?".encode())


@requirement("credentials.withheld")
@pytest.mark.parametrize("key", ["sk-abcdefghijkl", "12345678", "h" * 100 + "sk-canary/openai+0123456789", KEY])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", range(6))
def test_a_secret_in_a_file_in_base64_is_found(
    encode: Callable[[bytes], bytes], before: int, key: str, tmp_path: Path
) -> None:
    write_in_place(tmp_path, f"Bearer {key}")
    credentials = credentials_of(tmp_path)
    credentials.read_headers()

    def blob(text: str) -> bytes:
        encoded = encode(b"x" * before + text.encode() + b"\nmore=1").decode()
        return json.dumps({"blob": encoded}).replace("/", "\\/").encode()  # as PHP writes it

    assert credentials.stands_in(blob(key))
    assert not credentials.stands_in(blob("another-key-of-the-same-server"))


@requirement("credentials.withheld")
def test_a_long_token_is_found_by_its_end_alone_so_that_another_with_the_same_head_is_not(tmp_path: Path) -> None:
    write_in_place(tmp_path, f"Bearer {'h' * 900}.{'s' * 70}")
    credentials = credentials_of(tmp_path)
    credentials.read_headers()
    assert credentials.stands_in(b"s" * 64)
    assert not credentials.stands_in(b"h" * 900 + b".another")


@requirement("credentials.withheld")
def test_a_key_counts_while_an_answer_to_it_is_due_however_often_it_was_rotated(tmp_path: Path) -> None:
    def rotated(number: int) -> str:
        return f"{'x' * number}-rotated-key-{number:03}"

    write_in_place(tmp_path, "key-of-the-open-call")
    credentials = credentials_of(tmp_path)
    credentials.read_key("0")
    with credentials.answer_due():
        for number in range(100):
            write_in_place(tmp_path, rotated(number))
            credentials.read_key("0")
            with credentials.answer_due():
                pass
        assert credentials.stands_in(b"key-of-the-open-call")
    assert credentials.stands_in(rotated(99).encode()), "the current one"
    assert credentials.stands_in(rotated(95).encode()), "of the last ones"
    assert not credentials.stands_in(rotated(1).encode()), "memory is bounded"
    assert not credentials.stands_in(b"key-of-the-open-call"), "its answer is complete, and many came since"


@requirement("credentials.withheld")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("x-request-id", KEY, True),
        ("content-type", f'application/json; k="{KEY}"', True),
        (f"x-ratelimit-{KEY}".lower(), "1", True),
        ("x-ratelimit-remaining", "1", False),
    ],
)
def test_a_secret_is_found_in_a_header(name: str, value: str, expected: bool, tmp_path: Path) -> None:  # noqa: FBT001
    write_in_place(tmp_path, KEY)
    credentials = credentials_of(tmp_path)
    credentials.read_key("0")
    assert credentials.stands_in_header(name, value) == expected
