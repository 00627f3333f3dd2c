"""The table of `field_classes`: groups of fields with the same class and the same effect of a change."""

from enum import StrEnum
from typing import Final


class FieldClass(StrEnum):
    """What a change of a field does."""

    STAGED = "Staged"
    """The change starts a new revision. Running revisions keep the value that they began with."""
    NARROWER = "Narrower"
    """What narrows takes effect immediately in all revisions. What widens starts a new revision."""
    IMMEDIATE = "Immediate"
    """The change takes effect immediately in all revisions, and starts none."""
    ROLLOUT = "Rollout"
    """The field describes the rollout itself, and is in no revision."""


_STAGED: Final = "A change goes through the stages."
_IMMEDIATE: Final = "A change takes effect immediately."
_LIST: Final = "What is removed is gone immediately. What is added goes through the stages."
_LESS: Final = "A lower value takes effect immediately. A higher one goes through the stages."
_ROW: Final = "A row that is removed is gone immediately. One that is added goes through the stages."
_MEANING: Final = (
    "The stricter of both meanings holds: the one whose calls the permissions deny. If they permit both, a change goes "
    "through the stages."
)
_TOOL_SCOPE: Final = (
    "A call must be inside the scope by both. A pointer that moves denies the calls of older revisions if a stage is "
    "limited in the dimension."
)
_RULES: Final = "A rule that is added or made stricter holds immediately. One that is removed goes through the stages."
_NETWORK: Final = (
    "With the same server, the narrower network holds immediately. Else the network belongs to the server."
)
_WITHHELD: Final = "Withheld takes effect immediately. The other value goes through the stages."

