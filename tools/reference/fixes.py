"""The fixes of reasons: what a user does about each one, and the reasons that need no action.

The meanings of reasons are the docstrings of their enums. Links are relative to `docs/reference`.
"""

from typing import Final

FIXES: Final[dict[str, dict[str, str]]] = {
    "Agent": {
        "SpecInvalid": "correct the field that the message names",
        "BeingDeleted": "remove the finalizer that keeps it, or name another AgentPolicy in `spec.policyRef`",
        "OwnerMissing": "write a person's own address into `spec.owner`",
        "OwnerNotAPerson": "write a person's own address into `spec.owner`",
        "PurposeMissing": "write one sentence into `spec.purpose`",
        "PolicyRefMissing": "write `spec.policyRef`, or apply the AgentPolicy",
        "PolicyNotFound": "write `spec.policyRef`, or apply the AgentPolicy",
        "PolicyInvalid": "correct the policy",
        "DataAccessMissing": "add a row to `spec.dataAccess` of the policy",
        "ModelNotAllowed": "add it to `spec.models` of the policy",
        "PriceMissing": "add the [price](../explanation/prices.md) to `spec.models.prices` of the policy",
        "TemplateNotAllowed": (
            "remove the field that the message names, or allow its [switch](pod-template.md) in `spec.podTemplate` of "
            "the policy"
        ),
        "MetadataServerClosed": (
            "on GKE, set `INTERLOCK_METADATA_SERVER=GKE` for the operator. Elsewhere remove the row of `cloudIdentity` "
            "from the policy"
        ),
        "OpeningsAltered": "exempt pods with the label `app.kubernetes.io/managed-by=interlock` from the admission "
        "webhook or policy that changes their [annotation](../explanation/isolation.md#exceptions)",
        "DigestRequired": "name the image as `name@sha256:...`, or change `spec.podTemplate.imageReferences`",
        "EnvironmentInvalid": "keep one of them",
        "EnvironmentUnknown": "add the environment to `spec.environments` of the policy, or name one that it has",
        "StagesInvalid": "correct what the message names",
        "ClaimMissing": "add a claim for the environment to `claims` of the volume",
        "ClaimNotSeparate": "set `isolation: Separate` for the environment in the AgentPolicy",
        "ClaimShared": "name a claim that no other agent, stage or volume uses",
        "RevisionTooLarge": "shorten files of the Agent, maps of its MCPBindings, or the ConfigMaps that it refers to",
        "NewRevisionStarting": "wait, or what the cause says",
        "RolloutPaused": "remove the annotation `interlock.dev/pause` to go on",
        "ApprovalRequired": "run the command of the message, which [promotes](../spec/v1alpha1/agent.md#commands) it",
        "GatePending": "wait",
        "GateWithoutVerdict": "repair the source of the metric, or promote the revision as the message says",
        "GateBreached": "correct the agent, or abort the revision",
        "Aborted": "apply a corrected spec, or [retry](../spec/v1alpha1/agent.md#commands) the revision",
        "RolledBack": "apply a corrected spec, or [retry](../spec/v1alpha1/agent.md#commands) the revision",
        "WaitingToStart": "wait for what the message names",
        "GoodRevisionLost": "let the newest revision pass its stages, or correct the policy that the message names",
        "ServedInPart": "wait until a revision is good, or what the cause of the pods says",
        "NotServed": "wait until a revision has reached the environment, or what the cause of the pods says",
        "MinimumNotReached": "raise `minDuration`, or add the stage that the message names",
        "LimitedScopeRequired": "raise `minDuration`, or add the stage that the message names",
        "BindingMissing": "apply one binding for the source and environment",
        "BindingAmbiguous": "apply one binding for the source and environment",
        "BindingNotReviewed": "review it, and remove the annotation `interlock.dev/needs-review`",
        "BindingNotVerified": "wait, or read the binding's condition `Verified`",
        "BindingInvalid": "correct the binding",
        "NarrowingInvalid": "remove it there",
        "PodsNotReady": "what the cause says, or `kubectl describe pods` as in the message",
        "ImageChanged": "push the earlier image to the tag again and delete the pod, or change the Agent so that a new "
        "revision begins",
        "KillControllerAway": "repair the Deployment `interlock-kill` in `interlock-system`",
        "KillSwitch": "[release it](../explanation/kill.md#release-an-agent)",
        "ApplyFailed": "as the message says, often a quota or another admission policy",
        "NameTaken": "delete that object, or rename the agent",
        "ConfigMapMissing": "create the ConfigMap or the key, or mark the reference as `optional: true`",
        "ConfigMapRefused": "what the message says: refer to a ConfigMap of your own, or remove the key",
        "LedgerMissing": "remove what refuses the BudgetLedger",
        "GuardUpdateWaiting": "wait for the [wave](../how-to/upgrade.md#waves), or do what the message says",
        "GuardUpdating": "wait",
        "GuardDraining": "wait until the tasks have ended, for `spec.rollout.drainTimeout` at most",
        "GuardRetryWaiting": "wait for the [wave](../how-to/upgrade.md#waves), or do what the message says",
        "GuardUpdateRefused": "remove what refuses the write: `Deployed` names it",
        "GuardUpdateFailed": "[let the agent become ready](../how-to/upgrade.md#if-an-update-fails), kill it, or scale "
        "it to 0",
        "LedgerInvalid": "wait for the [repair](../explanation/budgets.md#a-ledger-that-cannot-be-read)",
        "BudgetExhausted": "wait for the next window, raise the budget in the policy, or set an "
        "[override](../spec/v1alpha1/agent.md#raise-a-budget)",
        "EnforcementLost": "remove what refuses the write",
        "ReconcileError": "report it with the message and the operator's log",
        "NetworkOpen": "use a [network plugin](../explanation/isolation.md#network-plugins) that does",
        "SharedPod": "set `isolation: Separate` in the policy",
        "EgressCheckPending": "wait",
        "SelfTestPending": "wait",
        "SelfTestFailed": "report it",
        "Audit": "[adopt what was seen](../how-to/adopt.md), then set `mode: Enforce` of the environment in the policy",
        "WaitingForOperator": "if this stays, no operator runs",
        "WaitingForGovernance": "what the condition `Governed` says",
        "WaitingForOrchestration": "what the condition `Orchestrated` says",
        "WaitingForActions": "what the condition `ActionsBound` says",
        "WaitingForDeployment": "what the condition `Deployed` says",
        "WaitingForReady": "what the condition `Ready` says",
    },
    "MCPBinding": {
        "SpecInvalid": "correct the field that the message names",
        "NotReviewed": "review it, and remove the annotation `interlock.dev/needs-review`",
        "WaitingForOperator": "if this stays, no operator runs",
        "Verifying": "what the cause says, or `kubectl describe jobs,pods` as in the message",
        "ConfigMapMissing": "create the ConfigMap or the key, or mark the reference as `optional: true`",
        "ConfigMapRefused": "what the message says: refer to a ConfigMap of your own, or remove the key",
        "ServerUnavailable": "read the server's log as in the message, check command, URL and Secret",
        "ListFailed": "repair the server",
        "ToolsMissing": "correct the names in `spec.tools` or `spec.prompts`",
        "PromptsMissing": "correct the names in `spec.tools` or `spec.prompts`",
        "ToolsAmbiguous": "repair the server",
        "PromptsAmbiguous": "repair the server",
        "TooManyTools": "write narrower globs",
        "TooManyPrompts": "write narrower globs",
        "ProbeFailed": "correct the server or `spec.verify.probes`",
        "JobFailed": "`kubectl events` as in the message",
        "ToolsChanged": "follow the runbook [BindingDrifted](../runbooks/BindingDrifted.md)",
        "ImageChanged": "follow the runbook [BindingDrifted](../runbooks/BindingDrifted.md)",
        "AcceptRefused": "accept the digest in `status.verification.observedDigest`",
    },
    "AgentPolicy": {
        "SpecInvalid": "correct the field that the message names",
        "WaitingForOperator": "if this stays, no operator runs",
        "WebhookFailing": "what the [table of reasons](../how-to/alerts.md#if-no-alert-arrives) says",
        "NotifierNotReady": "what the command in the message shows of the notifier's pod",
        "Audit": "[adopt what was seen](../how-to/adopt.md), then set `mode: Enforce`",
        "AgentsRefused": "change the Agents or the policy, as the condition `Ready` of each Agent says",
    },
    "Events alone": {
        "Killed": "[release it](../explanation/kill.md#release-an-agent)",
        "RolloutStopped": "apply a corrected spec, or [retry](../spec/v1alpha1/agent.md#commands) the revision",
        "RolledBack": "apply the spec of that revision, or a corrected one",
        "CommandVoid": "name the revision of now, as the message says",
        "StatusRefused": "find out who wrote the status of the Agent",
        "SoakRestarted": "read why the container ended: `kubectl logs --previous`, container `agent`",
        "TestEnded": "if it did not pass, read its log in `status.rollout.tests`",
        "RequestsDenied": "what its [reason](../explanation/guard.md#reasons-for-a-denial) and rule say",
        "RequestsWouldBeDenied": "permit the calls, or keep the agent from them: "
        "[adopt in an existing namespace](../how-to/adopt.md)",
        "VelocityAlert": "find the call that repeats in the [audit records](../explanation/audit.md), and "
        "[kill the agent](../explanation/kill.md) if it is in a loop",
        "TokensPerByteAlert": "compare what the agent sends with what the provider counts: "
        "[tokens per byte](../explanation/call-costs.md#tokens-per-byte)",
        "BudgetAlert": "compare the spend with the plan before the [budget](../spec/v1alpha1/agent.md#budgets) ends",
        "BudgetOverrideRefused": "do what the message says, then set another "
        "[override](../spec/v1alpha1/agent.md#raise-a-budget)",
        "EgressCrowded": "name a narrower `cidr` in the row of `egress`, before the cluster has more nodes",
        "OpeningsWithdrawn": "if it was not intended, compare the `egress` and `cloudIdentity` of the AgentPolicy, and "
        "the `network` of the MCPBinding, with the [annotation of the pods](../explanation/isolation.md#exceptions)",
        "LedgerRepaired": "see what the [repair](../explanation/budgets.md#a-ledger-that-cannot-be-read) has spent",
        "GuardUpdatesStopped": "[let the agent become ready](../how-to/upgrade.md#if-an-update-fails) that it names",
        "AdmissionPoliciesChanged": "if it was not intended, apply `manifests/admission` again",
    },
}
"""By the kind of the object that has the reason, then by the reason."""

NO_ACTION: Final = frozenset(
    {
        *("GovernanceSatisfied", "RolloutPlanned", "BindingsResolved", "Applied", "PodsReady", "SelfTestPassed"),
        *(
            "EgressClosed",
            "EgressOpened",
            "ScaledToZero",
            "NoGuard",
            "Progressing",
            "NotKilled",
            "Released",
            "Soaking",
            "LastStage",
            "RolloutComplete",
            "NotPaused",
            "NotRunning",
            "NotDegraded",
            "Served",
        ),
        *("Verified", "NoDrift", "DriftAccepted", "NotPinned", "InForce", "NoViolation", "NotifierReady"),
        *(
            "StageEntered",
            "RolloutStarted",
            "RevisionGood",
            "Promoted",
            "ServingChanged",
            "AdmissionPoliciesRestored",
            "WithinBudget",
            "NoBudget",
            "GuardCurrent",
            "GuardUpdatesResumed",
        ),
    }
)
"""The reasons that need no action. Every other one has a fix."""
