from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.cluster import engine
from tools.machine.settings import Settings
from tools.nodeless import debian, footprint, private_engine


class StoppedError(Exception):
    """The first change to the machine, which no test makes."""


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(private_engine, "impossible", lambda: None)
    monkeypatch.setattr(footprint, "engines", list)  # those of the machine, such as the one that `make demo` started
    monkeypatch.setattr(debian, "need", change)
    monkeypatch.setattr(debian, "install", change)


@pytest.mark.usefixtures("changes")
def test_what_is_done_to_the_machine_is_said_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(programs: Mapping[str, str]) -> list[str]:
        return sorted(programs.values())

    monkeypatch.setattr(debian, "missing", missing)
    with pytest.raises(StoppedError):
        private_engine.start(Settings(tmp_path))

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for word in ("docker.io", "iptables", "net.ipv4.ip_forward", str(tmp_path / "engine"), "make demo-down", "prune"):
        assert word in said
    assert "`apt-get purge docker.io iproute2 iptables mount nftables`" in said


@pytest.mark.usefixtures("changes")
def test_packages_that_are_there_are_neither_installed_nor_named_for_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "missing", lambda _: [])

    assert "apt-get" not in private_engine.announcement(Settings(tmp_path))


@pytest.mark.usefixtures("changes")
def test_with_an_engine_at_hand_nothing_is_said_or_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_engine, "is_running", lambda _: False)
    monkeypatch.setattr(engine, "existing_answers", lambda: True)

    assert not engine.ensure(Settings(tmp_path)).is_private
    assert capsys.readouterr().err == "engine: the one that answers here\n"
