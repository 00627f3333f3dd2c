"""A namespace with ledgers that admission protects, and those who write there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from interlock_contract.budget.ledger import (
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerWindow,
    RecentSpend,
    Slice,
    VelocityAlert,
    dump_ledger,
)
from interlock_contract.budget.ledger_names import ledger_name, total_ledger_name
from interlock_contract.budget.rates import MinuteRate, RateSlice
from interlock_contract.budget.tokens_per_byte import ModelTokens, TokenAlert
from interlock_contract.clock import utc_now
from tests.integration.callers import Caller, Json, Reply
from tests.integration.kubectl import POLICY, ROOT, Cluster, Kubectl
from tests.integration.protected import account, grant
from tests.integration.test_admission_release import Place
from tests.support import bounds

ROLES = {"editor": ("edit",), "owner": ("admin",)}
GUARD, OTHER_GUARD = "support-triage-0123456789-guard", "other-0123456789-guard"
NAMED_ALIKE = (
    "support-triage-9876543210-0123456789-guard",
    "support-forage-0123456789-guard",
    "support-triage-guard",
)
"""Accounts with names like those of the agent's guards: of two other agents, one with a name as long, and of none."""
POD, OTHER_POD = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
WRITER = "interlock-test-ledger-writer"
MANAGER = "interlock-guard"
HOUR, DAY = 3600, 86_400
LABELLED: Json = {"metadata": {"labels": {"a": "b"}}}
WAIT_SECONDS = 30.0

END = int(utc_now().timestamp()) // HOUR * HOUR
"""Within the last hour the present day and month of the ledgers have ended, so that a guard may open the next ones."""
START, MONTH = END - DAY, END - 31 * DAY


def holder(pod: str, run: int = 0) -> str:
    return f"{pod}/{1796000000000 + run}"


def a_slice(pod: str, amount: int, day: int = START, month: int = MONTH, run: int = 0) -> Slice:
    return Slice(holder(pod, run), pod, amount, day, month, day + 60)


FULL = Ledger(
    day=LedgerWindow(START, END, spent=5_000, credited=7),
    month=LedgerWindow(MONTH, END, spent=90_000, credited=7),
    slices=(
        a_slice(POD, 100),
        a_slice(OTHER_POD, 200),
        a_slice(OTHER_POD, 0, START - DAY),
        a_slice(OTHER_POD, 0, run=1),
        a_slice(POD, 50, START - DAY),
    ),
    credit=Credit(10**9, END + 9 * DAY, "quarter end", START, spent=7, by="ada", id="7f"),
    days=(LedgerWindow(START - DAY, START, spent=4_000, credited=3),),
    months=(LedgerWindow(MONTH - 30 * DAY, MONTH, spent=60_000),),
    alerts=(BudgetAlert(50, "day", START, START + 5, 5_000, 10_000),),
    exhausted=Exhausted(START + 9, "day", 300, holder(OTHER_POD)),
    recent=RecentSpend(END - 1200, (300, 20, 10)),
    velocity_alerts=(VelocityAlert(START, START + 7, 300, 0),),
    tokens=(ModelTokens("openai/gpt-4o-mini", END - HOUR, (3,)),),
    token_alerts=(TokenAlert("openai/gpt-4o-mini", "input", START, START, START + 7, 9, 9, 1, 9),),
    rate=MinuteRate(
        END - 60,
        (RateSlice(holder(POD), POD, 5, 900), RateSlice(holder(OTHER_POD), OTHER_POD, 7, 800, 1, 2, END - 57)),
    ),
)


def changed(**members: Any) -> Ledger:
    """Return the full ledger with other members."""
    return replace(FULL, **members)


def a_ledger(environment: str = "development", agent: str | None = "support-triage", **annotations: str) -> Json:
    spec = {"policy": "support"} | ({"agent": agent, "environment": environment} if agent else {})
    name = ledger_name(agent, environment) if agent else total_ledger_name("support")
    metadata = {"name": name, "annotations": annotations}
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": "BudgetLedger", "metadata": metadata, "spec": spec}


