"""`kubectl apply` of every example, on a fresh cluster, from the moment on at which the install page says it works."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import requirement
from tests.support.page_commands import Answer, Terminal, missing_lines, printed
from tools.cluster import kwok
from tools.cluster.kwok import KwokCluster

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(1200)]

PAGE = "docs/how-to/install.md"
ROUNDS = 20
APPLIES = sorted(
    {
        one.command
        for page in sorted(ROOT.glob("examples/*/README.md"))
        for one in printed(ROOT, str(page.relative_to(ROOT)))
        if one.command.startswith("kubectl apply -f examples/")
    }
)


@pytest.fixture
def fresh(kwok_cluster: KwokCluster) -> Iterator[KwokCluster]:
    """An API server on which nothing was installed; `kwok_cluster` is the one that other tests have used."""
    cluster = kwok.create(f"interlock-examples-{os.getpid()}", settings=kwok_cluster.settings)
    try:
        yield cluster
    finally:
        cluster.delete()


@pytest.fixture
def terminal(fresh: KwokCluster, tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "kubectl").symlink_to(fresh.kubectl)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    environment = {"KUBECONFIG": str(fresh.kubeconfig), "PATH": path, "HOME": str(tmp_path)}
    with Terminal(ROOT, environment) as shell:
        yield shell


def _wait_as_the_page_says(terminal: Terminal) -> None:
    commands = list(printed(ROOT, PAGE))
    (last,) = (place for place, one in enumerate(commands) if one.command.startswith("for try in"))
    for one in commands[last - 1 : last + 1]:
        answer = terminal.run(one.command, seconds=300)
        assert answer.code == 0, answer.output
        assert missing_lines(one.output, answer.output) == [], answer.output


@requirement("pages.examples-apply")
def test_every_example_is_applied_as_written_twenty_times_of_twenty(terminal: Terminal) -> None:
    assert len(APPLIES) > 6

    def must(command: str) -> Answer:
        answer = terminal.run(command, seconds=120)
        assert answer.code == 0, f"{command}\n{answer.output}"
        return answer

    must("kubectl apply -k manifests/overlays/kind")
    _wait_as_the_page_says(terminal)
    refused = []
    for turn in range(ROUNDS):
        for command in APPLIES:
            must("kubectl -n agents delete agents.interlock.dev,agentpolicies.interlock.dev --all")
            folders = [word for word in shlex.split(command) if word.startswith("examples/")]
            if not any((ROOT / folder).is_dir() and list((ROOT / folder).glob("*policy*")) for folder in folders):
                must("kubectl apply -f examples/01-first-agent/2-policy.yaml")  # the page continues that example
            answer = terminal.run(command, seconds=120)
            if answer.code:
                refused.append(f"turn {turn}: {command}\n{answer.output}")
    assert refused == []
