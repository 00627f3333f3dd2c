"""Messages and patterns of refusals, one text for the API server (CEL) and for the reconciler (Python).

The reconciler repeats the checks of the API server, since an admission policy can be missing and an object can be older
than a rule. The CEL rules are next to the fields in the models, the Python checks in `refusals`.
"""

import re

from interlock_contract.budget.money import MONEY_PATTERN
from interlock_contract.pod import AUDIT_TELEMETRY_PORT, FIRST_RESERVED_PORT, LAST_RESERVED_PORT

EMAIL = r"^[A-Za-z0-9._%+'\-]+@[A-Za-z0-9\-]+(\.[A-Za-z0-9\-]+)+$"
ROLE_ADDRESS = (
    r"^(((teams?|support|no-?reply|do-?not-?reply|info|admin|administrator|ops|devops|secops|sre|security"
    r"|help|help-?desk|hello|contact|office|root|web-?master|post-?master|abuse|sales|billing|platform|on-?call"
    r"|all|list|alerts?|service|bot)([+._\-][^@]*)?)|([^@]*[+._\-])?teams?([+._\-][^@]*)?)@"
)
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
RESOURCE = r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9_])?$"
VARIABLE = r"^[ -<>-~]+$"
"""What Kubernetes takes from 1.32 on: any printable character of ASCII but the equals sign."""
RELATIVE_PATH = r"^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*$"
DOTS_IN_PATH = r"(^|/)\.{1,2}(/|$)"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

MODEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9._:/@+]*[A-Za-z0-9])?$"
MODEL_GLOB = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/([-A-Za-z0-9._:/@+]+\*?|\*)$"
OWN_PATHS = ("mcp", "ready")
"""First parts of paths at the guard that are no provider's."""
MODEL_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
"""Variables by which an agent finds the guard's way to its models."""

RFC3339 = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
BUDGET_OVERRIDE = r"^\+" + MONEY_PATTERN[1:-1] + " USD until=" + RFC3339 + r" reason=[!-~]([ -~]{0,254}[!-~])?$"
"""The value of the annotation interlock.dev/budget-override."""
REVISION_NAME = r"^[1-9][0-9]{0,8}-[0-9a-f]{10}$"
"""The name of a revision: its number, and the first digits of its digest."""
REVISION_STAGE = REVISION_NAME[:-1] + r"(/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$"
"""The same with a stage after a slash, if there is one to name."""

OWNER_MISSING = "spec.owner is missing: write the name and e-mail address of the person who answers for this agent"
OWNER_NAME_MISSING = "spec.owner.name is missing: write the name of the person who answers for this agent"
OWNER_EMAIL_MISSING = "spec.owner.email is missing: write the e-mail address of the person who answers for this agent"
OWNER_EMAIL_INVALID = (
    "spec.owner.email {email} is not an e-mail address: write the address of the person who answers for this agent"
)
OWNER_ROLE_ADDRESS = (
    "spec.owner.email {email} is a role address: an agent is owned by a person, "
    "write that person's own address, such as ada@example.com"
)
PURPOSE_MISSING = "spec.purpose is missing: write in one sentence what this agent is for"
POLICY_REF_MISSING = "spec.policyRef is missing: write the name of the AgentPolicy that governs this agent"
ENVIRONMENT_MISSING = (
    "spec.environment and spec.rollout are both missing: write environment: development, or the stages of a rollout"
)
ENVIRONMENT_TWICE = (
    "spec.environment and spec.rollout are both set: keep environment for one stage, or rollout for several"
)
ENVIRONMENT_RESERVED = "{text} is the budget of all environments together: give the environment another name"
ENVIRONMENT_CLASS_MISSING = (
    "environment {name} has no class: write class: development, staging or production, by which its rules apply"
)
ENVIRONMENT_CLASS_FIXED = "environment {name} is of the class of its own name: remove class, or rename the environment"
AUDIT_OUTSIDE_DEVELOPMENT = (
    "environment {name} is not of class development, so its mode is Enforce: remove mode, or audit in development"
)
ENVIRONMENT_UNKNOWN = (
    "{field}: AgentPolicy {policy} has no environment {environment}: add it to spec.environments there with its class, "
    "or write development, staging or production"
)
STAGE_RETURNS = (
    "spec.rollout.stages: stage {stage} returns to {environment}, which an earlier stage has left: "
    "put all stages of one environment one after another"
)

