"""Credentials of HTTP servers and providers: a rotation is used by the next request, an unchanged file is not read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock_contract.http_target import HttpTarget, TargetHeader
from interlock_guard.upstream.credentials import Credentials, CredentialsUnreadable

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
    assert not credentials.stands_in(b"... old-secret-1 ...")


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
