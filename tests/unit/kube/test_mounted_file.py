"""Files that the kubelet replaces: each change is seen at the next use, and an unchanged file is not read."""

import os
from pathlib import Path

import pytest

from interlock_kube.mounted_file import FileTooLarge, MountedFile

LONG_AGO = 1_700_000_000


def write(path: Path, content: str, *, age: int = LONG_AGO) -> None:
    path.write_text(content)
    os.utime(path, (age, age))


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    write(path, "first")
    file = MountedFile(path)
    assert file.read() == b"first"
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("the file was read again"))
    assert file.read() == b"first"


def test_a_swap_of_the_kubelets_link_is_seen(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "token", version)
    data = tmp_path / "..data"
    data.symlink_to("one")
    (tmp_path / "token").symlink_to("..data/token")
    file = MountedFile(tmp_path / "token")
    assert file.read() == b"one"
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").rename(data)
    assert file.read() == b"two"


def test_a_write_in_place_is_seen_also_when_size_and_time_stay(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("aaaa")
    now = path.stat().st_mtime_ns
    file = MountedFile(path)
    assert file.read() == b"aaaa"
    path.write_text("bbbb")
    os.utime(path, ns=(now, now))  # within one step of the file system's clock
    assert file.read() == b"bbbb"


def test_a_file_that_is_missing_for_a_moment_is_read_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "token"
    file = MountedFile(path)
    with pytest.raises(FileNotFoundError):
        file.read()
    write(path, "back")
    assert file.read() == b"back"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.read()


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "token", "12345")
    with pytest.raises(FileTooLarge):
        MountedFile(tmp_path / "token", max_bytes=4).read()