def write(caller: Caller, path: str, ledger: Ledger, *, manager: str = MANAGER, **metadata: Any) -> Reply:
    """Write a ledger as guards do: read it, and put its status."""
    found = caller.must("GET", path)
    found["status"] = dump_ledger(ledger)
    found["metadata"] |= metadata
    return caller.send("PUT", f"{path}/status" + (f"?fieldManager={manager}" if manager else ""), found)


@dataclass(frozen=True)
class LedgerPlace:
    """The namespace, and who writes there."""

    place: Place

    @property
    def admin(self) -> Caller:
        return self.place.admin

    @property
    def namespace(self) -> str:
        return self.place.namespace

    @property
    def users(self) -> dict[str, Caller]:
        return self.place.users

    @property
    def ledgers(self) -> str:
        return f"/apis/interlock.dev/v1alpha1/namespaces/{self.namespace}/budgetledgers"

    @property
    def own(self) -> str:
        return f"{self.ledgers}/support-triage.development"

    @property
    def total(self) -> str:
        return f"{self.ledgers}/support.total"

    @property
    def operator(self) -> Caller:
        groups = ("system:serviceaccounts", "system:serviceaccounts:interlock-system", "system:authenticated")
        return self.admin.impersonating("system:serviceaccount:interlock-system:interlock", *groups)

    def guard(self, name: str = GUARD, pod_uid: str = POD) -> Caller:
        user = f"system:serviceaccount:{self.namespace}:{name}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")
        return self.admin.impersonating(user, *groups, pod="pod" if pod_uid else "", pod_uid=pod_uid)

    @contextmanager
    def full_ledgers(self) -> Iterator[str]:
        """Create the agent's ledger and that of the total with everything in them; yield the path of the first."""
        for manifest in (a_ledger(), a_ledger(agent=None)):
            self.admin.must("POST", self.ledgers, manifest)
            self.reset(f"{self.ledgers}/{manifest['metadata']['name']}")
        try:
            yield self.own
        finally:
            for path in (self.own, self.total):
                self.admin.must("DELETE", path)

    def reset(self, path: str, ledger: Ledger = FULL) -> None:
        """Let a ledger be as an administrator wants it, who is another field manager than guards."""
        reply = write(self.admin, path, ledger, manager="admin")
        assert reply.status == 200, reply.text


def ledger_place(cluster: Cluster) -> Iterator[LedgerPlace]:
    """Yield the namespace once its policy is in force; then delete both."""
    client = Kubectl(cluster)
    client.install_crds()
    policy = str(ROOT / "manifests/admission/budgetledgers.yaml")
    for name in ("namespace", "rbac"):
        client.must("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests/base" / f"{name}.yaml"))
    client.must("apply", "--server-side", "--force-conflicts", "-f", policy)
    made = LedgerPlace(Place.create(cluster, ROLES, POLICY))
    _grant_ledgers(made)
    bounds.eventually(
        lambda: (
            made.users["editor"].send("POST", f"{made.ledgers}?dryRun=All", a_ledger()).was_denied_by("budgetledgers")
        ),
        "the policy is in force",
        WAIT_SECONDS,
    )
    yield made
    client.must("delete", "--ignore-not-found", "-f", policy)
    made.admin.send("DELETE", f"/api/v1/namespaces/{made.namespace}")


def _grant_ledgers(place: LedgerPlace) -> None:
    """Give users and guards all rights on ledgers that a role can give, so that admission alone decides."""
    rules = [{"apiGroups": ["interlock.dev"], "resources": ["budgetledgers", "budgetledgers/status"], "verbs": ["*"]}]
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    made = place.admin.send("POST", roles, {"metadata": {"name": WRITER}, "rules": rules})
    assert made.status in {201, 409}, made.text
    for name in ("editor", "owner", GUARD, OTHER_GUARD, *NAMED_ALIKE, "plain"):
        grant(place.admin, place.namespace, f"{name}-ledgers", account(place.namespace, name), WRITER)
    grant(place.admin, place.namespace, "operator-ledgers", account("interlock-system", "interlock"), WRITER)
