"""Good and bad values of the API: what the API server must admit, and what it must refuse with which words."""

import itertools
from typing import Any

from tests.integration.kubectl import AGENT, BINDING, POLICY, edited
from tests.integration.rollout_values import BAD_POLICY_ROLLOUTS, BAD_ROLLOUTS, GOOD_POLICY_ROLLOUTS, GOOD_ROLLOUTS
from tests.integration.task_values import BAD_TASKS, GOOD_TASKS, TASKS_OF_A_REGION

NO_NAME = "is not a name: write lower case letters, digits and dashes, such as crm or one-region"
NO_RESOURCE = (
    "is not a resource: write letters, digits and dashes, such as contacts; "
    "* for all of them is allowed in dataAccess[].read only"
)
NO_PATH = "is not a path of a file: write it relative and without .., such as prompts/system.md"
NO_VARIABLE = "is not an environment variable: write printable ASCII characters but =, such as LOG_LEVEL"
RESERVED = "is set by Interlock: choose a name that does not start with INTERLOCK_"
NO_POINTER = "is not a JSON pointer to an argument: write /region, or /filter/region (~0 is ~, ~1 is /)"
NO_LIMIT = "not a quantity above 0, which would be no limit at all: write 1 for CPU, or 128Mi for memory and disks"
NO_QUANTITY = "not a quantity: write 100m or 1 for CPU, 128Mi or 1Gi for memory"
NO_IMAGE = "is not an image: write it without spaces, such as registry.example.com/agent:1.0"
TOO_LARGE = "command, args and env hold more than 32768 characters together: move large values into a file or the image"
NO_PROMPT = "is not the name of a prompt: write it as the server lists it, printable and without spaces"
NO_URI = (
    "is not the URI of a resource: write it as the server lists it, such as crm://contacts/*, where * matches "
    "within one part and ** across parts, without braces and without a part that is . or .."
)
NO_PATTERN = (
    "is not a pattern: write characters, ., [a-z], \\d or \\w, each with *, + or ? where it repeats; "
    "it matches the whole argument, so it has no anchors, and no groups"
)
ONE_RULE = (
    "the rule on argument /path needs exactly one of enum, prefix, pattern and maximum: "
    "write one of them, and add another rule for each of the others"
)
TRAVERSAL = "has a part . or .., which the guard denies in every argument: write the folder that it leads to"
ONE_SUBJECT = (
    "the row of dataAccess for source crm needs exactly one of agents and agentSelector: "
    "write names of agents, or labels that they carry"
)
NO_LABELS = "agentSelector.matchLabels is empty, which would match every agent: write at least one label"
BAD_LABELS = (
    "agentSelector.matchLabels has a key or a value that is not valid in a label: "
    "write keys such as team or example.com/team, and values of letters, digits, dashes, underscores and dots"
)
TOO_FEW = "should have at least 1 items"


def agent(**edits: Any) -> dict[str, Any]:
    return edited(AGENT, **edits)


def staged(*stages: dict[str, Any]) -> dict[str, Any]:
    """An agent with these stages, wide enough for the default policy's admission where that is installed."""
    return agent(spec__environment=None, spec__rollout={"stages": list(stages)})


def stage(name: str, environment: str, *values: str, **more: Any) -> dict[str, Any]:
    scope = {"scope": [{"dimension": "region", "values": list(values)}]} if values else {}
    return {"name": name, "environment": environment, **scope, **more}


def binding(**edits: Any) -> dict[str, Any]:
    return edited(BINDING, **edits)


def tool(**edits: Any) -> dict[str, Any]:
    return binding(spec__tools=[{"name": "t", "operation": "read", "resource": "contacts", **edits}])


def rule(**edits: Any) -> dict[str, Any]:
    return tool(arguments=[{"pointer": "/path", **edits}])


def resource(**edits: Any) -> dict[str, Any]:
    return binding(spec__resources=[{"uri": "crm://contacts/*", "resource": "contacts", **edits}])


def prompt(**edits: Any) -> dict[str, Any]:
    return binding(spec__prompts=[{"name": "p", "resource": "contacts", **edits}])


def selecting(labels: dict[str, str] | None, **edits: Any) -> dict[str, Any]:
    return edited(
        POLICY,
        metadata__name="p2",
        spec__dataAccess=[{"agentSelector": {"matchLabels": labels}, "source": "crm", **edits}],
    )


def stdio(**edits: Any) -> dict[str, Any]:
    return binding(spec__server__stdio={"image": "i:1", "command": ["c"], **edits})


def server(**edits: Any) -> dict[str, Any]:
    return binding(spec__server={"http": {"url": "https://crm.example.com/mcp", **edits}})


def header(**edits: Any) -> dict[str, Any]:
    return server(headers=[{"name": "X", **edits}])


def row(**edits: Any) -> dict[str, Any]:
    return edited(POLICY, spec__dataAccess=[{"agents": ["a"], "source": "crm", **edits}])


def records(**edits: Any) -> dict[str, Any]:
    return edited(POLICY, metadata__name="records", spec__audit=edits)


