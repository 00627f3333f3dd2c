"""An agent, its guard, a binding's verification and a policy's notifier as the operator would leave them, and users."""

import http
from dataclasses import dataclass, replace
from uuid import uuid4

from interlock.deployment.children.disruption import build_disruption_budgets
from interlock.deployment.children.notifier import build_notifier, build_record
from interlock.deployment.children.revisions import build_revision
from interlock.deployment.children.stage_tests import build_test_support
from interlock.deployment.children.verification_job import (
    VerificationTarget,
    build_job,
    build_plan,
    build_result,
    build_support,
)
from interlock.deployment.content import content_of
from interlock.deployment.names import agent_account, guard_account, name_of, stage_test_account
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock_contract.revisions import RevisionNotes
from tests.integration.callers import APPLY, Caller, Json, path_of
from tests.integration.kubectl import AGENT, BINDING, POLICY, edited
from tests.support import bounds
from tests.support.builders import (
    GUARD_IMAGE,
    AgentBuilder,
    BindingBuilder,
    PolicyBuilder,
    a_policy,
    a_separate_placement,
    an_agent,
)

AGENT_NAME, BINDING_NAME = "triage", "crm"
POD_SECONDS = 5
"""The grace period of the pods of agent and guard. A deletion that states none has this one."""
READY_SECONDS = 30.0
GUARD_ACCOUNT, AGENT_ACCOUNT, TEST_ACCOUNT = "the-guards-account", "the-agents-account", "the-tests-account"
"""Stand for the names of the placement's ServiceAccounts in what users send, see `Protected.filled`."""
UNSCHEDULED = "unscheduled"
"""Name of an agent's pod on no node, since the simulated nodes support no resize."""
_ALL = "interlock-test-all"
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Protected:
    """A namespace with the objects of one agent, one verification and one notifier, and users of Kubernetes' own roles.

    Attributes:
        namespace: Its name.
        admin: The cluster's administrator, who has every verb.
        editor: A user with Kubernetes' role `edit` in the namespace.
        owner: A user with Kubernetes' role `admin` in the namespace.
        placement: What runs.
        children: The manifests of all objects.
    """

    namespace: str
    admin: Caller
    editor: Caller
    owner: Caller
    placement: Placement
    children: tuple[Json, ...]

    @property
    def bundle(self) -> str:
        return f"{self.path('configmaps')}/{name_of(self.placement)}"

    @property
    def lease(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{name_of(self.placement)}"

    def filled(self, text: str) -> str:
        """Return a text with the names of the placement's ServiceAccounts, which depend on the agent's uid."""
        accounts = {
            GUARD_ACCOUNT: guard_account(self.placement),
            AGENT_ACCOUNT: agent_account(self.placement),
            TEST_ACCOUNT: stage_test_account(self.placement),
        }
        for placeholder, name in accounts.items():
            text = text.replace(placeholder, name)
        return text

    @property
    def result(self) -> str:
        return f"{self.path('configmaps')}/{BINDING_NAME}-verify-result"

    @property
    def record(self) -> str:
        return f"{self.path('configmaps')}/support-notify-record"

    def path(self, plural: str, group: str = "") -> str:
        """Return the path of a collection of the namespace."""
        return f"/{f'apis/{group}' if group else 'api'}/v1/namespaces/{self.namespace}/{plural}"

    def child(self, kind: str, name: str = "") -> str:
        """Return the path of the first child of a kind, or of the one whose name ends so."""
        found = [one for one in self.children if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
        return path_of(found[0], self.namespace)

    def pod(self, component: str) -> str:
        """Return the path of the pod of `agent`, `guard` or `verification`."""
        selector = f"app.kubernetes.io/managed-by=interlock,app.kubernetes.io/component={component}"

        def find() -> str | None:
            items = self.admin.must("GET", f"{self.path('pods')}?labelSelector={selector}")["items"]
            return items[0]["metadata"]["name"] if items else None

        return f"{self.path('pods')}/{bounds.eventually(find, f'the {component} has a pod', READY_SECONDS)}"

    def identity(self, account: str, *, pod: str = "") -> Caller:
        """Return the administrator as a ServiceAccount of the namespace, with its groups."""
        user = f"system:serviceaccount:{self.namespace}:{account}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")
        return self.admin.impersonating(user, *groups, pod=pod)


def grant(admin: Caller, namespace: str, name: str, subject: Json, role: str) -> None:
    """Bind a ClusterRole to a subject in a namespace."""
    body = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }
    admin.must("POST", f"/apis/{_RBAC}/v1/namespaces/{namespace}/rolebindings", body)


