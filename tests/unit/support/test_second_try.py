"""The second try: who gets one, and what the run says of it. A case with `project` is a pytest run of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.requirements import requirement
from tests.support.second_try import MOST_FAILURES, why_not

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parents[3]
CONFTEST = 'pytest_plugins = ("tests.support.bounds", "tests.support.second_try")'
BEGIN = """
import os, time
from pathlib import Path
import pytest
from tests.support.bounds import BoundMissed, check_promise, eventually

def runs(name):
    with Path(f"runs-{name}").open("a") as file:
        file.write("x")
    return len(Path(f"runs-{name}").read_text())

def test_good():
    check_promise(1.25, 1, "a kill")
"""
LATE = """
def test_late():
    print("what it printed")
    eventually(lambda: runs("late") > 1, "the guard answers", 0)
"""
HANGS = """
@pytest.mark.timeout(3)
def test_hangs():
    if runs("hangs") < 2: time.sleep(30)
"""
ODD_IDS = """
@pytest.fixture(scope="session")
def made():
    return runs("made")

@pytest.mark.parametrize("n", [1, 2], ids=["a::b[c]", "a b/é -x"])
def test_odd(made, n):
    if made < 2: raise BoundMissed("late")
"""
FORBIDDEN = """
def test_forbidden():
    assert runs("forbidden") > 1, "it was forwarded"
"""
FORBIDDEN_AT_THE_END = """
@pytest.fixture
def record():
    yield
    assert runs("end") > 1, "it was recorded"

def test_recorded(record):
    raise BoundMissed("late")
"""
NOT_PASSED_THE_SECOND_TIME = """
def test_never():
    runs("never")
    eventually(lambda: False, "it comes", 0)

def test_skipped():
    if runs("skipped") > 1: pytest.skip("no")
    raise BoundMissed("late")

@pytest.fixture
def broken():
    yield
    assert runs("broken") < 2

def test_broken_at_the_end(broken):
    if not Path("runs-broken").exists(): raise BoundMissed("late")
"""
DIES = """
def test_dies():
    if runs("dies") < 2: os._exit(1)