PERSONS = [
    "ada@example.com",
    "Ada.Lovelace@Example.COM",
    "ada.support@example.com",
    "opsahl@example.com",
    "infosys.ada@example.com",
    "ada+agents@mail.example.co.uk",
    "o'brien@example.com",
    "steam@example.com",
    "teamer.ada@example.com",
    "allan@example.com",
    "no.reply@example.com",
]
ROLES = [
    *(f"{word}@example.com" for word in ("team", "teams", "support", "noreply", "no-reply", "donotreply", "info")),
    *(f"{word}@example.com" for word in ("admin", "administrator", "ops", "devops", "secops", "sre", "security")),
    *(f"{word}@example.com" for word in ("help", "helpdesk", "hello", "contact", "office", "root", "webmaster")),
    *(f"{word}@example.com" for word in ("postmaster", "abuse", "sales", "billing", "platform", "oncall", "all")),
    *(f"{word}@example.com" for word in ("list", "alerts", "service", "bot", "do-not-reply", "on-call")),
    "Support@example.com",
    "noreply+1@example.com",
    "security-team@example.com",
    "ada.team@example.com",
    "teams_emea@example.com",
    "platform.emea@example.com",
]
NO_ADDRESSES = ["ada", "ada@", "@example.com", "ada@example", "ada @example.com", "ada@exam ple.com", "ä@example.com"]
DURATIONS = ["168h", "1h30m", "90m", "0s", "500ms", "1h1m1s1ms", "99999h"]
NO_DURATIONS = ["7d", "-1h", "", "1.5h", "100000h", "h", "1h 30m", "1h1h1h1h1h", "P7D", "10"]

EU, EU_US = ("eu-west",), ("eu-west", "us-east")
ROLLOUTS_IN_ORDER = [
    [stage("a", "production")],
    [stage("a", "development"), stage("b", "production")],
    [stage("a", "development"), stage("b", "staging"), stage("c", "production", *EU), stage("d", "production")],
    [stage("a", "production", *EU), stage("b", "production", *EU), stage("c", "production", *EU_US)],
    [stage("a", "staging", *EU_US), stage("b", "production", *EU)],
]
ROLLOUTS_OUT_OF_ORDER = [
    [stage("a", "staging"), stage("b", "development")],
    [stage("a", "development"), stage("b", "production"), stage("c", "staging")],
    [stage("a", "production"), stage("b", "development")],
    [stage("a", "production"), stage("b", "production", *EU)],
    [stage("a", "production", *EU_US), stage("b", "production", *EU)],
    [stage("a", "production", *EU), stage("b", "production", "us-east")],
    [stage("a", "staging", *EU_US), stage("b", "staging", *EU), stage("c", "development")],
    [stage("a", "production", *EU), stage("b", "production", scope=[{"dimension": "product", "values": ["billing"]}])],
]

BOTH_ANSWER = [
    agent(),
    agent(spec__owner=None),
    agent(spec__owner={}),
    agent(spec__owner={"email": "ada@example.com"}),
    agent(spec__owner={"name": "  ", "email": "ada@example.com"}),
    agent(spec__owner={"name": "Ada"}),
    agent(spec__owner={"name": "Ada", "email": ""}),
    agent(spec__owner__email="ada\n@example.com"),
    agent(spec__purpose=None),
    agent(spec__purpose=""),
    agent(spec__purpose=" \t\n"),
    agent(spec__policyRef=None),
    agent(spec__environment=None),
    agent(spec__rollout={"stages": [stage("a", "staging")]}),
    agent(spec__owner=None, spec__purpose=None, spec__policyRef=None, spec__environment=None),
    *(agent(spec__owner__email=email) for email in (*PERSONS, *ROLES, *NO_ADDRESSES)),
    *(staged(stage("a", "development", minDuration=text)) for text in (*DURATIONS, *NO_DURATIONS)),
    *(staged(*stages) for stages in (*ROLLOUTS_IN_ORDER, *ROLLOUTS_OUT_OF_ORDER)),
    *(edited(staged(*ROLLOUTS_IN_ORDER[2]), spec__tasks=tasks) for tasks in TASKS_OF_A_REGION),
]


def long(limit: int) -> str:
    return f"Too long: may not be more than {limit} bytes"


def secret(**edits: Any) -> dict[str, Any]:
    reference = {"name": "s", "key": "k", **edits}
    return stdio(env=[{"name": "T", "valueFrom": {"secretKeyRef": reference}}])


