"""Agents, AgentPolicies and MCPBindings as users apply them."""

from typing import Any

from tests.integration.operator.api import Json

API_VERSION = "interlock.dev/v1alpha1"
KILL_SWITCH = "interlock.dev/kill-switch"
KILL_SWITCH_BY = "interlock.dev/kill-switch-by"
POLICY = "support"
SOAK = "2s"

TOOLS: list[Json] = [
    {
        "name": "get_contact",
        "operation": "read",
        "resource": "contacts",
        "scope": [{"dimension": "region", "pointer": "/region"}],
    }
]


def policy(*agents: str, name: str = POLICY, isolation: str = "Shared") -> Json:
    """A policy that gives these agents the CRM, asks for soaks of no length and isolates alike everywhere."""
    row = {"agents": list(agents), "source": "crm", "read": ["contacts"], "write": ["tasks"]}
    rollout = {"minStaging": "0s", "minLimitedScope": "0s", "requireLimitedScope": False}
    environments = [{"name": one, "isolation": isolation} for one in ("development", "staging", "production")]
    spec = {"dataAccess": [row] if agents else [], "rollout": rollout, "environments": environments}
    return _object("AgentPolicy", name, spec)


def binding(name: str = "crm-sandbox", *environments: str) -> Json:
    """A binding that serves the source `crm`, in development and staging by default."""
    spec = {
        "source": "crm",
        "environments": list(environments) or ["development", "staging"],
        "server": {"stdio": {"image": "registry.example.com/crm:1.0", "command": ["crm-server"]}},
        "tools": TOOLS,
        "permissions": {"read": ["contacts"], "write": ["tasks"]},
    }
    return _object("MCPBinding", name, spec)


def agent(name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """An Agent in development that uses the source `crm`."""
    wanted = {
        "owner": {"name": "Ada Example", "email": "ada@example.com"},
        "purpose": "Sort incoming support tickets",
        "policyRef": {"name": POLICY},
        "bindings": [{"source": "crm"}],
        "files": [{"path": "prompts/system.md", "content": "Be kind."}],
        "template": {
            "image": "registry.example.com/agent:1.0",
            "env": [{"name": "GREETING", "value": "hello"}],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        },
    } | spec
    if "rollout" not in wanted:
        wanted.setdefault("environment", "development")
    manifest = _object("Agent", name, wanted)
    manifest["metadata"]["annotations"] = annotations or {}
    return manifest


def stages(soak: str = SOAK) -> Json:
    """A rollout from staging over one region to everywhere."""
    region = [{"dimension": "region", "values": ["eu-west"]}]
    return {
        "stages": [
            {"name": "staging", "environment": "staging", "minDuration": soak},
            {"name": "one-region", "environment": "production", "scope": region, "minDuration": soak},
            {"name": "everywhere", "environment": "production"},
        ]
    }


def _object(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