def account(namespace: str, name: str) -> Json:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def grant_all(at: Protected, name: str, subject: Json) -> None:
    """Give a subject more rights in the namespace than `admin` has, so that admission alone decides."""
    _make_all(at.admin)
    for role in ("admin", _ALL):
        with_name = f"{name}-{role}"
        if at.admin.send("GET", f"{at.path('rolebindings', _RBAC)}/{with_name}").status != http.HTTPStatus.OK:
            grant(at.admin, at.namespace, with_name, subject, role)


def _make_all(admin: Caller) -> None:
    rules = [{"apiGroups": ["", "apps", "batch", "coordination.k8s.io"], "resources": ["*"], "verbs": ["*"]}]
    role = {"metadata": {"name": _ALL}, "rules": rules}
    made = admin.send("POST", f"/apis/{_RBAC}/v1/clusterroles", role)
    assert made.status in (http.HTTPStatus.CREATED, http.HTTPStatus.CONFLICT), made.text


def protect(admin: Caller) -> Protected:
    """Create the objects and the users in a new namespace."""
    namespace = f"test-{uuid4().hex[:10]}"
    admin.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    _make_all(admin)
    for name, role in (("editor", "edit"), ("owner", "admin")):
        admin.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        grant(admin, namespace, name, account(namespace, name), role)
        # Rights that clusters grant in addition, such as pods/resize, must not be what refuses.
        grant(admin, namespace, f"{name}-more", account(namespace, name), _ALL)
    # Accounts of a user's own, named as those of an agent that does not exist.
    for name in ("late-0123456789-guard", "late-0123456789-test"):
        admin.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    policy_uid = _create(admin, namespace, edited(POLICY, spec__dataAccess=None))
    policy = PolicyBuilder(
        edited(a_policy().notifying("chat").to_kubernetes(), metadata__namespace=namespace, metadata__uid=policy_uid)
    ).build()
    agent_uid = _create(admin, namespace, edited(AGENT, metadata__name=AGENT_NAME))
    binding_uid = _create(admin, namespace, edited(BINDING, metadata__name=BINDING_NAME))
    applied = an_agent(AGENT_NAME).in_namespace(namespace).with_template(terminationGracePeriodSeconds=POD_SECONDS)
    agent = AgentBuilder(edited(applied.to_kubernetes(), metadata__uid=agent_uid))
    binding = BindingBuilder(
        edited(BINDING, metadata__name=BINDING_NAME, metadata__namespace=namespace, metadata__uid=binding_uid)
    )
    placement = a_separate_placement(agent)
    content = content_of(placement.agent, placement.policy, ())
    run = VerificationTarget(binding.build(), 1, GUARD_IMAGE)
    children = (
        *desired_children(placement),
        *build_disruption_budgets(replace(placement, replicas=2)),
        *build_support(run, placement.api_server),
        build_result(run.binding),
        build_plan(run),
        # Its pod stays until the last test.
        edited(build_job(run), spec__activeDeadlineSeconds=86400, spec__ttlSecondsAfterFinished=86400),
        *build_notifier(policy, GUARD_IMAGE, placement.api_server),
        build_record(policy),
        build_revision(placement.agent, 7, content.digest, content.to_kubernetes(), RevisionNotes("ada@example.com")),
        *build_test_support(placement),
    )
    for child in children:
        child["metadata"]["namespace"] = namespace
        admin.must("PATCH", f"{path_of(child, namespace)}?fieldManager=interlock&force=true", child, APPLY)
    resources = {"requests": {"memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    container = {"name": "a", "image": "registry.example.com/a:1", "resources": resources}
    unscheduled = {
        "metadata": {"name": UNSCHEDULED, "labels": {"interlock.dev/agent": AGENT_NAME}},
        "spec": {"schedulerName": "none", "containers": [container]},
    }
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    bounds.eventually(
        lambda: admin.send("GET", f"{accounts}/default").status == http.HTTPStatus.OK,
        "the namespace has its account",
        READY_SECONDS,
    )
    admin.must("POST", f"/api/v1/namespaces/{namespace}/pods", unscheduled)
    editor, owner = (admin.with_token(admin.token_of(namespace, name)) for name in ("editor", "owner"))
    return Protected(namespace, admin, editor, owner, placement, children)


def protect_with_pods(admin: Caller) -> Protected:
    """Create the objects and the users in a new namespace, and wait for their pods."""
    made = protect(admin)
    for component in ("agent", "guard", "verification"):
        made.pod(component)
    return made


def _create(admin: Caller, namespace: str, manifest: Json) -> str:
    """Create an object of ours; return its uid."""
    uid: str = admin.create(path_of(manifest, namespace, is_new=True), manifest)["metadata"]["uid"]
    return uid