GROUPS: Final[tuple[tuple[FieldClass, str, str], ...]] = (
    (
        FieldClass.IMMEDIATE,
        _IMMEDIATE,
        """Agent.spec
        owner.name owner.email purpose replicas
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        _IMMEDIATE,
        """Agent.spec
        tasks.maxConcurrentTasks
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        _IMMEDIATE,
        """Agent.spec
        budget[].environment budget[].dailyBudget budget[].monthlyBudget
        """,
    ),
    (
        FieldClass.ROLLOUT,
        (
            "Another way through the stages, of the same revision. A stage in an environment that the revision "
            "did not have starts a new one."
        ),
        """Agent.spec
        environment rollout.stages[].name rollout.stages[].environment
        """,
    ),
    (
        FieldClass.ROLLOUT,
        "Another way through the stages, of the same revision.",
        """Agent.spec
        rollout.stages[].scope[].dimension rollout.stages[].scope[].values rollout.stages[].minDuration
        rollout.stages[].approval rollout.maxRestarts rollout.drainTimeout
        rollout.stages[].gates.minTasks rollout.stages[].gates.minCalls
        rollout.stages[].gates.maxErrorPercent rollout.stages[].gates.maxP95Latency
        rollout.stages[].gates.maxDeniedPercent rollout.stages[].gates.maxCostPerTask rollout.stages[].gates.onBreach
        rollout.stages[].gates.metrics[].name rollout.stages[].gates.metrics[].query
        rollout.stages[].gates.metrics[].min rollout.stages[].gates.metrics[].max rollout.stages[].tests[].name
        rollout.stages[].tests[].image rollout.stages[].tests[].command rollout.stages[].tests[].args
        rollout.stages[].tests[].env[].name rollout.stages[].tests[].env[].value rollout.stages[].tests[].deadline
        """,
    ),
    (
        FieldClass.ROLLOUT,
        "Another number of pods, of the same revision, immediately.",
        """Agent.spec
        rollout.stages[].replicas
        """,
    ),
    (
        FieldClass.STAGED,
        _STAGED,
        """Agent.spec
        policyRef.name tasks.port tasks.scope[].dimension tasks.scope[].header tasks.scope[].pointer
        bindings[].source bindings[].permissions.read bindings[].permissions.write
        bindings[].permissions.delete models[].name models[].apiKeyFrom.secretKeyRef.name
        models[].apiKeyFrom.secretKeyRef.key files[].path files[].content template.image template.command
        template.args template.env[].name template.env[].value template.resources.requests.cpu
        template.resources.requests.memory template.resources.limits.cpu template.resources.limits.memory
        template.imagePullPolicy template.workingDir template.env[].valueFrom.fieldRef.fieldPath
        template.env[].valueFrom.configMapKeyRef.* template.envFrom[].* template.volumes[].configMap.*
        template.ports[].name template.ports[].containerPort template.ports[].protocol template.startupProbe.*
        template.livenessProbe.* template.readinessProbe.* template.volumeMounts[].name
        template.volumeMounts[].mountPath template.volumeMounts[].subPath template.volumeMounts[].readOnly
        template.volumes[].name template.volumes[].emptyDir.medium template.volumes[].emptyDir.sizeLimit
        template.volumes[].projected.* template.volumes[].persistentVolumeClaim.claims[].environment
        template.volumes[].persistentVolumeClaim.claims[].claimName template.volumes[].persistentVolumeClaim.readOnly
        template.metadata.labels template.metadata.annotations
        template.runtimeClassName template.terminationGracePeriodSeconds template.securityContext.runAsUser
        template.securityContext.runAsGroup
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "Pods of the same revision are replaced, immediately in all stages.",
        """Agent.spec
        template.imagePullSecrets[].name template.nodeSelector template.tolerations[].* template.affinity.*
        template.topologySpreadConstraints[].* template.priorityClassName
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "Pods that use what is no longer allowed end immediately.",
        """AgentPolicy.spec
        podTemplate.allow podTemplate.metadataKeys podTemplate.maxTerminationGracePeriodSeconds
        podTemplate.imageReferences podTemplate.max.cpu podTemplate.max.memory podTemplate.max.emptyDir
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "Pods of the same revision are replaced, immediately in all stages.",
        """AgentPolicy.spec
        podTemplate.default.imagePullSecrets[].name podTemplate.default.nodeSelector
        podTemplate.default.tolerations[].*
        podTemplate.guardResources.requests.cpu podTemplate.guardResources.requests.memory
        podTemplate.guardResources.limits.cpu podTemplate.guardResources.limits.memory
        """,
    ),
    (
        FieldClass.NARROWER,
        _ROW + " Only rows that apply to the agent are in its revision.",
        """AgentPolicy.spec
        dataAccess[].agents dataAccess[].source
        """,
    ),
    (
        FieldClass.NARROWER,
        (
            "As of rows. The labels of the agent are those that it had when the revision began. Another value of "
            "a label that a row selects by starts a new revision."
        ),
        """AgentPolicy.spec
        dataAccess[].agentSelector.matchLabels
        """,
    ),
    (
        FieldClass.NARROWER,
        _LIST,
        """AgentPolicy.spec
        dataAccess[].read dataAccess[].write dataAccess[].delete
        """,
    ),
    (
        FieldClass.NARROWER,
        (
            "What is removed is closed immediately, and pods of the agent start again, which ends connections there. "
            "What is added goes through the stages. Only rows that apply to the agent are in its revision."
        ),
        """AgentPolicy.spec
        egress[].agents egress[].agentSelector.matchLabels egress[].servers egress[].environments egress[].to[].cidr
        egress[].to[].namespaceSelector.matchLabels egress[].to[].podSelector.matchLabels egress[].ports[].port
        egress[].ports[].endPort egress[].ports[].protocol egress[].dns
        """,
    ),
    (
        FieldClass.NARROWER,
        (
            "An identity that is removed or replaced is gone immediately, and the guards' pods start again. One that "
            "is added goes through the stages. Only rows that apply to the agent are in its revision."
        ),
        """AgentPolicy.spec
        cloudIdentity[].agents cloudIdentity[].agentSelector.matchLabels cloudIdentity[].environments
        cloudIdentity[].annotations
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "A change changes no identity by itself.",
        """AgentPolicy.spec
        cloudIdentity[].name
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "A change closes and opens nothing by itself.",
        """AgentPolicy.spec
        egress[].name egress[].public
        """,
    ),
    (
        FieldClass.ROLLOUT,
        "Another rule for rollouts. Revisions that run stay.",
        """AgentPolicy.spec
        environments[].name environments[].class rollout.minStaging rollout.minLimitedScope
        rollout.requireLimitedScope rollout.requireApproval rollout.maxConcurrent
        rollout.maxDrainTimeout rollout.history.count rollout.history.maxAge
        rollout.gates.minTasks rollout.gates.minCalls rollout.gates.maxErrorPercent
        rollout.gates.maxP95Latency rollout.gates.maxDeniedPercent rollout.gates.maxCostPerTask rollout.gates.onBreach
        """,
    ),
    (
        FieldClass.NARROWER,
        "Separate takes effect immediately. Shared goes through the stages.",
        """AgentPolicy.spec
        environments[].isolation
        """,
    ),
    (
        FieldClass.NARROWER,
        (
            "Enforce takes effect immediately. Each change starts a new revision, since a revision that ran in Audit "
            "is not promoted."
        ),
        """AgentPolicy.spec
        environments[].mode
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        _IMMEDIATE,
        """AgentPolicy.spec
        environments[].dailyBudget environments[].monthlyBudget budget.alertPercents budget.timeZone
        budget.onExhausted budget.total.dailyBudget budget.total.monthlyBudget budget.perTask budget.velocity.factor
        budget.velocity.minimum budget.tokensPerByte.changePercent budget.tokensPerByte.minimumCalls
        budget.override.maxAmount budget.override.maxDuration rateLimits.callsPerMinute rateLimits.tokensPerMinute
        models.prices[].model models.prices[].input models.prices[].output models.prices[].cachedInput
        models.prices[].cacheWrite models.prices[].audioInput models.prices[].audioOutput models.prices[].perCall
        models.prices[].contextWindow models.hangUpSeconds audit.arguments audit.redact notify[].name
        notify[].webhook.urlFrom.secretKeyRef.name notify[].webhook.urlFrom.secretKeyRef.key
        notify[].webhook.signingKeyFrom.secretKeyRef.name notify[].webhook.signingKeyFrom.secretKeyRef.key
        notify[].webhook.network notify[].webhook.caFrom.configMapKeyRef.name
        notify[].webhook.caFrom.configMapKeyRef.key notify[].webhook.caFrom.secretKeyRef.name
        notify[].webhook.caFrom.secretKeyRef.key notify[].webhook.format
        """,
    ),
    (
        FieldClass.NARROWER,
        _LIST + " Only what matches models of the agent is in its revision.",
        """AgentPolicy.spec
        models.allow models.secretNames
        """,
    ),
    (
        FieldClass.NARROWER,
        _LESS,
        """AgentPolicy.spec
        models.requestBytes models.maxOutputTokens
        """,
    ),
    (
        FieldClass.NARROWER,
        _LIST,
        """AgentPolicy.spec
        models.urls[].extraMembers models.urls[].contentHosts
        """,
    ),
    (
        FieldClass.NARROWER,
        _NETWORK,
        """AgentPolicy.spec
        models.urls[].network
        """,
    ),
    (
        FieldClass.NARROWER,
        (
            "A provider that is removed is gone immediately, except that the two that are always known get their "
            "default."
        ),
        """AgentPolicy.spec
        models.urls[].name
        """,
    ),
    (
        FieldClass.STAGED,
        _STAGED + " Only providers of the agent's models are in its revision.",
        """AgentPolicy.spec
        models.urls[].url models.urls[].caFrom.configMapKeyRef.name models.urls[].caFrom.configMapKeyRef.key
        models.urls[].caFrom.secretKeyRef.name models.urls[].caFrom.secretKeyRef.key models.urls[].outputLimitMember
        models.urls[].streamUsage
        """,
    ),
    (
        FieldClass.STAGED,
        _STAGED + " Agents without models and HTTP servers have no proxy in their revision.",
        """AgentPolicy.spec
        egressProxy.url egressProxy.caFrom.configMapKeyRef.name egressProxy.caFrom.configMapKeyRef.key
        egressProxy.caFrom.secretKeyRef.name egressProxy.caFrom.secretKeyRef.key
        """,
    ),
    (
        FieldClass.NARROWER,
        _LIST,
        """AgentPolicy.spec
        egressProxy.noProxy
        """,
    ),
    (
        FieldClass.STAGED,
        _STAGED,
        """AgentPolicy.spec
        resources.default.cpu resources.default.memory resources.defaultRequest.cpu resources.defaultRequest.memory
        resources.tmpSizeLimit
        """,
    ),
    (
        FieldClass.NARROWER,
        _LESS,
        """AgentPolicy.spec
        loops.identicalCalls
        """,
    ),
    (
        FieldClass.NARROWER,
        "A longer window takes effect immediately. A shorter one goes through the stages.",
        """AgentPolicy.spec
        loops.window
        """,
    ),
    (
        FieldClass.NARROWER,
        "Kill takes effect immediately. Block, and a policy without loops, go through the stages.",
        """AgentPolicy.spec
        loops.action
        """,
    ),
    (
        FieldClass.NARROWER,
        ("A binding that no longer serves the source is gone immediately. One that is new goes through the stages."),
        """MCPBinding.spec
        source environments
        """,
    ),
    (
        FieldClass.STAGED,
        _STAGED,
        """MCPBinding.spec
        server.stdio.image server.stdio.command server.stdio.args server.stdio.env[].name server.stdio.env[].value
        server.stdio.env[].valueFrom.secretKeyRef.name server.stdio.env[].valueFrom.secretKeyRef.key
        server.stdio.env[].valueFrom.configMapKeyRef.* server.stdio.envFrom[].* server.stdio.volumes[].configMap.*
        server.stdio.env[].valueFrom.fieldRef.fieldPath server.stdio.imagePullPolicy server.stdio.workingDir
        server.stdio.readinessProbe.* server.stdio.volumeMounts[].name server.stdio.volumeMounts[].mountPath
        server.stdio.volumeMounts[].subPath server.stdio.volumeMounts[].readOnly server.stdio.volumes[].name
        server.stdio.volumes[].emptyDir.medium server.stdio.volumes[].emptyDir.sizeLimit
        server.stdio.volumes[].projected.* server.stdio.securityContext.runAsUser
        server.stdio.resources.requests.cpu server.stdio.resources.requests.memory server.stdio.resources.limits.cpu
        server.stdio.resources.limits.memory server.http.url server.http.headers[].name server.http.headers[].value
        server.http.headers[].valueFrom.secretKeyRef.name server.http.headers[].valueFrom.secretKeyRef.key
        server.http.caFrom.configMapKeyRef.name server.http.caFrom.configMapKeyRef.key
        server.http.caFrom.secretKeyRef.name server.http.caFrom.secretKeyRef.key
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "Guards' pods of the same revision are replaced, immediately in all stages.",
        """MCPBinding.spec
        server.stdio.imagePullSecrets[].name server.stdio.nodeSelector server.stdio.tolerations[].*
        """,
    ),
    (
        FieldClass.NARROWER,
        _NETWORK,
        """MCPBinding.spec
        server.stdio.network server.http.network
        """,
    ),
    (
        FieldClass.NARROWER,
        _ROW,
        """MCPBinding.spec
        tools[].name resources[].uri prompts[].name
        """,
    ),
    (
        FieldClass.NARROWER,
        _MEANING,
        """MCPBinding.spec
        tools[].operation tools[].resource resources[].operation resources[].resource prompts[].operation
        prompts[].resource
        """,
    ),
    (
        FieldClass.NARROWER,
        _TOOL_SCOPE,
        """MCPBinding.spec
        tools[].scope[].dimension tools[].scope[].pointer tools[].scope[].unscoped prompts[].scope[].dimension
        prompts[].scope[].pointer prompts[].scope[].unscoped
        """,
    ),
    (
        FieldClass.NARROWER,
        "false takes effect immediately. true goes through the stages.",
        """MCPBinding.spec
        tools[].scope[].inject prompts[].scope[].inject
        """,
    ),
    (
        FieldClass.NARROWER,
        "A resource must be inside the scope by both.",
        """MCPBinding.spec
        resources[].scope[].dimension resources[].scope[].values resources[].scope[].unscoped
        """,
    ),
    (
        FieldClass.NARROWER,
        _RULES,
        """MCPBinding.spec
        tools[].arguments[].pointer tools[].arguments[].enum tools[].arguments[].prefix tools[].arguments[].pattern
        tools[].arguments[].maximum prompts[].arguments[].pointer prompts[].arguments[].enum
        prompts[].arguments[].prefix prompts[].arguments[].pattern
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        _IMMEDIATE,
        """MCPBinding.spec
        tools[].costPerCall
        """,
    ),
    (
        FieldClass.NARROWER,
        _WITHHELD,
        """MCPBinding.spec
        resourceDescriptions instructions
        """,
    ),
    (
        FieldClass.NARROWER,
        _LIST,
        """MCPBinding.spec
        serverRequests permissions.read permissions.write permissions.delete
        """,
    ),
    (
        FieldClass.NARROWER,
        _LESS,
        """MCPBinding.spec
        limits.requestBytes limits.resultBytes limits.inFlight
        """,
    ),
    (
        FieldClass.IMMEDIATE,
        "A change starts a verification, and no revision.",
        """MCPBinding.spec
        verify.interval verify.probes[].name verify.probes[].tool verify.probes[].arguments verify.probes[].expect
        verify.probes[].maxLatency
        """,
    ),
)
"""Class, effect for users, and the paths of the fields: the first word is the beginning of all of them."""
