"""Names in the Kubernetes API that Interlock's programs share: group, annotations, labels, field managers.

The module imports no other one of Interlock, so that the kill controller depends on nothing else.
"""

import re
from typing import Final

GROUP = "interlock.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "interlock.dev/v1alpha1"
API_PATH = f"/apis/{GROUP}/{VERSION}"
CATEGORY = "interlock"

AGENTS = "agents"
AGENT_POLICIES = "agentpolicies"
MCP_BINDINGS = "mcpbindings"
BUDGET_LEDGERS = "budgetledgers"
AUDIT_RECORDS = "auditrecords"
"""Resource that exists in RBAC alone: who may get it may read audit records."""

KILL_SWITCH = f"{GROUP}/kill-switch"
"""Annotation of an Agent: any value other than `KILL_SWITCH_OFF` kills it."""
KILL_SWITCH_BY = f"{GROUP}/kill-switch-by"
"""Annotation of an Agent: who set the switch last. From Kubernetes 1.36 on, the API server writes it."""
KILL_SWITCH_OFF = "off"
"""The only value that releases. No other spelling does."""

BUDGET_OVERRIDE = f"{GROUP}/budget-override"
"""Annotation of an Agent: an amount that its budgets get in addition until a time; see `interlock.api.budget`."""
BUDGET_OVERRIDE_BY = f"{GROUP}/budget-override-by"
"""Annotation of an Agent: who set the override. From Kubernetes 1.36 on, the API server writes it."""

PAUSE: Final = f"{GROUP}/pause"
"""Annotation of an Agent: the revision of which no further stage is entered, or a stage of it that is not entered."""
PROMOTE: Final = f"{GROUP}/promote"
"""Annotation of an Agent: the stage of a revision that may be entered. It is the approval, too."""
ABORT: Final = f"{GROUP}/abort"
"""Annotation of an Agent: the revision that is stopped."""
RETRY: Final = f"{GROUP}/retry"
"""Annotation of an Agent: the stopped revision that starts again at its first stage."""
ROLLBACK: Final = f"{GROUP}/rollback"
"""Annotation of an Agent: the earlier revision that serves again."""
OVERRIDE_GATES: Final = f"{GROUP}/override-gates"
"""Annotation of an Agent: the promotion, as in `PROMOTE`, that may go past a breached gate."""
ROLLOUT_COMMANDS: Final = (PAUSE, PROMOTE, ABORT, RETRY, ROLLBACK, OVERRIDE_GATES)
"""Annotations that need a verb of their own, named as they are, and carry their author in one with `-by` after it."""

SPEC_AUTHOR: Final = f"{GROUP}/spec-author"
"""Annotation of an Agent, AgentPolicy or MCPBinding: who changed its spec last. From Kubernetes 1.36 on, the API server
writes it."""

NEEDS_REVIEW = f"{GROUP}/needs-review"
"""Annotation of an MCPBinding: while it is present, with any value, no agent gets the binding."""

ACCEPT_DRIFT = f"{GROUP}/accept-drift"
"""Annotation of an MCPBinding: the observed digest that is accepted."""

COPY_OF: Final = f"{GROUP}/copy-of"
"""Annotation of a copy that a revision keeps of a ConfigMap: the name of that ConfigMap."""
SCHEDULING_DIGEST: Final = f"{GROUP}/scheduling-digest"
"""Annotation of a Deployment: SHA-256 of where its pods run, since a member that is wanted no longer is found by it."""
CONFIG_DIGEST = f"{GROUP}/config-digest"
"""Annotation of an agent's pods: a new value rolls the pods when the agent's files or sources change."""

BUNDLE_SCHEMAS: Final = f"{GROUP}/bundle-schemas"
"""Annotation of a pod with a guard: the versions of the bundle's schema that the guard reads, with commas between."""
TEMPLATE_DIGEST: Final = f"{GROUP}/template-digest"
"""Annotation of a pod template, and so of its pods: SHA-256 of the template without it. A pod with another one than its
Deployment was started from an earlier template."""
OPENINGS: Final = f"{GROUP}/openings"
"""Annotation of a pod of an agent or a guard: the ways past the guard, and the identity at a cloud, that it was started
with. A pod with more than its policy opens now is deleted."""

