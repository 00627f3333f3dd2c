"""Names that every part of Interlock spells alike: group, annotations, labels, field managers.

This module imports nothing of ours, so that the kill path can use it whatever state the rest is in.
"""

from typing import Final

GROUP = "interlock.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "interlock.dev/v1alpha1"
CATEGORY = "interlock"

AGENTS = "agents"
AGENT_POLICIES = "agentpolicies"
MCP_BINDINGS = "mcpbindings"

KILL_SWITCH = f"{GROUP}/kill-switch"
"""Annotation: any value other than `KILL_SWITCH_OFF` kills."""
KILL_SWITCH_BY = f"{GROUP}/kill-switch-by"
"""Annotation: who set the switch last; the API server stamps it where `manifests/admission-1.36` is installed."""
KILL_SWITCH_OFF = "off"
"""The only value that releases."""

NEEDS_REVIEW = f"{GROUP}/needs-review"
"""Annotation of an MCPBinding: while it is there, with whatever value, no agent gets the binding."""

ACCEPT_DRIFT = f"{GROUP}/accept-drift"
"""Annotation of an MCPBinding: the observed digest that is accepted."""

BINDING_LABEL = f"{GROUP}/binding"
AGENT_LABEL = f"{GROUP}/agent"
STAGE_LABEL = f"{GROUP}/stage"
REVISION_LABEL = f"{GROUP}/revision"
ISOLATION_LABEL = f"{GROUP}/isolation"
GUARD_LABEL = f"{GROUP}/guard"
"""On every pod that a guard runs in: the name of its agent."""

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

OPERATOR_NAMESPACE = "interlock-system"
