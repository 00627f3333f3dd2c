"""Each clause of the admission policies is needed: without it, a test of the policies would see another decision.

The tests of the policies run once more, in a process of their own. Meanwhile the API server compares each policy with
mutants of it that lack one clause, and warns where both decide differently. A mutant that no request tells from its
policy is a clause without a test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cel_clauses import mutants_of
from tests.integration.clause_listener import DIFFERING, policies
from tests.integration.kubectl import ROOT
from tests.requirements import requirement

SECONDS = 1800
INSTALLED_SECONDS = 600
"""Bound of each of these tests. The first one waits until all mutants are installed: long on a busy machine."""
pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(SECONDS + 60)]

MODULES = (
    "",
    "_authors",
    "_budgets",
    "_commands",
    "_guard_writes",
    "_ledgers",
    "_networks",
    "_operator",
    "_protection",
    "_release",
    "_scale",
)
LARGE = "test_a_kill_passes_on_metadata_that_is_older_than_its_bounds"
"""The tests of policies, without those of large objects: all mutants at once take too long with these."""

SIZES = "only objects at their largest differ, which test_admission_sizes tries"
OLDEST = "the API server writes the name from Kubernetes 1.36 on, and test_admission_oldest tries what is before"
ERROR = "without it the expression is an error, which decides the same"
UNHEARD = "without it an admitted request is an error, whose message has several lines, and so no warning is sent"
CONTRACT = "tests/contract compares it with the features of the governance layer"
UNREAD = "the variable is read only where this holds"
SAME: dict[str, str] = {
    "accounts-reserved: condition names-an-account: [": "it only saves comparisons with accounts",
    "accounts-reserved: variable isOurs: request.resource.resource != 'secrets'": "managed-objects refuses it",
    "agents-commands: validation 1: !variables.isShort": "the validation before it refuses the same",
    "agents-commands: condition command-changed: [": "it keeps kills and other updates from the policy",
    "agents-commands: variable old: oldObject == null": ERROR,
    "agents-create: variable allowed: has(": ERROR,
    "agents-create: variable features": CONTRACT,
    "agents-create: variable used": CONTRACT,
    "agents-create: variable environments: type(": "test_stored_environments tries a map",
    "agents-create: variable secretNames: has(": ERROR,
    "agents-create: variable providers: , 'anthropic'": "test_admission tries openai, from the same list",
    "agents-kill-only: validation 0: variables.isTooLarge": SIZES,
    "agents-kill-only: variable isReadable": SIZES,
    "agents-kill-only: variable stages": SIZES,
    "agents-kill-only: variable escapes": SIZES,
    "agents-kill-only: variable isTooLarge": SIZES,
    "agents-metadata: validation 0": SIZES,
    "agents-metadata: validation 3": SIZES,
    "agents-metadata: validation 4: object.metadata.?annotations.orValue({}).size() > 66": SIZES,
    "agents-metadata: validation 5": OLDEST,
    "agents-metadata: condition sets-no-kill: request.operation == 'CREATE'": ERROR,
    "agents-metadata: variable killed": SIZES,
    "agents-metadata: variable stages": SIZES,
    "agents-metadata: variable isReadable": SIZES,
    "agents-metadata: variable escapes": SIZES,
    "agents-release: validation 0: (request.operation": "the namespace controller deletes",
    "agents-release: validation 0: request.operation": "no Agent is released while its namespace is deleted",
    "agents-release: validation 1": OLDEST,
    "agents-release: condition is-released-or-deleted: request.operation": ERROR,
    "agents-update: validation 0": "tests/contract compares it with agents-create",
    "agents-update: variable": "tests/contract compares it with agents-create",
    "autoscalers: condition changes-the-scaling: oldObject == null": ERROR,
    "budgetledgers: validation 0: request.operation": ERROR,
    "budgetledgers: validation 10: !variables.isGuard": "no one else has a pod with slices",
    "budgetledgers: variable after: variables.isStatus": "no other request changes the status",
    "budgetledgers: variable isGuard: has(oldObject.spec.agent)": ERROR,
    "budgetledgers: variable isBroken: !has(w.start)": ERROR,
    "budgetledgers: variable isBroken: !has(w.end)": ERROR,
    "budgetledgers: variable isBroken: i > 0": ERROR,
    "budgetledgers: variable keepsSpent: !variables.before[?p].?end.hasValue()": ERROR,
    "budgetledgers: variable keepsClosed: , '35'": ERROR,
    "budgetledgers: variable keepsClosed: , '13'": ERROR,
    "budgetledgers: variable known: , 'month'": ERROR,
    "budgetledgers: variable left: , 'month'": ERROR,
    "budgetledgers: variable opensInFull: variables.daySeconds != ''": ERROR,
    "budgetledgers: variable keepsAlerts: i < variables.alertsGone": ERROR,
    "budgetledgers: variable recent: variables.before": ERROR,
    "budgetledgers: variable keepsRecent: variables.after.?recent.hasValue()": ERROR,
    "budgetledgers: variable keepsRecent: i < variables.passed": ERROR,
    "budgetledgers: variable keepsExhausted: !variables.after.?exhausted.hasValue()": ERROR,
    "budgetledgers: variable isNamed: request.operation": ERROR,
    "budgetledgers: variable isNamed: has(object.spec.agent)": ERROR,
    "kill-controller: validation 2: request.resource.resource": "it writes the status of no other kind",
    "kill-controller: validation 2: request.?subResource": "a write of an Agent itself does not change its status",
    "managed-objects: variable isGuardsReport: request.operation": ERROR,
    "managed-objects: variable isGuardsReport: variables.pod.size()": ERROR,
    "managed-objects: variable isOwnConfigMap: request.operation": ERROR,
    "networks-reserved: condition changes-its-rules: oldObject == null": ERROR,
    "operator-objects: validation 2": "without an owner, no name follows from it",
    "operator-objects: validation 6: object.?subjects.orValue([]).size()": ERROR,
    "operator-objects: validation 6: s.kind": "subjects of other kinds have no namespace",
    "operator-objects: validation 11: variables.keepsContent": "a deletion has no object, and so no type",
    "operator-objects: validation 11: variables.kind": "other kinds have no type",
    "operator-objects: variable name: variables.keepsContent": ERROR,
    "operator-objects: variable agent: variables.owners.size()": ERROR,
    "operator-objects: variable isOfPod: request.operation": ERROR,
    "operator-objects: variable binding": UNREAD,
    "operator-objects: variable wasOurs: request.operation == 'CREATE'": UNHEARD,
    "operator-objects: variable wasOurs: o.kind in": "no other kind of the group owns objects",
    "operator-objects: variable policy": UNREAD,
    "operator-objects: variable workload: variables.other == ''": UNREAD,
    "operator-objects: variable labels: variables.keepsContent": UNREAD,
    "operator-objects: variable rules": UNREAD,
    "operator-objects: variable selected": UNREAD,
    "operator-objects: variable ledgers: variables.rules.size()": ERROR,
    "operator-workloads: validation 4: c.?securityContext.hasValue()": ERROR,
    "operator-workloads: validation 4: !c.securityContext.?privileged": "no privileged container forbids escalation",
    "operator-workloads: validation 4: c.?volumeDevices": "a device needs a claim, which is no volume of the list",
    "operator-workloads: validation 7: has(": ERROR,
    "operator-workloads: validation 8: !e.?valueFrom.?configMapKeyRef.hasValue()": UNHEARD,
    "operator-workloads: validation 8: !e.?valueFrom.?secretKeyRef.hasValue()": UNHEARD,
    "pods-debug: validation 0: 'interlock.dev/agent' in": ERROR,
    "pods-grace: validation 0: request.?options": "a pod of an agent has a period of its own of one second at least",
    "pods-reserved: condition reserved: o != null": ERROR,
    "pods-reserved: variable isDebugger: 'interlock.dev/agent' in": ERROR,
    "pods-reserved: variable isRestart: dyn(oldObject.spec)": "a member that is removed gets its default again",
    "pods-reserved: variable isAllowed: request.operation == 'CREATE'": ERROR,
    "pods-reserved: variable isAllowed: variables.keepsIdentity": "this subresource changes nothing else",
    "spec-author: validation 0: request.operation": ERROR,
    "spec-author: condition spec-or-author-changed: request.operation": ERROR,
    "services-debug: variable selector: request.operation == 'CONNECT'": "the parameter is the stored Service",
}
"""Beginnings of mutants that decide like their policy, or that these tests cannot tell from it, with the reason."""


@requirement("protection.refused")
def test_every_clause_decides_a_request_of_a_test(tmp_path: Path) -> None:
    file = tmp_path / "differing.json"
    plugin = ("-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "tests.integration.clause_listener")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin),
            *(f"tests/integration/test_admission{name}.py" for name in MODULES),
            f"--timeout={INSTALLED_SECONDS}",
            f"--deselect=tests/integration/test_admission_release.py::{LARGE}",
        ],
        cwd=ROOT,
        env={**os.environ, DIFFERING: str(file), "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    seen = {(name, number) for name, number in json.loads(file.read_text(encoding="utf-8"))}
    same = [
        str(mutant)
        for policy, _ in policies()
        for number, mutant in enumerate(mutants_of(policy))
        if (mutant.policy, number) not in seen
    ]
    unexplained = [one for one in same if not one.startswith(tuple(SAME))]
    assert not unexplained, "no test for:\n" + "\n".join(unexplained)
    stale = [beginning for beginning in SAME if not any(one.startswith(beginning) for one in same)]
    assert not stale, "a test was found for:\n" + "\n".join(stale)