MONEY_INVALID = (
    "{text} is not an amount of US dollars: write digits with at most 9 decimals and no sign or exponent, from 0 to "
    "1000000, such as 50 or 0.25"
)
TIME_ZONE_INVALID = "{text} is not the name of a time zone: write UTC, or a name such as Europe/Berlin"
BUDGET_OVERRIDE_INVALID = (
    "interlock.dev/budget-override {text} is no override: write an amount, a time and a reason, such as "
    "+100 USD until=2026-12-01T18:00:00Z reason=quarter end"
)
TIME_ZONE_UNKNOWN = "write UTC, or a name of the IANA database such as Europe/Berlin"
ALERT_PERCENTS = "alertPercents: write each percentage once, in rising order, such as [50, 80]"
BUDGET_EMPTY = "a budget needs dailyBudget or monthlyBudget: write at least one of them"
RATES_EMPTY = "rateLimits needs callsPerMinute or tokensPerMinute: write at least one of them"
LEDGER_IDENTITY = "spec needs both of agent and environment, or none of them for the total of a policy"
BUDGET_RAISED = (
    "spec.budget: {field} {amount} in {environment} is above the {limit} of AgentPolicy {policy}: an agent can only "
    "lower its budget, so lower it, or raise it in spec.environments there"
)

GATES_UNDERCUT = (
    "spec.rollout.stages: stage {stage}: gates.{field} {value} is weaker than {required} of AgentPolicy {policy}: "
    "an agent can only make gates stricter, so remove it, or change spec.rollout.gates there"
)
TASK_GATE_WITHOUT_TASKS = (
    "spec.rollout.stages: stage {stage}: gates.minTasks and gates.maxCostPerTask need tasks, and the agent takes none: "
    "use gates.minCalls, or set spec.tasks"
)
DRAIN_TIMEOUT_INVALID = "{text} is not a time to drain: write a duration between 1s and 24h, such as 30s"
DRAIN_TIMEOUT_RAISED = (
    "spec.rollout.drainTimeout: {timeout} is above the {limit} of AgentPolicy {policy}: lower it, or raise "
    "spec.rollout.maxDrainTimeout there"
)
HISTORY_AGE_INVALID = "{text} is not an age of revisions: write a duration between 1h and 87600h, such as 8760h"
METRIC_BOUNDS_EMPTY = "a metric needs min or max: write at least one of them"
TEST_DEADLINE = "{text} is not a deadline of a test: write a duration between 1s and 24h, such as 10m"

DURATION_INVALID = "{text} is not a duration: write 168h, 90m or 1h30m (7 days are 168h)"
STAGES_BACKWARDS = (
    "spec.rollout.stages: stage {stage} in {environment} follows a stage in {earlier}: order the stages as "
    "development, staging, production"
)
SCOPE_NARROWER = (
    "spec.rollout.stages: the scope of stage {stage} is narrower than that of the stage before it in "
    "{environment}: a rollout only widens the scope, so keep all values of the earlier stage or swap the stages"
)