SERVER_MISSING = (
    "spec.server needs exactly one of stdio and http: "
    "write image and command of a server to run, or the url of one that runs elsewhere"
)
BOTH_SERVERS = {"stdio": {"image": "i:1", "command": ["c"]}, "http": {"url": "https://crm.example.com/mcp"}}
NO_URL = "is not the URL of a server: write https://host/path, without user, password and fragment"
BAD_URLS = [
    *(
        "",
        "crm.example.com",
        "ftp://a.io/",
        "HTTPS://a.io/",
        "https://",
        "https:///mcp",
        "https://a..io/",
        "https://-a.io/",
    ),
    *("https://u@a.io/", "https://u:p@a.io/", "https://a.io@b.io/", "https://a.io/#f", "https://a.io\\@b.io/"),
    *(
        "https://a.io:0/",
        "https://a.io:65536/",
        "https://a.io:x/",
        "https://a.io /",
        "https://a.io/a b",
        "https://ä.io/",
    ),
    *("https://[::1]/", "https://a_b.io/", f"https://{'x' * 64}.io/", 'https://a.io/"x"', "https://a.io/{x}"),
]
CONFIG_MAP, SECRET = {"configMapKeyRef": {"name": "c", "key": "k"}}, {"secretKeyRef": {"name": "s", "key": "k"}}
CA_SOURCE = "caFrom needs exactly one of configMapKeyRef and secretKeyRef: write one of them"
BAD_SERVERS: list[tuple[dict[str, Any], str]] = [
    *(({"url": url}, f'"{url}" {NO_URL}') for url in BAD_URLS),
    ({"url": "https://a.io/\n"}, f"(of several lines) {NO_URL}"),
    (
        {"url": "http://a.io/"},
        "http:// is allowed with network: Private only, since credentials and data are not encrypted: write https://",
    ),
    ({"caFrom": {}}, CA_SOURCE),
    ({"caFrom": {**CONFIG_MAP, **SECRET}}, CA_SOURCE),
    (
        {"url": "http://a.io/", "network": "Private", "caFrom": SECRET},
        "caFrom is for https only: write an https:// url, or remove caFrom",
    ),
    (
        {"headers": [{"name": "X-Key", "value": "a"}, {"name": "x-key", "value": "b"}]},
        "headers: two names differ in upper and lower case at most: keep one of them",
    ),
]
OWN_HEADERS = ["Host", "content-length", "MCP-Protocol-Version", "mcp-session-id", "Accept", "Connection", "Proxy-X"]
BAD_HEADERS: list[tuple[dict[str, Any], str]] = [
    *(
        ({"name": name, "value": "x"}, f'"{name}" is not the name of an HTTP header: write letters, digits and dashes')
        for name in ("", "X Y", "X:", "Ä", "X(1)")
    ),
    *(({"name": name, "value": "x"}, f'"{name}" is reserved for MCP or for the connection') for name in OWN_HEADERS),
    ({}, "header X needs exactly one of value and valueFrom: write one of them"),
    ({"value": "x", "valueFrom": SECRET}, "header X needs exactly one of value and valueFrom: write one of them"),
    *(
        ({"value": value}, "not the value of an HTTP header: write printable ASCII")
        for value in ("", " x", "a\nb", "ä")
    ),
]

