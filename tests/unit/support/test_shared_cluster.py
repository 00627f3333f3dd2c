"""Two processes of a run on one kind cluster, which stand-ins play: which one makes it, which one takes it away."""

from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parents[3]
CONFTEST = """
import os, time
from pathlib import Path
from types import SimpleNamespace
import pytest
from tools.cluster import contexts, images, kind

HERE = Path(__file__).parent

def say(word):
    with (HERE / "said").open("a") as said:
        said.write(word + "\\n")

kind.impossible = lambda settings: None
LEFT = HERE / "left"
kind.find = lambda name, settings: SimpleNamespace(nodes=LEFT.read_text().split) if LEFT.exists() else None

def ensure(name, config, settings):
    say(f"ensure {config.stem}" if config else "ensure")
    return SimpleNamespace(kubeconfig="x", nodes=lambda: ["x-control-plane", "x-worker"])

kind.ensure = ensure
kind.down = lambda names, settings: say("down")
images.ensure_on = lambda cluster: (time.sleep(0.5), say("images"))
contexts.check_kubeconfig = lambda kubeconfig: None
pytest_plugins = ("tests.support.clusters",)

@pytest.fixture(scope="session")
def operator(kind_cluster, lanes):
    lanes.once("operator", lambda: say("install"))

@pytest.fixture
def says(operator):
    return say
"""
TESTS = """
import time
import pytest

pytestmark = pytest.mark.kind

@pytest.mark.parametrize("n", range(3))
def test_it(says, n):
    time.sleep({seconds})
    says("test")
"""


MADE = ["ensure two-nodes", "images", "install", "on x-worker"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("INTERLOCK_CACHE", str(pytester.path / "cache"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)
    monkeypatch.delenv("INTERLOCK_KEEP_TEST_CLUSTER", raising=False)
    unused = " ".join(f"-p no:{name}" for name in ("asyncio", "anyio", "hypothesispytest", "langsmith_plugin"))
    pytester.makeini(f"[pytest]\naddopts = {unused}\nmarkers =\n kind: pods\n api: a server\n")
    pytester.makeconftest(CONFTEST)
    for name, seconds in (("one", 0.1), ("two", 0.6)):
        (pytester.path / f"test_{name}.py").write_text(TESTS.format(seconds=seconds), encoding="utf-8")
    return pytester


def said(project: pytest.Pytester) -> list[str]:
    return (project.path / "said").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("processes", "ensures"),
    [
        pytest.param((), 1, id="one process", marks=pytest.mark.nightly),
        pytest.param(("-n", "2", "--dist", "loadfile"), 2, id="two lanes"),
    ],
)
def test_the_cluster_is_made_once_and_taken_away_once_after_the_last_test(
    project: pytest.Pytester, processes: tuple[str, ...], ensures: int
) -> None:
    result = project.runpytest_subprocess(*processes, timeout=60)

    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    words = said(project)
    assert words[:2] == ["ensure", "images"]
    assert words[-1] == "down"
    counts = {word: words.count(word) for word in words}
    assert counts == {"ensure": ensures, "images": 1, "install": 1, "test": 6, "down": 1}
    assert not list((project.path / "cache" / "run").glob("tests-*")), "no notes are left"


def test_a_test_that_does_not_use_the_cluster_is_not_kept_waiting_for_it(project: pytest.Pytester) -> None:
    own = "import pytest\n@pytest.mark.kind\ndef test_it():\n    pass\n"
    for name in ("one", "two"):
        (project.path / f"test_{name}.py").write_text(own, encoding="utf-8")

    result = project.runpytest_subprocess(timeout=60)

    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert not (project.path / "said").exists()


def test_a_run_that_ends_early_takes_the_cluster_away_too(project: pytest.Pytester) -> None:
    (project.path / "test_one.py").write_text(
        TESTS.format(seconds=0).replace('says("test")', "assert False"), encoding="utf-8"
    )

    result = project.runpytest_subprocess("-n", "2", "--dist", "loadfile", "-x", timeout=60)

    assert result.ret != pytest.ExitCode.OK
    assert said(project).count("down") == 1


@pytest.mark.parametrize(
    ("left", "words"),
    [
        pytest.param("", MADE, id="none is left", marks=pytest.mark.nightly),
        pytest.param("x-control-plane", ["down", *MADE], id="one node is left"),
        pytest.param("x-control-plane x-worker", MADE, id="two nodes are left", marks=pytest.mark.nightly),
    ],
)
def test_a_run_that_uses_the_second_node_has_a_cluster_with_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, left: str, words: list[str]
) -> None:
    for name in ("one", "two"):
        (project.path / f"test_{name}.py").unlink()
    test = "import pytest\n@pytest.mark.kind\ndef test_it(says, second_node):\n    says(f'on {second_node}')\n"
    (project.path / "test_it.py").write_text(test, encoding="utf-8")
    if left:
        (project.path / "left").write_text(left, encoding="utf-8")
    monkeypatch.setenv("INTERLOCK_KEEP_TEST_CLUSTER", "1")

    result = project.runpytest_subprocess(timeout=60)

    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert said(project) == words