MODEL_INVALID = "{text} is not a model: write provider/model, such as openai/gpt-4o-mini"
MODEL_GLOB_INVALID = (
    "{text} is not a model or the beginning of models: write openai/gpt-4o-mini, or openai/gpt-4o* with * as its end"
)
PROVIDER_RESERVED = "{text} is reserved for a path of the guard: give the provider another name"
MEMBER_INVALID = (
    "{text} is not the name of a member or beta feature: write letters, digits, _, -, . and =, such as top_k"
)
MEMBER_REFUSED = "{text} cannot be added: it would let a provider act or go on where the guard does not see it"
CONTENT_HOST_INVALID = (
    "{text} is not a host: write images.example.com, without scheme, port and path, or * for all hosts"
)
MODEL_URL_INVALID = "{text} is not the base URL of a provider: write https://host/v1, without user, query and fragment"
PROXY_URL_INVALID = (
    "{text} is not the URL of a proxy: write http://proxy.example.com:3128, without user, path, query and fragment"
)
NO_PROXY_INVALID = (
    "{text} is not a host or domain: write example.com for it and all below it, or .example.com for all below it"
)
MODEL_NOT_ALLOWED = (
    "spec.models: AgentPolicy {policy} does not allow {model}: add it to spec.models.allow there, or remove the model"
)
MODEL_WITHOUT_PROVIDER = (
    "spec.models: {model} belongs to a provider that AgentPolicy {policy} does not know: add it to "
    "spec.models.urls there, or write openai/ or anthropic/ before the model"
)
MODEL_KEY_NOT_ALLOWED = (
    "spec.models: AgentPolicy {policy} does not let {model} use Secret {secret}: add it to spec.models.secretNames "
    "there, or name another Secret in apiKeyFrom"
)
MODEL_VARIABLE_TAKEN = (
    "spec.template.env: OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY are set by Interlock "
    "for an agent with spec.models: remove yours, or the models"
)
REDACT_WITHOUT_ARGUMENTS = (
    "spec.audit.redact is set, but audit records hold only the digest of the arguments: write arguments: "
    "Redacted, or remove redact"
)
MINIMUM_STAGING = (
    "spec.rollout.stages: {actual} in staging, but AgentPolicy {policy} requires {required} before production: "
    "raise minDuration of the staging stages, or lower spec.rollout.minStaging there"
)
STAGING_MISSING = (
    "spec.rollout.stages: no staging stage before production, but AgentPolicy {policy} requires {required} in "
    "staging: add a staging stage with minDuration {required}, or lower spec.rollout.minStaging there"
)
LIMITED_SCOPE_REQUIRED = (
    "spec.rollout.stages: production starts without a scope, but AgentPolicy {policy} requires a limited one "
    "first: add a production stage with a scope and minDuration {required} before it, or set "
    "spec.rollout.requireLimitedScope: false there"
)
MINIMUM_LIMITED_SCOPE = (
    "spec.rollout.stages: {actual} in limited scope, but AgentPolicy {policy} requires {required}: raise "
    "minDuration of the production stages that have a scope, or lower spec.rollout.minLimitedScope there"
)
ROW_MISSING = (
    "spec.bindings: AgentPolicy {policy} has no dataAccess row for agent {agent} and source {source}: "
    "add the row, or remove the binding"
)