"""
BOTH = pytest.mark.parametrize(
    "processes",
    [pytest.param((), id="one process", marks=pytest.mark.nightly), pytest.param(("-n", "1"), id="xdist")],
)
"""`make test` runs with pytest-xdist."""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    unused = ("asyncio", "anyio", "hypothesispytest", "langsmith_plugin")
    pytester.makeini(f"[pytest]\ntimeout = 30\naddopts = -ra {' '.join(f'-p no:{name}' for name in unused)}\n")
    pytester.makeconftest(CONFTEST)
    return pytester


def write(project: pytest.Pytester, *sources: str, path: str = "tests/e2e/test_it.py") -> None:
    file = project.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(BEGIN + "".join(sources), encoding="utf-8")


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess("--second-try", *arguments, timeout=60)


def runs(project: pytest.Pytester, name: str) -> int:
    file = project.path / f"runs-{name}"
    return len(file.read_text(encoding="utf-8")) if file.exists() else 0


def failed(nodeid: str = "tests/e2e/test_it.py::test_it", *, missed_bound: bool | None = True) -> Any:
    report = pytest.TestReport(nodeid, ("", 0, ""), {}, "failed", "late", "call")
    if missed_bound is not None:
        report.missed_bound = missed_bound  # type: ignore[attr-defined]
    return report


def by_id(*reports: Any) -> dict[str, Sequence[Any]]:
    return {report.nodeid: [other for other in reports if other.nodeid == report.nodeid] for report in reports}


@requirement("tests.second-try")
@BOTH
def test_missed_bounds_that_hold_the_second_time_are_named_and_the_run_succeeds(
    project: pytest.Pytester, processes: tuple[str, ...]
) -> None:
    write(project, LATE, HANGS, ODD_IDS)

    result = run(project, *processes)

    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert (runs(project, "late"), runs(project, "hangs"), runs(project, "made")) == (2, 2, 2)
    assert result.outlines[-1].strip("= ").startswith("1 passed, 4 at second try in ")
    assert "4 passed, 1 deselected in" in "".join(line for line in result.outlines if line.startswith("second try | "))
    begin = "passed at the second try: tests/e2e/test_it.py::test"
    late = "tests.support.bounds.BoundMissed: not within 0 s: the guard answers"
    assert result.outlines[-7:-1] == [
        "figure: a kill: 1.25 s (promised: 1 s)",
        f"{begin}_late ({late})",
        f"{begin}_hangs (Failed: Timeout (>3.0s) from pytest-timeout.)",
        f"{begin}_odd[a::b[c]] (tests.support.bounds.BoundMissed: late)",
        f"{begin}_odd[a b/\\xe9 -x] (tests.support.bounds.BoundMissed: late)",
        "add each to docs/contributing/flaky.md; a test that stands there already must be repaired",
    ]
    result.stdout.fnmatch_lines(["*first try of *::test_late, in call*", f"E*{late}", "what it printed"])


@requirement("tests.second-try")
@BOTH
def test_a_test_that_does_not_pass_the_second_time_fails_the_run(
    project: pytest.Pytester, processes: tuple[str, ...]
) -> None:
    write(project, LATE, NOT_PASSED_THE_SECOND_TIME)

    result = run(project, *processes)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs(project, "never"), runs(project, "skipped"), runs(project, "broken")) == (2, 2, 2)
    assert "4 failed, 1 passed" in result.outlines[-1]
    names = ("test_never", "test_skipped", "test_broken_at_the_end")
    message = ", ".join(f"tests/e2e/test_it.py::{name}" for name in names)
    assert result.outlines[-2] == f"failed at the second try too: {message}"


@requirement("tests.second-try")
@pytest.mark.parametrize(
    ("source", "name"),
    [(FORBIDDEN, "forbidden"), (FORBIDDEN_AT_THE_END, "recorded")],
    ids=["in the test", "at its end"],
)
def test_something_that_must_not_happen_fails_the_run_at_once(project: pytest.Pytester, source: str, name: str) -> None:
    write(project, LATE, source)

    result = run(project, "-n", "1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs(project, "late"), runs(project, "forbidden") + runs(project, "end")) == (1, 1)
    assert "2 failed, 1 passed" in result.outlines[-1]
    message = f"no second try: tests/e2e/test_it.py::test_{name} failed otherwise than by a missed bound"
    assert result.outlines[-2] == message


@BOTH
def test_a_module_that_cannot_be_collected_fails_the_run(project: pytest.Pytester, processes: tuple[str, ...]) -> None:
    write(project, LATE)
    write(project, "import no_such_module\n", path="tests/e2e/test_broken.py")

    result = run(project, "--continue-on-collection-errors", *processes)

    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert runs(project, "late") <= 1


def test_a_process_that_dies_fails_the_run(project: pytest.Pytester) -> None:
    write(project, LATE, DIES)

    result = run(project, "-n", "1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs(project, "late"), runs(project, "dies")) == (1, 1)


def test_without_the_option_and_with_the_first_failure_as_the_last_there_is_no_second_try(
    project: pytest.Pytester,
) -> None:
    write(project, LATE)

    assert run(project, "-x").ret == pytest.ExitCode.TESTS_FAILED
    assert runs(project, "late") == 1
    (project.path / "runs-late").unlink()
    assert project.runpytest_subprocess(timeout=60).ret == pytest.ExitCode.TESTS_FAILED
    assert runs(project, "late") == 1


@requirement("tests.second-try")
def test_only_missed_bounds_outside_of_what_depends_on_no_timing_have_a_second_try() -> None:
    assert why_not(by_id(failed())) is None
    for folder in ("unit", "contract", "scenarios"):
        nodeid = f"tests/{folder}/guard/test_it.py::test_it"
        assert why_not(by_id(failed(), failed(nodeid))) == f"{nodeid} depends on no timing"
    for known in (False, None):
        message = "tests/e2e/test_it.py::test_it failed otherwise than by a missed bound"
        assert why_not(by_id(failed(missed_bound=known))) == message
        assert why_not(by_id(failed(), failed(missed_bound=known))) == message


@requirement("tests.second-try")
def test_more_than_ten_failures_have_no_second_try() -> None:
    many = [failed(f"tests/e2e/test_it.py::test_it[{number}]") for number in range(11)]

    assert MOST_FAILURES == 10
    assert why_not(by_id(*many[:10])) is None
    assert why_not(by_id(*many)) == "11 tests failed, more than 10"
