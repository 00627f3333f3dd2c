"""`python -m tools.cluster`: what its commands print."""

from pathlib import Path

import pytest

from tools.cluster import __main__ as commands
from tools.cluster import kind, programs
from tools.cluster.engine import Engine
from tools.cluster.kind import KindCluster
from tools.machine.settings import from_environment


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a running cluster, on a machine whose cache has each program."""
    folder = tmp_path / "interlock"
    found = KindCluster(
        "interlock",
        folder / "kubeconfig",
        "kind-interlock",
        folder / "kubectl",
        Engine(is_private=False),
        from_environment(),
    )
    monkeypatch.setattr(kind, "find", lambda name, _: found if name == "interlock" else None)
    monkeypatch.setattr(programs, "ensure", lambda _, names: {name: tmp_path / f"{name}-4.0" / name for name in names})
    return folder


def path_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_environment_has_the_programs_of_the_cluster(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["env", "--name", "interlock"]) == 0
    assert path_of(capsys) == f'export PATH={cluster}:"$PATH"'


def test_the_environment_has_further_programs_that_are_asked_for(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["env", "--name", "interlock", "--with", "helm"]) == 0
    assert path_of(capsys) == f'export PATH={cluster}:{tmp_path}/helm-4.0:"$PATH"'


@pytest.mark.usefixtures("cluster")
def test_a_program_that_there_is_not_is_refused_before_anything_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["env", "--name", "interlock", "--with", "hlem"]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert "no such program: hlem; there are: " in printed.err
