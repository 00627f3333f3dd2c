"""Priority and fairness on a real API server: by which FlowSchema a request gets its seat.

A user may act as every ServiceAccount of a namespace, so ServiceAccounts get no seats that are shared out by user.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.callers import MERGE, Caller, Json
from tests.integration.kubectl import ROOT, Cluster, Kubectl
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

MANIFEST = ROOT / "manifests" / "base" / "flow-control.yaml"
SCHEMAS = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
AGENT = "/apis/interlock.dev/v1alpha1/namespaces/default/agents/none"
IN_FORCE_SECONDS = 30.0

PERSON = ("ada", "system:authenticated")
ACCOUNT = ("system:serviceaccount:tenant:any", "system:serviceaccounts", "system:authenticated")
KILLER = ("system:serviceaccount:interlock-system:interlock-kill", "system:serviceaccounts", "system:authenticated")
SEATS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "a kill by a person": (PERSON, "PATCH", "interlock-switches"),
    "an edit by a person": (PERSON, "PUT", "interlock-switches"),
    "a person's read before a kill": (PERSON, "GET", "interlock-switches"),
    "a kill by a ServiceAccount": (ACCOUNT, "PATCH", "interlock-accounts"),
    "an edit by a ServiceAccount": (ACCOUNT, "PUT", "interlock-accounts"),
    "a guard's read": (ACCOUNT, "GET", "interlock-guards"),
    "the kill controller's read": (KILLER, "GET", "interlock-kill"),
}


@pytest.fixture(scope="module")
def administrator(kwok_cluster: Cluster) -> Iterator[Caller]:
    client = Kubectl(kwok_cluster)
    client.install_crds()
    client.must("apply", "--server-side", "--force-conflicts", "-f", str(MANIFEST))
    yield Caller.administrator(Path(kwok_cluster.kubeconfig))
    client.must("delete", "-f", str(MANIFEST))


@requirement("protection.seats")
@pytest.mark.parametrize(("user", "method", "schema"), SEATS.values(), ids=list(SEATS))
def test_a_request_gets_the_seats_that_are_meant_for_it(
    administrator: Caller, user: tuple[str, ...], method: str, schema: str
) -> None:
    uid = administrator.must("GET", f"{SCHEMAS}/{schema}")["metadata"]["uid"]
    caller = administrator.impersonating(*user)
    bounds.eventually(
        lambda: caller.send(method, AGENT, {}, MERGE if method == "PATCH" else "application/json").flow_schema == uid,
        f"the FlowSchema is {schema}",
        IN_FORCE_SECONDS,
    )


def documents(kind: str) -> dict[str, Json]:
    found = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    return {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == kind}


@requirement("protection.seats")
def test_writes_of_agents_have_few_seats_and_no_level_shares_those_of_people_with_accounts() -> None:
    levels, schemas = documents("PriorityLevelConfiguration"), documents("FlowSchema")
    assert len({one["priorityLevelConfiguration"]["name"] for one in schemas.values()}) == len(schemas) == len(levels)
    for name in ("interlock-accounts", "interlock-switches"):
        limited = levels[name]["limited"]
        assert limited["nominalConcurrencyShares"] <= 2
        assert limited["borrowingLimitPercent"] == 0
    assert schemas["interlock-accounts"]["distinguisherMethod"] == {"type": "ByNamespace"}
    precedence = {name: one["matchingPrecedence"] for name, one in schemas.items()}
    assert max(precedence, key=precedence.__getitem__) == "interlock-switches"