REFUSED: list[tuple[dict[str, Any], str]] = [
    # Of an Agent.
    (agent(spec__purpose="x" * 1025), "Too long: may not be more than 1024 bytes"),
    (agent(spec__owner__name="x" * 129), "Too long: may not be more than 128 bytes"),
    (agent(spec__owner__email="x" * 250 + "@a.io"), "Too long: may not be more than 254 bytes"),
    (agent(spec__policyRef={}), "spec.policyRef.name: Required value"),
    (agent(spec__policyRef__name=""), "should be at least 1 chars long"),
    (agent(spec__template=None), "spec.template: Required value"),
    (agent(spec__template={}), "spec.template.image: Required value"),
    (agent(spec__environment="Test"), f'"Test" {NO_NAME}'),
    (agent(spec__replicas=-1), "should be greater than or equal to 0"),
    (agent(spec__replicas=101), "should be less than or equal to 100"),
    *((agent(spec__tasks=value), message) for value, message in BAD_TASKS),
    (staged(), TOO_FEW),
    (staged(*(stage(f"s{i}", "development") for i in range(17))), "must have at most 16 items"),
    (staged(stage("a", "development"), stage("a", "staging")), 'Duplicate value: {"name":"a"}'),
    (staged({"name": "a"}), "environment: Required value"),
    (staged(stage("Staging", "staging")), f'"Staging" {NO_NAME}'),
    (staged(stage("a" * 64, "staging")), "Too long: may not be more than 63 bytes"),
    (staged(stage("a", "staging", scope=[])), TOO_FEW),
    (staged(stage("a", "staging", scope=[{"dimension": "region", "values": []}])), TOO_FEW),
    (staged(stage("a", "staging", scope=[{"dimension": "region"}])), "values: Required value"),
    (staged(stage("a", "staging", "")), "should be at least 1 chars long"),
    (staged(stage("a", "staging", "x" * 64)), "Too long: may not be more than 63 bytes"),
    (staged(stage("a", "staging", *(f"v{i}" for i in range(33)))), "must have at most 32 items"),
    (staged(stage("a", "staging", scope=[{"dimension": "re_gion", "values": ["x"]}])), f'"re_gion" {NO_NAME}'),
    (
        staged(stage("a", "staging", scope=[{"dimension": f"d{i}", "values": ["x"]} for i in range(9)])),
        "must have at most 8 items",
    ),
    (
        staged(stage("a", "staging", scope=[{"dimension": "d", "values": ["x"]}, {"dimension": "d", "values": ["y"]}])),
        'Duplicate value: {"dimension":"d"}',
    ),
    (agent(spec__bindings=[{}]), "source: Required value"),
    (agent(spec__bindings=[{"source": "CRM"}]), f'"CRM" {NO_NAME}'),
    (agent(spec__bindings=[{"source": "crm"}, {"source": "crm"}]), 'Duplicate value: {"source":"crm"}'),
    (agent(spec__bindings=[{"source": f"s{i}"} for i in range(33)]), "must have at most 32 items"),
    (agent(spec__bindings=[{"source": "crm", "permissions": {"read": ["*"]}}]), f'"*" {NO_RESOURCE}'),
    (agent(spec__bindings=[{"source": "crm", "permissions": {"read": [""]}}]), f'"" {NO_RESOURCE}'),
    (
        agent(spec__bindings=[{"source": "crm", "permissions": {"delete": [f"r{i}" for i in range(65)]}}]),
        "must have at most 64 items",
    ),
    *(
        (agent(spec__files=[{"path": path}]), f'"{path}" {NO_PATH}')
        for path in ("/etc/passwd", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "", "a b", "a\\b")
    ),
    (agent(spec__files=[{"path": "a"}, {"path": "a"}]), 'Duplicate value: {"path":"a"}'),
    (agent(spec__files=[{"path": "a/b"}, {"path": "a"}]), "a is both a file and a folder: rename one of them"),
    (agent(spec__files=[{"path": "a" * 256}]), "Too long: may not be more than 255 bytes"),
    (agent(spec__files=[{"path": "a", "content": "x" * 32769}]), "Too long: may not be more than 32768 bytes"),
    (agent(spec__files=[{"path": f"f{i}"} for i in range(33)]), "must have at most 32 items"),
    (
        agent(spec__files=[{"path": f"f{i}", "content": "x" * 32768} for i in range(3)]),
        "spec.files hold more than 65536 characters together: move large files into the image or behind a source",
    ),
    (agent(spec__template__image="a b"), f'"a b" {NO_IMAGE}'),
    (agent(spec__template__image=""), f'"" {NO_IMAGE}'),
    (agent(spec__template__image="a" * 513), "Too long: may not be more than 512 bytes"),
    (agent(spec__template__command=["x"] * 65), "must have at most 64 items"),
    (agent(spec__template__args=["x"] * 65), "must have at most 64 items"),
    (agent(spec__template__args=["x" * 4097]), "Too long: may not be more than 4096 bytes"),
    (agent(spec__template__args=["x" * 4096] * 9), TOO_LARGE),
    (agent(spec__template__env=[{"name": f"A{i}", "value": "x" * 4096} for i in range(9)]), TOO_LARGE),
    (stdio(command=["x" * 4096] * 9), TOO_LARGE),
    (agent(spec__template__command="agent --serve"), 'must be of type array: "string"'),
    (agent(spec__template__env=[{"name": "INTERLOCK_SCOPE", "value": "[]"}]), f'"INTERLOCK_SCOPE" {RESERVED}'),
    (agent(spec__template__env=[{"name": "LOG=LEVEL"}]), f'"LOG=LEVEL" {NO_VARIABLE}'),
    (agent(spec__template__env=[{"name": ""}]), f'"" {NO_VARIABLE}'),
    (agent(spec__template__env=[{"name": "A"}, {"name": "A"}]), 'Duplicate value: {"name":"A"}'),
    (agent(spec__template__env=[{"name": f"A{i}"} for i in range(65)]), "must have at most 64 items"),
    (agent(spec__template__env=[{"name": "A", "value": "x" * 4097}]), "Too long: may not be more than 4096 bytes"),
    *((agent(spec__template__resources={"limits": {"cpu": value}}), NO_LIMIT) for value in ("many", "-1", -1, "", 0)),
    (agent(spec__template__resources={"requests": {"memory": "1 Gi"}}), NO_QUANTITY),
    (agent(spec__template__resources={"requests": {"memory": True}}), 'Invalid value: "boolean"'),
    (
        agent(spec__template__resources={"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}),
        "limits are below requests: raise limits.cpu or lower requests.cpu",
    ),
    (
        agent(spec__template__resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
        "limits are below requests: raise limits.memory or lower requests.memory",
    ),
    # Of an AgentPolicy.
    (row(agents=[]), TOO_FEW),
    (row(agents=[f"a{i}" for i in range(65)]), "must have at most 64 items"),
    (row(agents=["*"]), f'"*" {NO_NAME}'),
    (row(agents=["a" * 53]), "Too long: may not be more than 52 bytes"),
    (row(source=None), "source: Required value"),
    (row(source="*"), f'"*" {NO_NAME}'),
    (row(write=["*"]), f'"*" {NO_RESOURCE}'),
    (row(delete=["*"]), f'"*" {NO_RESOURCE}'),
    (records(redact=["/email"]), "spec.audit.redact is set, but audit records hold only the digest"),
    (records(arguments="Digest", redact=["/email"]), "write arguments: Redacted, or remove redact"),
    (records(arguments="Redacted", redact=["email"]), f'"email" {NO_POINTER}'),
    (records(arguments="Redacted", redact=[f"/{i}" for i in range(33)]), "must have at most 32 items"),
    (records(arguments="Full"), 'supported values: "Digest", "Redacted"'),
    (row(read=["con tacts"]), f'"con tacts" {NO_RESOURCE}'),
    (row(read=["r" * 64]), "Too long: may not be more than 63 bytes"),
    (row(read=[f"r{i}" for i in range(65)]), "must have at most 64 items"),
    (edited(POLICY, spec__dataAccess=[{"agents": ["a"], "source": "s"}] * 257), "must have at most 256 items"),
    *((edited(POLICY, spec__rollout=value), message) for value, message in BAD_POLICY_ROLLOUTS),
    *((agent(spec__environment=None, spec__rollout=value), message) for value, message in BAD_ROLLOUTS),
    (staged(stage("a", "staging", approval="Optional")), 'supported values: "Required"'),
    (edited(POLICY, spec=None), "spec: Required value"),
    # Of an MCPBinding.
    (binding(spec__source=None), "spec.source: Required value"),
    (binding(spec__source="C"), f'"C" {NO_NAME}'),
    (binding(spec__environments=None), "spec.environments: Required value"),
    (binding(spec__environments=[]), TOO_FEW),
    (binding(spec__environments=["Prod"]), f'"Prod" {NO_NAME}'),
    (binding(spec__environments=["staging"] * 17), "must have at most 16 items"),
    (binding(spec__server=None), "spec.server: Required value"),
    *((binding(spec__server=both), SERVER_MISSING) for both in ({}, BOTH_SERVERS)),
    *((server(**edits), message) for edits, message in BAD_SERVERS),
    *((header(**edits), message) for edits, message in BAD_HEADERS),
    (server(url=None), "url: Required value"),
    (server(url="https://a.io/" + "x" * 1012), "Too long: may not be more than 1024 bytes"),
    (server(network="Any"), 'supported values: "Public", "Private"'),
    (server(headers=[{"name": f"X{i}", "value": "x"} for i in range(17)]), "must have at most 16 items"),
    (server(headers=[{"name": "X", "value": "x"}] * 2), 'Duplicate value: {"name":"X"}'),
    (header(name=None, value="x"), "name: Required value"),
    (header(name="X" * 129, value="x"), "Too long: may not be more than 128 bytes"),
    (header(value="x" * 4097), "Too long: may not be more than 4096 bytes"),
    (header(valueFrom={}), "secretKeyRef: Required value"),
    *(
        (build(reference), message)
        for build, (reference, message) in itertools.product(
            (
                lambda reference: header(valueFrom={"secretKeyRef": reference}),
                lambda reference: server(caFrom={"secretKeyRef": reference}),
                lambda reference: server(caFrom={"configMapKeyRef": reference}),
            ),
            (
                ({"key": "k"}, "name: Required value"),
                ({"name": "s"}, "key: Required value"),
                ({"name": "", "key": "k"}, "should be at least 1 chars long"),
                ({"name": "s", "key": ""}, "should be at least 1 chars long"),
                ({"name": "s" * 254, "key": "k"}, "Too long: may not be more than 253 bytes"),
                ({"name": "s", "key": "k" * 254}, "Too long: may not be more than 253 bytes"),
            ),
        )
    ),
    (stdio(image="a b"), f'"a b" {NO_IMAGE}'),
    (stdio(command=[]), TOO_FEW),
    (stdio(command=None), "command: Required value"),
    (stdio(command=["x"] * 65), "must have at most 64 items"),
    (stdio(args=["x"] * 65), "must have at most 64 items"),
    (stdio(env=[{"name": "INTERLOCK_AGENT", "value": "x"}]), f'"INTERLOCK_AGENT" {RESERVED}'),
    (
        stdio(env=[{"name": "TOKEN"}]),
        "environment variable TOKEN needs exactly one of value and valueFrom: write one of them",
    ),
    (
        stdio(env=[{"name": "TOKEN", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "environment variable TOKEN needs exactly one of value and valueFrom: write one of them",
    ),
    (stdio(env=[{"name": "T", "valueFrom": {}}]), "needs exactly one of secretKeyRef, configMapKeyRef and fieldRef"),
    (stdio(env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s"}}}]), "key: Required value"),
    (stdio(resources={"limits": {"cpu": "x"}}), NO_LIMIT),
    (tool(name=None), "name: Required value"),
    (tool(name="get contact"), '"get contact" is not the name of a tool: write it as the server lists it'),
    (tool(name="t" * 129), "Too long: may not be more than 128 bytes"),
    (tool(operation="execute"), 'supported values: "read", "write", "delete"'),
    (tool(resource="*"), f'"*" {NO_RESOURCE}'),
    (tool(scope=[{"dimension": "region"}]), "dimension region needs exactly one of pointer and unscoped: write /name"),
    (
        tool(scope=[{"dimension": "region", "pointer": "/region", "unscoped": "Allowed"}]),
        "dimension region needs exactly one of pointer and unscoped: write /name-of-the-argument, or Allowed",
    ),
    (tool(scope=[{"dimension": "r", "unscoped": "Allowed", "inject": True}]), "dimension r: inject needs a pointer"),
    (tool(scope=[{"dimension": "region", "unscoped": "Denied"}]), 'supported values: "Allowed"'),
    *(
        (tool(scope=[{"dimension": "region", "pointer": pointer}]), f'"{pointer}" {NO_POINTER}')
        for pointer in ("", "region", "$.region", "/a~2", "/a~")
    ),
    (
        tool(scope=[{"dimension": "r", "pointer": "/a"}, {"dimension": "r", "pointer": "/b"}]),
        'Duplicate value: {"dimension":"r"}',
    ),
    (tool(scope=[{"dimension": f"d{i}", "pointer": "/a"} for i in range(9)]), "must have at most 8 items"),
    (
        binding(spec__tools=[{"name": "t", "operation": "read", "resource": "r"}] * 2),
        'Duplicate value: {"name":"t"}',
    ),
    (
        binding(spec__tools=[{"name": f"t{i}", "operation": "read", "resource": "r"} for i in range(257)]),
        "must have at most 256 items",
    ),
    (binding(spec__permissions={"read": ["*"]}), f'"*" {NO_RESOURCE}'),
    (agent(spec__policyRef__name="p" * 254), long(253)),
    (agent(spec__rollout={}, spec__environment=None), "spec.rollout.stages: Required value"),
    (agent(spec__bindings=[{"source": "s" * 64}]), long(63)),
    *(
        (agent(spec__bindings=[{"source": "crm", "permissions": {operation: values}}]), message)
        for operation, (values, message) in itertools.product(
            ("read", "write", "delete"),
            ((["a b"], f'"a b" {NO_RESOURCE}'), (["r"] * 65, "must have at most 64 items"), (["r" * 64], long(63))),
        )
    ),
    (agent(spec__template__command=["x" * 4097]), long(4096)),
    (agent(spec__template__env=[{"name": "A" * 257}]), long(256)),
    *(
        (build(resources={kind: {name: value}}), message or no_amount)
        for build, (kind, no_amount), name, (value, message) in itertools.product(
            (lambda resources: agent(spec__template__resources=resources), stdio),
            (("requests", NO_QUANTITY), ("limits", NO_LIMIT)),
            ("cpu", "memory"),
            (("x", ""), ("1" * 33, long(32))),
        )
    ),
    *(
        (
            stdio(resources={"requests": {name: 2}, "limits": {name: 1}}),
            f"limits are below requests: raise limits.{name} or lower requests.{name}",
        )
        for name in ("cpu", "memory")
    ),
    *((row(write=values), message) for values, message in ((["r"] * 65, "at most 64 items"), (["r" * 64], long(63)))),
    *((row(delete=values), message) for values, message in ((["r"] * 65, "at most 64 items"), (["r" * 64], long(63)))),
    (row(source="s" * 64), long(63)),
    (edited(POLICY, spec__rollout={"minStaging": "0" * 33}), long(32)),
    (edited(POLICY, spec__rollout={"minLimitedScope": "0" * 33}), long(32)),
    (staged(stage("a", "staging", minDuration="0" * 33)), long(32)),
    (staged(stage("a", "staging", scope=[{"values": ["x"]}])), "dimension: Required value"),
    (staged(stage("a", "staging", scope=[{"dimension": "d" * 64, "values": ["x"]}])), long(63)),
    (binding(spec__source="s" * 64), long(63)),
    (stdio(image=None), "image: Required value"),
    (stdio(image="i" * 513), long(512)),
    (stdio(command=["x" * 4097]), long(4096)),
    (stdio(args=["x" * 4097]), long(4096)),
    (stdio(env=[{"name": f"A{i}", "value": ""} for i in range(65)]), "must have at most 64 items"),
    (stdio(env=[{"name": "A", "value": ""}] * 2), 'Duplicate value: {"name":"A"}'),
    (stdio(env=[{"name": "A=B", "value": ""}]), f'"A=B" {NO_VARIABLE}'),
    (stdio(env=[{"name": "A" * 257, "value": ""}]), long(256)),
    (stdio(env=[{"name": "A", "value": "x" * 4097}]), long(4096)),
    (secret(name=None), "name: Required value"),
    (secret(name=""), "should be at least 1 chars long"),
    (secret(name="s" * 254), long(253)),
    (secret(key=""), "should be at least 1 chars long"),
    (secret(key="k" * 254), long(253)),
    (tool(operation=None), "operation: Required value"),
    (tool(resource=None), "resource: Required value"),
    (tool(resource="r" * 64), long(63)),
    (tool(scope=[{"pointer": "/a"}]), "dimension: Required value"),
    (tool(scope=[{"dimension": "D", "pointer": "/a"}]), f'"D" {NO_NAME}'),
    (tool(scope=[{"dimension": "d" * 64, "pointer": "/a"}]), long(63)),
    (tool(scope=[{"dimension": "d", "pointer": "/" + "a" * 256}]), long(256)),
    *(
        (binding(spec__permissions={operation: values}), message)
        for operation, (values, message) in itertools.product(
            ("read", "write", "delete"),
            ((["a b"], f'"a b" {NO_RESOURCE}'), (["r"] * 65, "must have at most 64 items"), (["r" * 64], long(63))),
        )
    ),
    # Rows by label.
    (row(agents=None), ONE_SUBJECT),
    (selecting({"team": "support"}, agents=["a"]), ONE_SUBJECT),
    (selecting({}), NO_LABELS),
    (selecting(None), "matchLabels: Required value"),
    (selecting({f"l{i}": "x" for i in range(9)}), "must have at most 8 items"),
    *(
        (selecting({key: value}), BAD_LABELS)
        for key, value in (("", "x"), ("a b", "x"), ("A/b", "x"), ("a", "b c"), ("a", "-"), ("a/b/c", "x"), ("-a", "x"))
    ),
    (selecting({"k" * 318: "x"}), BAD_LABELS),
    (selecting({"a": "x" * 64}), long(63)),
    # Rules on arguments.
    (rule(), ONE_RULE),
    (rule(prefix="/data/", maximum=1), ONE_RULE),
    (rule(enum=["a"], pattern="a"), ONE_RULE),
    (rule(enum=[]), TOO_FEW),
    (rule(enum=[""]), "should be at least 1 chars long"),
    (rule(enum=["x" * 257]), long(256)),
    (rule(enum=["x"] * 65), "must have at most 64 items"),
    (rule(pointer=None, maximum=1), "pointer: Required value"),
    (rule(pointer="path", maximum=1), f'"path" {NO_POINTER}'),
    (rule(pointer="/" + "a" * 256, maximum=1), long(256)),
    (rule(prefix=""), "should be at least 1 chars long"),
    (rule(prefix="x" * 257), long(256)),
    *(
        (rule(prefix=text), f'"{text}" {TRAVERSAL}')
        for text in ("..", "/data/../x", "/data/.", "./x", "C:..", "/a/..;/b")
    ),
    *(
        (rule(pattern=text), f'"{text}" {NO_PATTERN}')
        for text in ("", "(a)", "a|b", "^a", "a$", "a**", "a{100}", "[]", "\\s", "(a+)+", "ä", "[a-z")
    ),
    (rule(pattern="a" * 257), long(256)),
    (rule(maximum=-1), "should be greater than or equal to 0"),
    (rule(maximum=2**53), "should be less than or equal to 9007199254740991"),
    (rule(maximum="5"), 'must be of type integer: "string"'),
    (tool(arguments=[{"pointer": "/a", "maximum": 1}] * 9), "must have at most 8 items"),
    # Resources, prompts, what servers ask, limits.
    (resource(uri=None), "uri: Required value"),
    *(
        (resource(uri=text), f'"{text}" {NO_URI}')
        for text in ("", "contacts", "*", "crm://a b", "crm://{id}", "file:///data/../etc", "file:///.", "c:..", "ä:x")
    ),
    (resource(uri="crm:" + "x" * 253), long(256)),
    (resource(resource=None), "resource: Required value"),
    (resource(resource="*"), f'"*" {NO_RESOURCE}'),
    (resource(resource="r" * 64), long(63)),
    (resource(operation="execute"), 'supported values: "read", "write", "delete"'),
    (
        resource(scope=[{"dimension": "region"}]),
        "dimension region needs exactly one of values and unscoped: write the values that the resource belongs to, or",
    ),
    (resource(scope=[{"dimension": "region", "values": ["eu"], "unscoped": "Allowed"}]), "exactly one of values and"),
    (resource(scope=[{"dimension": "region", "unscoped": "Denied"}]), 'supported values: "Allowed"'),
    (resource(scope=[{"dimension": "region", "values": []}]), TOO_FEW),
    (resource(scope=[{"dimension": "region", "values": ["x"] * 33}]), "must have at most 32 items"),
    (resource(scope=[{"dimension": "region", "values": [""]}]), "should be at least 1 chars long"),
    (resource(scope=[{"dimension": "region", "values": ["x" * 64]}]), long(63)),
    (resource(scope=[{"values": ["x"]}]), "dimension: Required value"),
    (resource(scope=[{"dimension": "D", "values": ["x"]}]), f'"D" {NO_NAME}'),
    (resource(scope=[{"dimension": "d" * 64, "values": ["x"]}]), long(63)),
    (
        resource(scope=[{"dimension": "r", "values": ["x"]}, {"dimension": "r", "values": ["y"]}]),
        'Duplicate value: {"dimension":"r"}',
    ),
    (resource(scope=[{"dimension": f"d{i}", "values": ["x"]} for i in range(9)]), "must have at most 8 items"),
    (
        binding(spec__resources=[{"uri": "crm://a", "resource": "r"}] * 2),
        'Duplicate value: {"uri":"crm://a"}',
    ),
    (
        binding(spec__resources=[{"uri": f"crm://{i}", "resource": "r"} for i in range(129)]),
        "must have at most 128 items",
    ),
    (prompt(name=None), "name: Required value"),
    (prompt(name="a b"), f'"a b" {NO_PROMPT}'),
    (prompt(name="p" * 129), long(128)),
    (prompt(resource=None), "resource: Required value"),
    (prompt(resource="*"), f'"*" {NO_RESOURCE}'),
    (prompt(resource="r" * 64), long(63)),
    (prompt(operation="execute"), 'supported values: "read", "write", "delete"'),
    *(
        (
            prompt(arguments=[{"pointer": "/path", **kinds}]),
            "the rule on argument /path of a prompt needs exactly one of enum, prefix and pattern: ",
        )
        for kinds in ({}, {"enum": ["a"], "prefix": "a"}, {"maximum": 1})
    ),
    (prompt(arguments=[{"pointer": "/a", "prefix": "a"}] * 9), "must have at most 8 items"),
    (prompt(arguments=[{"pointer": "/path", "pattern": "("}]), f'"(" {NO_PATTERN}'),
    (prompt(scope=[{"dimension": "region"}]), "dimension region needs exactly one of pointer and unscoped"),
    (prompt(scope=[{"dimension": f"d{i}", "pointer": "/a"} for i in range(9)]), "must have at most 8 items"),
    (binding(spec__prompts=[{"name": "p", "resource": "r"}] * 2), 'Duplicate value: {"name":"p"}'),
    (
        binding(spec__prompts=[{"name": f"p{i}", "resource": "r"} for i in range(65)]),
        "must have at most 64 items",
    ),
    (binding(spec__serverRequests=["sampling"]), 'supported values: "Sampling", "Elicitation", "Roots"'),
    (binding(spec__serverRequests=["Roots"] * 4), "must have at most 3 items"),
    (binding(spec__limits={"requestBytes": 1023}), "should be greater than or equal to 1024"),
    (binding(spec__limits={"requestBytes": 4194305}), "should be less than or equal to 4194304"),
    (binding(spec__limits={"resultBytes": 1023}), "should be greater than or equal to 1024"),
    (binding(spec__limits={"resultBytes": 16777217}), "should be less than or equal to 16777216"),
    (binding(spec__limits={"inFlight": 0}), "should be greater than or equal to 1"),
    (binding(spec__limits={"inFlight": 257}), "should be less than or equal to 256"),
]


def without_absent(manifest: Any) -> Any:
    """Take the fields away that a case set to None."""
    if isinstance(manifest, dict):
        return {key: without_absent(value) for key, value in manifest.items() if value is not None}
    if isinstance(manifest, list):
        return [without_absent(value) for value in manifest]
    return manifest


GOOD = [
    agent(metadata__name="a"),
    agent(spec__bindings=[]),
    agent(
        spec__bindings=[{"source": "crm", "permissions": {"read": ["Contact__c", "a/b.c"], "write": [], "delete": []}}]
    ),
    agent(spec__replicas=0),
    agent(spec__replicas=100),
    *(agent(spec__tasks=value) for value in GOOD_TASKS),
    agent(spec__purpose="ä" * 1024),
    agent(spec__files=[{"path": "prompts/system.md", "content": "Be kind.\n"}, {"path": ".env..x"}, {"path": "p2"}]),
    agent(spec__files=[{"path": f"f{i}", "content": "x" * 32768} for i in range(2)]),
    agent(spec__template__args=["x" * 4096] * 8),
    agent(spec__template__env=[{"name": "_LOG", "value": ""}, {"name": "MY_INTERLOCK_X", "value": "1"}]),
    agent(spec__template__resources={"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"cpu": "1500m"}}),
    edited(POLICY, metadata__name="p2", spec__dataAccess=[]),
    *(records(arguments="Redacted", redact=["/customer/email", "/a~1b"]), records(arguments="Redacted"), records()),
    edited(POLICY, metadata__name="p2", spec={}),
    edited(POLICY, metadata__name="p2", spec__rollout={"minStaging": "0s", "requireLimitedScope": False}),
    edited(POLICY, metadata__name="p2", spec__rollout={"requireApproval": ["staging"], "maxConcurrent": 5}),
    *(edited(POLICY, metadata__name="p2", spec__rollout=value) for value in GOOD_POLICY_ROLLOUTS),
    *(agent(spec__environment=None, spec__rollout=value) for value in GOOD_ROLLOUTS),
    staged(stage("a", "staging", approval="Required")),
    edited(
        POLICY,
        metadata__name="p2",
        spec__dataAccess=[{"agents": ["a"], "source": "s", "read": ["r"] * 64, "write": ["w"], "delete": ["d"]}] * 256,
    ),
    *(binding(spec__tools=[], spec__permissions=None), server()),
    server(
        network="Private",
        caFrom=CONFIG_MAP,
        headers=[{"name": f"X-{i}", "value": "v" * 4096} for i in range(15)]
        + [{"name": "Authorization", "valueFrom": SECRET}],
    ),
    server(url="https://crm.example.com:65535/v1/mcp?tenant=blue%20sky&x[0]=1", caFrom=SECRET),
    server(url="http://crm.agents.svc.cluster.local:8080/mcp", network="Private"),
    stdio(env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "U", "value": ""}]),
    tool(scope=[{"dimension": "region", "pointer": "/filter/a~1b~0"}, {"dimension": "product", "unscoped": "Allowed"}]),
    selecting({"team": "support", "example.com/tier": "", "A_b.c": "1-2"}),
    edited(
        POLICY,
        metadata__name="p2",
        spec__dataAccess=[
            {"agentSelector": {"matchLabels": {f"{'a' * 250}.x/l{i}": "v" * 63 for i in range(8)}}, "source": "s"}
        ]
        * 256,
    ),
    tool(name="get_*", arguments=[{"pointer": "/path", "prefix": "/data/"}, {"pointer": "/n", "maximum": 0}]),
    rule(pattern="[a-z0-9_.]+@example\\.com"),
    rule(pattern="\\d{4}-\\d{2}[^/]*.?\\w{2,5}x{3,}\\[\\]"),
    rule(enum=["a b", "ä"]),
    rule(maximum=9007199254740991),
    resource(uri="crm://contacts/*?q=*", operation="write", scope=[{"dimension": "region", "values": ["eu-west"]}]),
    resource(uri="file:///data/**", scope=[{"dimension": "region", "unscoped": "Allowed"}]),
    resource(uri="urn:x:a%20b"),
    prompt(name="*", operation="read", scope=[{"dimension": "region", "pointer": "/region"}]),
    binding(spec__serverRequests=["Sampling", "Elicitation", "Roots"]),
    binding(spec__limits={"requestBytes": 1024, "resultBytes": 16777216, "inFlight": 256}),
    binding(
        spec__tools=[
            {
                "name": f"t{i:03}{'x' * 124}",
                "operation": "read",
                "resource": "r",
                "arguments": [{"pointer": "/" + "a" * 255, "pattern": "a" * 256}] * 8,
            }
            for i in range(256)
        ],
    ),
]