CLAIMS: Final = f"{GROUP}/claims"
"""Annotation of an agent's pod: the names of the claims that it mounts, with commas between them. The pod has the label
`HAS_CLAIMS_LABEL` then."""
HAS_CLAIMS_LABEL: Final = f"{GROUP}/has-claims"
"""Label of an agent's pod that mounts claims: `true`. Other pods with the same claim wait for the end of this one."""

CHANGE_CAUSE: Final = f"{GROUP}/change-cause"
"""Annotation of an Agent, and of its revision: why it was changed. It may name a commit."""
KUBERNETES_CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
"""Annotation of an Agent that counts if it has no `CHANGE_CAUSE`: `kubectl rollout history` shows it for others."""
REVISION_TAG: Final = f"{GROUP}/tag"
"""Annotation of an Agent, and of its revision: the user's own name of the revision, such as v1.4."""
REVISION_AUTHOR: Final = f"{GROUP}/author"
"""Annotation of a revision: who wrote what began it."""
REVISION_AUTHOR_VOUCHED: Final = f"{GROUP}/author-vouched"
"""Annotation of a revision: `true` if the API server vouches for the author, else `false`."""
CONTENT_DIGEST: Final = f"{GROUP}/content-digest"
"""Annotation of a revision: SHA-256 of its content in hex."""

SELFTEST_PREFIX = f"selftest.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: the self-test report of the pod's guard."""
DRIFT_PREFIX = f"drift.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: the bindings whose tools changed."""
DENIALS_PREFIX = f"denials.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: the rules that denied many requests in a short time."""
LOOP_PREFIX: Final = f"loops.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: a loop for which the agent is to be killed."""
COUNTS_PREFIX: Final = f"counts.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: what its guard has counted of tasks and calls."""
COUNTS_ENDED: Final = f"{GROUP}/counts-ended"
"""Annotation of a placement's Lease: the same of all pods that are gone, which the operator has added up."""
HOLDER_PREFIX = f"holder.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: the holder of a budget there, and its last time."""
DRAIN_PREFIX: Final = f"drain.{GROUP}/"
"""Annotation of a placement's Lease, followed by a pod's name: how many tasks a draining guard has under way."""

DAY_SECONDS_ANNOTATION: Final = f"{GROUP}/day-seconds"
"""Annotation of a BudgetLedger in tests and examples: how many seconds its days have. Admission checks it."""
OWNER_ANNOTATION: Final = f"{GROUP}/owner"
"""Annotation of a BudgetLedger: who answers for its Agent, as name and email address. Alerts are addressed to them."""

POLICY_SINCE_ANNOTATION: Final = f"{GROUP}/policy-since"
"""Annotation of a BudgetLedger: when it came to the AgentPolicy of its label, absent where it was created for it.
Alerts from before are not sent by that policy's notifier."""

POLICY_LABEL: Final = f"{GROUP}/policy"
"""Label of what belongs to an AgentPolicy: its ledgers, and its notifier. A longer name is shortened to a digest."""
BINDING_LABEL = f"{GROUP}/binding"
AGENT_LABEL = f"{GROUP}/agent"
STAGE_LABEL = f"{GROUP}/stage"
REVISION_LABEL = f"{GROUP}/revision"
PLACEMENT_DIGEST = f"{GROUP}/placement"
"""Annotation of an object that belongs to one placement: the digest of agent, stage and revision."""
ON_LOOP_LABEL: Final = f"{GROUP}/on-loop"
"""Label of a placement's Lease: with the value `ON_LOOP_KILL`, the kill controller obeys the loops that it reports."""
ON_LOOP_KILL: Final = "Kill"
ON_LOOP_ALLOW: Final = "Allow"
"""Value of the label where the policy has no loops. A label that went would be no difference that is repaired."""
ISOLATION_LABEL = f"{GROUP}/isolation"
GUARD_LABEL = f"{GROUP}/guard"
"""Label of every pod that a guard runs in: the name of its agent."""
ENDPOINT_LABEL: Final = f"{GROUP}/endpoint"
"""Label of a pod with a guard: with the value `ENDPOINT`, the Services of its agent lead to it. The operator takes it
off before a scale-down ends the pod. So no workload and no NetworkPolicy may select by it."""
ENDPOINT: Final = "true"

