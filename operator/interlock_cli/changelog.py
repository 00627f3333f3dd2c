"""The command `kubectl interlock changelog AGENT`: the revisions of an Agent, and what each one changed.

It reads the Agent and its ControllerRevisions through `kubectl`, so it asks as the user does, and changes nothing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from interlock_contract.clock import write_time
from interlock_contract.json_diff import diff_lines
from interlock_contract.names import AGENT_LABEL
from interlock_contract.revisions import RevisionUnreadableError, StoredRevision, printable, read_stored_revision

Read = Callable[[Sequence[str]], Any]
"""Returns the JSON that `kubectl get` prints with these arguments."""
_SECONDS = 60


class KubectlFailedError(Exception):
    """kubectl did not answer. The message is its own."""


def run_kubectl(arguments: Sequence[str]) -> Any:
    """Return the JSON that `kubectl get` prints.

    Raises:
        KubectlFailedError: It is not there, failed, or took more than a minute.
    """
    command = ["kubectl", "get", "-o", "json", *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=_SECONDS)  # noqa: S603 - no shell
        if done.returncode:
            raise KubectlFailedError(done.stderr.decode(errors="replace").strip() or "kubectl failed")
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise KubectlFailedError(f"kubectl: {error}") from None


def main(arguments: Sequence[str] | None = None, read: Read = run_kubectl) -> int:
    """Print the changelog of an Agent, or why there is none on standard error. Return the exit code."""
    parser = argparse.ArgumentParser(prog="kubectl interlock", description="Commands for agents of Interlock.")
    commands = parser.add_subparsers(dest="command", required=True)
    changelog = commands.add_parser("changelog", help="print the revisions of an Agent, the newest first")
    changelog.add_argument("agent", help="name of the Agent")
    changelog.add_argument("-n", "--namespace", help="its namespace; that of the current context without it")
    changelog.add_argument("--context", help="context of the kubeconfig")
    options = parser.parse_args(arguments)
    where = [
        *(["--namespace", options.namespace] if options.namespace else []),
        *(["--context", options.context] if options.context else []),
    ]
    try:
        agent = read([*where, "agents.interlock.dev", "--", options.agent])
        revisions = read([*where, "controllerrevisions.apps", "--selector", f"{AGENT_LABEL}={options.agent}"])
    except KubectlFailedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(print_changelog(agent, revisions.get("items") or []))
    return 0


def print_changelog(agent: dict[str, Any], revisions: Sequence[dict[str, Any]]) -> str:
    """Return the changelog as text, the newest revision first.

    Args:
        agent: The Agent as the API server has it.
        revisions: The ControllerRevisions with its label.
    """
    name, uid = agent["metadata"]["name"], agent["metadata"]["uid"]
    stored: list[StoredRevision] = []
    unreadable: list[str] = []
    for one in revisions:
        try:
            stored.append(read_stored_revision(one, name, uid))
        except RevisionUnreadableError as error:
            unreadable.append(printable(str(error), 500))
    stored.sort(key=lambda one: one.number)
    earlier: list[StoredRevision | None] = [None, *stored]
    entries = ["\n".join(_entry(one, before)) for one, before in zip(stored, earlier, strict=False)]
    if not entries and not unreadable:
        entries = [f"Agent {name} has no revisions."]
    return "\n".join([*reversed(entries), *unreadable]) + "\n"


def _entry(revision: StoredRevision, before: StoredRevision | None) -> list[str]:
    notes = revision.notes
    author = notes.author or "unknown author"
    said = author if notes.is_vouched or not notes.author else f"{author} (not vouched for by the API server)"
    head = [revision.name, *([notes.tag] if notes.tag else []), write_time(revision.created_at, "seconds"), said]
    return ["  ".join(head), *([f"  {notes.cause}"] if notes.cause else []), *_changes(revision, before)]


def _changes(revision: StoredRevision, before: StoredRevision | None) -> list[str]:
    if before is None:
        return ["  the first revision that is stored"]
    if before.digest == revision.digest:
        return [f"  the same as {before.name}, from the first stage again"]
    return [f"  {line}" for line in diff_lines(before.data, revision.data)]


def run() -> None:
    """Run the command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
