"""A second try for tests that missed a bound, in the open: a pytest plugin, switched on by `--second-try`.

Once all tests have run, those that failed run once more: in a process of their own, one after the other, while nothing
else runs. If all of them pass, the run succeeds, and its last lines name each. A second try exists only if

* every failure missed a bound and nothing else (`tests/support/bounds.py`). A plain assertion, such as one on what
  was forwarded, has run or was recorded, gets none: the exceptions that qualify are listed, all others do not;
* no failure is in `ONLY_ONE_TRY`, whose tests depend on no timing;
* at most `MOST_FAILURES` tests failed.

If not, the run has failed, and its last lines say why there was no second try. With pytest-xdist the process that
collects the reports decides, after the processes that ran tests have ended.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.offspring import end_with_parent

ONLY_ONE_TRY = ("tests/unit/", "tests/contract/", "tests/scenarios/")
MOST_FAILURES = 10
CATEGORY = "at second try"
OPTION, LIST_OPTION = "--second-try", "--second-try-list"
PREFIX = "second try | "
PAGE = "docs/contributing/flaky.md"

Reports = Mapping[str, Sequence[pytest.TestReport]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the first run, and that of the second."""
    group = parser.getgroup("interlock")
    group.addoption(OPTION, action="store_true", help="run tests that missed a bound once more at the end, alone")
    group.addoption(LIST_OPTION, metavar="FILE", help="run the tests that a file lists; write next to it what passed")


def pytest_configure(config: pytest.Config) -> None:
    """Take part in the process that sums up the run, and in the second try's own."""
    is_worker = hasattr(config, "workerinput")
    if listed := config.getoption(LIST_OPTION):
        config.pluginmanager.register(SecondTry(Path(listed)), "interlock-second-try")
    elif config.getoption(OPTION) and not is_worker:
        config.pluginmanager.register(FirstTry(config), "interlock-first-try")


def why_not(failures: Reports) -> str | None:
    """Return why these failures get no second try, None if they do."""
    if len(failures) > MOST_FAILURES:
        return f"{len(failures)} tests failed, more than {MOST_FAILURES}"
    for nodeid, reports in failures.items():
        if nodeid.startswith(ONLY_ONE_TRY):
            return f"{nodeid} depends on no timing"
        if not all(getattr(report, "missed_bound", False) for report in reports):
            return f"{nodeid} failed otherwise than by a missed bound"
    return None


