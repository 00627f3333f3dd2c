"""A plugin of pytest: while tests of admission policies run, the API server compares each policy with its mutants.

`test_admission_clauses.py` starts pytest with this plugin, in a process of its own.
"""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.callers import Caller, Json, Reply
from tests.integration.cel_clauses import comparing, mutants_of
from tests.integration.installed_policies import wait_until_in_force
from tests.integration.kubectl import ROOT, Api, Cluster, Kubectl

DIFFERING = "INTERLOCK_DIFFERING_MUTANTS"
"""Environment variable with the path of the file that gets policy and number of each mutant that decided otherwise."""
IN_FORCE_SECONDS = 300.0
_APPLIED = 10
"""Objects in one command. All at once take longer than a command may."""
_WARNED = re.compile(r"Policy 'p(\d+)-\d+' with binding '[^']*': [^#]*#(\d+)")


def policies() -> Iterator[tuple[Json, Json]]:
    """Yield each policy that validates, with its binding."""
    for file in sorted((ROOT / "manifests" / "admission").glob("*.yaml")):
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        if documents[0]["kind"] == "ValidatingAdmissionPolicy":
            policy, binding = documents
            yield policy, binding


@pytest.fixture(scope="session", autouse=True)
def differing(kwok_cluster: Cluster) -> Iterator[None]:
    """Install the comparing policies, listen to all warnings, and write which mutants decided otherwise."""
    client = Kubectl(kwok_cluster)
    client.install_crds()
    objects = [
        one
        for number, (policy, binding) in enumerate(policies())
        for one in comparing(policy, binding, mutants_of(policy), f"p{number}")
    ]
    for first in range(0, len(objects), _APPLIED):
        client.must("apply", "--server-side", "-f", "-", stdin=as_list(objects[first : first + _APPLIED]))
    wait_until_in_force(kwok_cluster, IN_FORCE_SECONDS)
    seen: set[tuple[str, int]] = set()
    with _listening(seen):
        yield
    Path(os.environ[DIFFERING]).write_text(json.dumps(sorted(seen)), encoding="utf-8")


def as_list(items: list[Json]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@contextlib.contextmanager
def _listening(seen: set[tuple[str, int]]) -> Iterator[None]:
    """Read the warnings that the API server sends to callers, to kubectl, and through its proxy."""
    names = [policy["metadata"]["name"].removesuffix(".interlock.dev") for policy, _ in policies()]

    def read(text: str) -> None:
        seen.update((names[int(policy)], int(number)) for policy, number in _WARNED.findall(text))

    send, request, run = Caller.send, Api.getresponse, subprocess.run

    def sent(self: Caller, *arguments: Any, **more: Any) -> Reply:
        reply = send(self, *arguments, **more)
        read("\n".join(reply.warnings))
        return reply

    def answered(self: Api) -> Any:
        response = request(self)
        read("\n".join(response.headers.get_all("Warning", [])))
        return response

    def ran(*arguments: Any, **more: Any) -> Any:
        done = run(*arguments, **more)
        read(done.stderr if isinstance(done.stderr, str) else "")
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Caller, "send", sent)
        patch.setattr(Api, "getresponse", answered)
        patch.setattr(subprocess, "run", ran)
        yield