PORT_RESERVED = (
    f"ports {FIRST_RESERVED_PORT} to {LAST_RESERVED_PORT} are reserved for Interlock: "
    "let the agent listen on another port, such as 8080"
)
NAME_INVALID = "{text} is not a name: write lower case letters, digits and dashes, such as crm or one-region"
LABELS_TOO_MANY = (
    "metadata.labels: this Agent has {count} labels, at most {most} are allowed, since its status records them: "
    "remove some"
)
AGENT_NAME_INVALID = (
    "metadata.name {name} is not a valid agent name: write at most 52 lower case letters, digits and single dashes, "
    "since other names are made from it"
)
RESOURCE_INVALID = (
    "{text} is not a resource: write letters, digits and dashes, such as contacts; "
    "* for all of them is allowed in dataAccess[].read only"
)
PATH_INVALID = "{text} is not a path of a file: write it relative and without .., such as prompts/system.md"
PATH_TWICE = "{path} is both a file and a folder: rename one of them"
FILES_TOO_LARGE = (
    "spec.files hold more than 65536 characters together: move large files into the image or behind a source"
)
COMMAND_TOO_LARGE = (
    "command, args and env hold more than 32768 characters together: move large values into a file or the image"
)
VARIABLE_INVALID = "{text} is not an environment variable: write printable ASCII characters but =, such as LOG_LEVEL"
VARIABLE_RESERVED = "{text} is set by Interlock: choose a name that does not start with INTERLOCK_"
IMAGE_INVALID = "{text} is not an image: write it without spaces, such as registry.example.com/agent:1.0"
CONCURRENCY_INVALID = "is neither a number of agents from 1 nor a percentage: write 5 or 10%"
QUANTITY_INVALID = "not a quantity: write 100m or 1 for CPU, 128Mi or 1Gi for memory"
LIMIT_INVALID = "not a quantity above 0, which would be no limit at all: write 1 for CPU, or 128Mi for memory and disks"
LIMIT_BELOW_REQUEST = "limits are below requests: raise limits.{kind} or lower requests.{kind}"
VARIABLE_VALUE = "environment variable {name} needs exactly one of value and valueFrom: write one of them"
SERVER_MISSING = (
    "spec.server needs exactly one of stdio and http: "
    "write image and command of a server to run, or the url of one that runs elsewhere"
)
URL_INVALID = "{text} is not the URL of a server: write https://host/path, without user, password and fragment"
HTTP_NOT_PRIVATE = (
    "http:// is allowed with network: Private only, since credentials and data are not encrypted: write https://"
)
CA_SOURCE = "caFrom needs exactly one of configMapKeyRef and secretKeyRef: write one of them"
CA_WITHOUT_TLS = "caFrom is for https only: write an https:// url, or remove caFrom"
HEADER_INVALID = "{text} is not the name of an HTTP header: write letters, digits and dashes, such as Authorization"
HEADER_OWN = "{text} is reserved for MCP or for the connection: remove it"
HEADER_TWICE = "headers: two names differ in upper and lower case at most: keep one of them"
HEADER_VALUE = "header {name} needs exactly one of value and valueFrom: write one of them"
HEADER_VALUE_INVALID = "not the value of an HTTP header: write printable ASCII without spaces around it"
TASK_HEADER_INVALID = "{text} is not the name of a header of tasks: write letters, digits and dashes, such as X-Region"
TASK_HEADER_OWN = "{text} has a meaning of its own in requests: write another header, such as X-Region"
TASK_SCOPE = "dimension {dimension} needs exactly one of header and pointer: write X-Region, or /params/metadata/region"
TASK_DIMENSION_MISSING = (
    "spec.tasks.scope does not say where tasks name dimension {dimension}, so stage {stage}, which is limited in it, "
    "could serve no task: add {dimension} with a header or pointer there, or remove it from the scope of the stage"
)
TOOL_INJECT = (
    "dimension {dimension}: inject needs a pointer to the argument that the guard writes: write "
    "/name-of-the-argument, or remove inject"
)
TOOL_SCOPE = "dimension {dimension} needs exactly one of pointer and unscoped: write /name-of-the-argument, or Allowed"
POINTER_INVALID = "{text} is not a JSON pointer to an argument: write /region, or /filter/region (~0 is ~, ~1 is /)"
TOOL_NAME_INVALID = "{text} is not the name of a tool: write it as the server lists it, printable and without spaces"