class FirstTry:
    """The run that counts: collects failures, has them tried again, and sums up."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._failures: dict[str, list[pytest.TestReport]] = defaultdict(list)
        self._passed: list[str] = []
        self._refusal = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure of any phase."""
        if report.failed:
            self._failures[report.nodeid].append(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Try again once every test has run; a run that was broken off has no second try."""
        result = yield
        failed = sum(map(len, self._failures.values()))
        if not failed or session.testsfailed != failed:
            return result
        self._refusal = why_not(self._failures) or ""
        if self._refusal:
            return result
        code, passed = _run_again(self._config, list(self._failures))
        missing = [nodeid for nodeid in self._failures if nodeid not in passed]
        if missing or code != pytest.ExitCode.OK:
            self._refusal = f"failed at the second try too: {', '.join(missing) or f'pytest ended with {code}'}"
            return result
        session.testsfailed -= failed
        self._passed = list(self._failures)
        self._recount()
        return result

    def _recount(self) -> None:
        """Take the first failures out of pytest's closing line, and count the tests as passed at the second try."""
        stats = self._terminal().stats
        for category in ("failed", "error"):
            kept = [report for report in stats.pop(category, []) if report.nodeid not in self._passed]
            if kept:
                stats[category] = kept
        for nodeid in self._passed:
            first = self._failures[nodeid][0]
            report: Any = pytest.TestReport(nodeid, first.location, {}, "passed", None, "call", is_second_try=True)
            self._config.hook.pytest_runtest_logreport(report=report)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a test that passed at the second try separately."""
        if getattr(report, "is_second_try", False):
            return CATEGORY, "2", "PASSED AT SECOND TRY"
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None, None, None]:
        """Print the first failures; name, in the last lines, each test that passed later, or why none was tried."""
        terminal = self._terminal()
        for nodeid in self._passed:
            for report in self._failures[nodeid]:
                terminal.section(f"first try of {nodeid}, in {report.when}", yellow=True)
                terminal.write_line(report.longreprtext)
                for title, text in report.sections:
                    terminal.write_line(f"--- {title} ---\n{text}")
        yield
        if self._refusal:
            begin = "" if self._refusal.startswith("failed at") else "no second try: "
            terminal.write_line(f"{begin}{self._refusal}", red=True)
        for nodeid in self._passed:
            terminal.write_line(f"passed at the second try: {nodeid} ({_cause(self._failures[nodeid])})", yellow=True)
        if self._passed:
            terminal.write_line(f"add each to {PAGE}; a test that stands there already must be repaired", yellow=True)

    def _terminal(self) -> pytest.TerminalReporter:
        terminal: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
        assert terminal is not None
        return terminal


class SecondTry:
    """The run of the listed tests: runs nothing else, and writes down what passed in all its phases."""

    def __init__(self, listed: Path) -> None:
        self._listed = listed
        self._nodeids = json.loads(listed.read_text(encoding="utf-8"))
        self._outcomes: dict[str, list[tuple[str, str]]] = defaultdict(list)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not listed."""
        left_out = [item for item in items if item.nodeid not in self._nodeids]
        items[:] = [item for item in items if item.nodeid in self._nodeids]
        config.hook.pytest_deselected(items=left_out)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how each phase ended."""
        self._outcomes[report.nodeid].append((str(report.when), report.outcome))

    def pytest_sessionfinish(self) -> None:
        """Write down the tests that passed: setup, call and teardown."""
        whole = [("setup", "passed"), ("call", "passed"), ("teardown", "passed")]
        passed = [nodeid for nodeid, outcomes in self._outcomes.items() if outcomes == whole]
        _results_of(self._listed).write_text(json.dumps(passed), encoding="utf-8")


def _run_again(config: pytest.Config, nodeids: Sequence[str]) -> tuple[int, list[str]]:
    """Run tests in a fresh pytest, alone, its output line by line; return its exit code and the tests that passed."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "tests.json"
        listed.write_text(json.dumps(nodeids), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *_modules(nodeids), LIST_OPTION, str(listed), *_alone(config)]
        with subprocess.Popen(
            command,
            cwd=config.rootpath,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            preexec_fn=end_with_parent,
        ) as process:
            assert process.stdout is not None
            sys.stdout.write("\n")
            for line in process.stdout:
                sys.stdout.write(f"{PREFIX}{line}")
                sys.stdout.flush()
        passed: list[str] = []
        with contextlib.suppress(OSError, ValueError):
            passed = json.loads(_results_of(listed).read_text(encoding="utf-8"))
        return process.returncode, passed


def _modules(nodeids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(nodeid.partition("::")[0] for nodeid in nodeids))


def _alone(config: pytest.Config) -> list[str]:
    """Return the arguments for the same configuration, in one process."""
    in_one_process = ["--numprocesses", "0"] if config.pluginmanager.hasplugin("xdist") else []
    inifile = ["-c", str(config.inipath)] if config.inipath else []
    return [*in_one_process, *inifile, "--rootdir", str(config.rootpath), "-p", "no:cacheprovider"]


def _results_of(listed: Path) -> Path:
    return listed.with_name("passed.json")


def _cause(reports: Sequence[pytest.TestReport]) -> str:
    """Return the first line of a failure's message."""
    crash = getattr(reports[0].longrepr, "reprcrash", None)
    message = str(crash.message) if crash is not None else reports[0].longreprtext
    return message.strip().splitlines()[0] if message.strip() else "no message"