HOLD_GUARD_UPDATES: Final = f"{GROUP}/hold-guard-updates"
"""Annotation of a namespace: any value other than `HOLD_OFF` keeps the guards of its agents at their version. In the
operator's namespace it holds for all agents."""
HOLD_OFF: Final = "off"
SCRAPE_LABEL: Final = f"{GROUP}/scrape"
"""Label of a namespace: with the value `SCRAPE_ALLOWED`, its pods may read metrics of all programs."""
SCRAPE_ALLOWED: Final = "allowed"

AWS_ROLE: Final = "eks.amazonaws.com/role-arn"
GOOGLE_ACCOUNT: Final = "iam.gke.io/gcp-service-account"
AZURE_CLIENT: Final = "azure.workload.identity/client-id"
CLOUD_KEYS: Final = (
    *(AWS_ROLE, "eks.amazonaws.com/audience", "eks.amazonaws.com/sts-regional-endpoints"),
    *("eks.amazonaws.com/token-expiration", GOOGLE_ACCOUNT, "iam.gke.io/return-principal-id-as-email", AZURE_CLIENT),
    *("azure.workload.identity/tenant-id", "azure.workload.identity/service-account-token-expiration"),
)
"""Annotations of ServiceAccounts by which clouds give an identity to pods. The operator removes those that no policy
names from its accounts."""

APP_NAME_LABEL = "app.kubernetes.io/name"
APP_INSTANCE_LABEL = "app.kubernetes.io/instance"
APP_COMPONENT_LABEL = "app.kubernetes.io/component"
APP_MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
APP_PART_OF_LABEL = "app.kubernetes.io/part-of"

APP_NAME = "interlock-agent"
MANAGED_BY = "interlock"
PART_OF = "interlock"

FIELD_MANAGER = "interlock"
KILL_FIELD_MANAGER = "interlock-kill"
GUARD_FIELD_MANAGER = "interlock-guard"
VERIFIER_FIELD_MANAGER = "interlock-verifier"

OPERATOR_NAMESPACE = "interlock-system"
OPERATOR_KEY_SECRET: Final = "interlock-key"  # noqa: S105 - a name
"""Name of the Secret in the operator's namespace with the key from which the keys of agents are derived."""
OPERATOR_ACCOUNT: Final = "system:serviceaccount:interlock-system:interlock"
"""User name of the operator, which admission policies name."""
KILL_CONTROLLER_ACCOUNT: Final = "system:serviceaccount:interlock-system:interlock-kill"
"""User name of the kill controller, which admission policies name."""
KILL_ACCOUNT: Final = "system:serviceaccount:interlock-system:interlock-kill"
"""User name of the kill controller, which it writes as the author of a kill switch that it sets."""
KILL_LEASE: Final = "interlock-kill"
"""Name of the Lease that the kill controller renews."""
KILL_LEASE_SECONDS: Final = 60
"""Seconds after which the operator starts no new pods because the kill controller has not renewed its Lease."""
GUARD_ACCOUNT_SUFFIX = "-guard"
"""End of the name of a guard's ServiceAccount, after the name of its placement."""
NOTIFIER_ACCOUNT_SUFFIX: Final = "-notify"
"""End of the name of a notifier's ServiceAccount, and of all else that it has, after the name of its AgentPolicy."""
AGENT_ACCOUNT_SUFFIX = "-agent"
"""End of the name of the ServiceAccount of separate agent pods, after the name of the placement. It has no rights."""
TEST_ACCOUNT_SUFFIX: Final = "-test"
"""End of the name of the ServiceAccount of a stage's tests, after the name of the placement. It has no rights."""
_GUARD_ACCOUNT: Final = re.compile(f"(.+)-[0-9a-f]{{10}}{GUARD_ACCOUNT_SUFFIX}")


def agent_of_account(account: str) -> str | None:
    """Return the agent of a guard's ServiceAccount, None if the name is no guard's.

    The name is `<agent>-<10 hexadecimal digits>-guard`. Exactly one such group of digits belongs to the placement, so
    the agents `a` and `a-0123456789` have no account in common.

    Args:
        account: The name of the ServiceAccount.
    """
    found = _GUARD_ACCOUNT.fullmatch(account)
    return None if found is None else found[1]
