"""The changelog: the revisions of an Agent in order, with author, tag, cause and what changed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from interlock.deployment.children.revisions import build_revision
from interlock.deployment.content import content_of
from interlock_cli.changelog import KubectlFailedError, main, print_changelog, run_kubectl
from interlock_contract.clock import write_time
from interlock_contract.revisions import RevisionNotes
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, a_binding, a_policy, an_agent, hours

AGENT = an_agent()
FIRST, SECOND = AGENT, AGENT.with_template(image="example/agent:2").with_files({"prompt.md": "x" * 200})
ADA = RevisionNotes("ada@example.com", is_vouched=True, cause="commit 4be1f20", tag="v1.4")


def stored(agent: AgentBuilder, number: int, notes: RevisionNotes) -> dict[str, Any]:
    content = content_of(agent.build(), a_policy().build(), (a_binding().build(),))
    manifest = build_revision(agent.build(), number, content.digest, content.to_kubernetes(), notes)
    manifest["metadata"]["creationTimestamp"] = write_time(NOW + hours(number), "seconds")
    return manifest


REVISIONS = [
    stored(SECOND, 2, ADA),
    stored(FIRST, 1, RevisionNotes("kubectl")),
    stored(SECOND, 3, RevisionNotes()),
]


@requirement("revision.history")
def test_revisions_are_printed_newest_first_with_what_each_changed() -> None:
    second, first = (REVISIONS[index]["metadata"]["name"].removeprefix("triage-2-") for index in (0, 1))
    first = first.removeprefix("triage-1-")
    printed = print_changelog(AGENT.to_kubernetes(), REVISIONS).splitlines()
    assert printed[:5] == [
        f"3-{second}  2026-03-02T12:00:00Z  unknown author",
        f"  the same as 2-{second}, from the first stage again",
        f"2-{second}  v1.4  2026-03-02T11:00:00Z  ada@example.com",
        "  commit 4be1f20",
        "  agent.files[prompt.md]: (none) -> 233 characters of JSON (sha256 8ad9250fb3f2)",
    ]
    assert printed[5:] == [
        '  agent.template.image: "example/agent:1" -> "example/agent:2"',
        f"1-{first}  2026-03-02T10:00:00Z  kubectl (not vouched for by the API server)",
        "  the first revision that is stored",
    ]


@requirement("revision.history")
def test_a_revision_that_cannot_be_read_is_named_and_the_others_are_printed() -> None:
    forged = json.loads(json.dumps(REVISIONS[0]))
    forged["data"]["agent"]["template"]["image"] = "evil/agent:1"
    printed = print_changelog(AGENT.to_kubernetes(), [*REVISIONS[1:], forged])
    assert "evil" not in printed
    assert "cannot be used, because its content is not what its annotation" in printed
    assert "kubectl (not vouched for" in printed


@requirement("revision.history")
def test_an_agent_without_revisions_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def read(arguments: Sequence[str]) -> Any:
        assert list(arguments[:4]) == ["--namespace", "agents", "--context", "test"]
        return AGENT.to_kubernetes() if "agents.interlock.dev" in arguments else {"items": []}

    assert main(["changelog", "triage", "-n", "agents", "--context", "test"], read) == 0
    assert capsys.readouterr().out == "Agent triage has no revisions.\n"


@requirement("revision.history")
def test_what_kubectl_refuses_is_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    def read(_: Sequence[str]) -> Any:
        raise KubectlFailedError('agents.interlock.dev "triage" not found')

    assert main(["changelog", "triage"], read) == 1
    assert capsys.readouterr().err == 'agents.interlock.dev "triage" not found\n'


@requirement("revision.history")
def test_kubectl_is_run_as_the_user_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KubectlFailedError, match="kubectl"):
        run_kubectl(["agents.interlock.dev"])
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\n[ "$5" = wrong ] && { echo "is wrong" >&2; exit 1; }\necho "[\\"$*\\"]"\n')
    program.chmod(0o755)
    assert run_kubectl(["agents.interlock.dev", "--", "a"]) == ["get -o json agents.interlock.dev -- a"]
    with pytest.raises(KubectlFailedError, match="is wrong"):
        run_kubectl(["agents.interlock.dev", "wrong"])