PROMPT_NAME_INVALID = (
    "{text} is not the name of a prompt: write it as the server lists it, printable and without spaces"
)
URI_INVALID = (
    "{text} is not the URI of a resource: write it as the server lists it, such as crm://contacts/*, where * "
    "matches within one part and ** across parts, without braces and without a part that is . or .."
)
RESOURCE_SCOPE = (
    "dimension {dimension} needs exactly one of values and unscoped: write the values that the resource belongs to, "
    "or Allowed"
)
ARGUMENT_RULE = (
    "the rule on argument {pointer} needs exactly one of enum, prefix, pattern and maximum: write one of them, "
    "and add another rule for each of the others"
)
PROMPT_RULE = (
    "the rule on argument {pointer} of a prompt needs exactly one of enum, prefix and pattern: write one of "
    "them, and add another rule for each of the others"
)
PATTERN_INVALID = (
    "{text} is not a pattern: write characters, ., [a-z], \\d or \\w, each with *, + or ? where it repeats; it "
    "matches the whole argument, so it has no anchors, and no groups"
)
PREFIX_CLIMBS = "{text} has a part . or .., which the guard denies in every argument: write the folder that it leads to"
INTERVAL_INVALID = "{text} is not an interval of verification: write a duration from 1m to 168h, such as 1h"
LOOP_WINDOW_INVALID = "{text} is not a window of loops: write a duration from 10s to 1h, such as 60s"
LATENCY_INVALID = "{text} is not a latency of a probe: write a duration from 1ms to 60s, such as 2s"
PROBE_TOOL_INVALID = (
    "{text} is not the name of one tool: write it as the server lists it, printable, without spaces, * and ?"
)
PROBE_ARGUMENTS = (
    "arguments is no JSON object of at most 32 members and 16 levels: write one as text, "
    """such as '{"id": "eu-1"}'"""
)
AGENTS_OR_SELECTOR = (
    "the row of dataAccess for source {source} needs exactly one of agents and agentSelector: "
    "write names of agents, or labels that they carry"
)
SELECTOR_EMPTY = "agentSelector.matchLabels is empty, which would match every agent: write at least one label"
LABELS_INVALID = (
    "agentSelector.matchLabels has a key or a value that is not valid in a label: write keys such as team or "
    "example.com/team, and values of letters, digits, dashes, underscores and dots"
)
EGRESS_AGENTS = (
    "egress {name} needs exactly one of agents and agentSelector: write names of agents, or labels that they carry"
)
EGRESS_PEER = (
    "a peer of egress needs exactly one of cidr and selectors: write a cidr, or namespaceSelector, podSelector or both"
)
CIDR_INVALID = "{text} is not a CIDR: write the first address and the length of the range, such as 10.20.0.0/24"
CIDR_CLOSED = (
    "{text} is in a range that is never opened, such as metadata services, link-local addresses and loopback: "
    "write a range that has other addresses"
)
CIDR_PUBLIC = (
    "egress {name} has a cidr with public addresses: write public: Allowed, or a range of private addresses "
    "such as 10.20.0.0/24"
)
EGRESS_PORTS = "endPort is less than port: write the last port of the range, or remove endPort"
EGRESS_PORT_RESERVED = (
    f"ports {FIRST_RESERVED_PORT} to {AUDIT_TELEMETRY_PORT} are those of guards and of the audit collector, "
    "which no egress opens: write ports without these"
)
PEER_SELECTOR_EMPTY = (
    "matchLabels of a peer is empty, which would open all pods: write at least one label, such as "
    "kubernetes.io/metadata.name for a namespace"
)
PEER_LABELS_INVALID = (
    "matchLabels of a peer has a key or a value that is not valid in a label: write keys such as app or "
    "example.com/app, and values of letters, digits, dashes, underscores and dots"
)
IDENTITY_AGENTS = (
    "cloudIdentity {name} needs exactly one of agents and agentSelector: write names of agents, or labels that they "
    "carry"
)
CLOUD_KEYS_INVALID = (
    "annotations of cloudIdentity has a key that no cloud's identity of pods reads from a ServiceAccount: write keys "
    "such as eks.amazonaws.com/role-arn, iam.gke.io/gcp-service-account or azure.workload.identity/client-id"
)
CLOUD_KEYS_MIXED = (
    "annotations of cloudIdentity must name the identity of one cloud: write exactly one of "
    "eks.amazonaws.com/role-arn, iam.gke.io/gcp-service-account and azure.workload.identity/client-id, and other keys "
    "of the same cloud alone"
)
IDENTITY_WITHHELD = (
    "cloudIdentity needs the feature CloudIdentity: write it into spec.podTemplate.allow, together with the features "
    "that templates may use"
)


def quoted(text: str) -> str:
    """Return `text` in the quotation marks that the sentences use."""
    return f'"{text}"'


def plain(template: str) -> str:
    """Return the sentence for values that cannot be shown in one line."""
    return re.sub(r"\{[a-z]+\}", "(of several lines)", template)


def format_message(template: str, **parts: str) -> str:
    """Return the sentence with its values, or without them when they hold a line break, as the API server does."""
    sentence = template.format(**parts)
    return plain(template) if "\n" in sentence else sentence
