"""Every Prometheus series of the operator, declared in one place. No label takes a value that users write."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("interlock_reconciles_total", "Looks at an agent, by result.", ["result"])
RECONCILE_SECONDS = Histogram(
    "interlock_reconcile_seconds",
    "Seconds from taking up an agent to having written its status.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
QUEUED = Gauge("interlock_queued_agents", "Agents that wait to be looked at.")
POLICIES_QUEUED = Gauge("interlock_queued_policies", "AgentPolicies whose access table waits to be looked at.")
BINDINGS_QUEUED = Gauge("interlock_queued_bindings", "MCPBindings whose verification waits to be looked at.")
VERIFICATIONS = Counter("interlock_verifications_total", "Verifications of servers that came to an end.", ["result"])
AGENTS = Gauge("interlock_agents", "Agents known.")
AGENTS_KILLED = Gauge("interlock_agents_killed", "Agents whose kill switch is engaged.")
API_REQUESTS = Counter("interlock_api_requests_total", "Requests to the API server.", ["method", "code"])
API_SECONDS = Histogram(
    "interlock_api_request_seconds",
    "Seconds that a request to the API server took.",
    ["method"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
KILLS = Counter("interlock_kills_total", "Kill switches seen engaged.")
KILL_SECONDS = Histogram(
    "interlock_kill_zero_pods_seconds",
    "Seconds from seeing a kill switch engaged until no pod of the agent was left.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60),
)
