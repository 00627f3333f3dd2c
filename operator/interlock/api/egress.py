"""The ways out that a policy opens past the guard: `AgentPolicy.spec.egress`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.agent_selector import AgentSelector, agents_or_selector, match_labels_field, selects
from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.messages import (
    CIDR_CLOSED,
    CIDR_INVALID,
    CIDR_PUBLIC,
    EGRESS_AGENTS,
    EGRESS_PEER,
    EGRESS_PORT_RESERVED,
    EGRESS_PORTS,
    PEER_LABELS_INVALID,
    PEER_SELECTOR_EMPTY,
    format_message,
    plain,
    quoted,
)
from interlock.api.shared_types import ApiModel, ObjectMeta
from interlock.api.text import AgentName, EnvironmentName, LabelValue, Name, text_rule
from interlock_contract.addresses import NEVER_OPENED, PRIVATE_RANGES, has_public, never_opened, parse_cidr
from interlock_contract.pod import AUDIT_TELEMETRY_PORT, FIRST_RESERVED_PORT

MAX_EGRESS = 32
"""Rows of one policy."""
MAX_PEERS = 16
"""Peers of one row."""
MAX_PORTS = 16
"""Ports of one row."""


def _check_cidr(text: str) -> str:
    parsed = parse_cidr(text)
    if parsed is None:
        raise ValueError(format_message(CIDR_INVALID, text=quoted(text)))
    if never_opened(parsed) is not None:
        raise ValueError(format_message(CIDR_CLOSED, text=quoted(text)))
    return text


_IS_CLOSED = f"{list(NEVER_OPENED)}.exists(c, cidr(c).containsCIDR(self))"
_IS_PRIVATE = f"{list(PRIVATE_RANGES)}.exists(c, cidr(c).containsCIDR(p.cidr))"
# In each rule a CIDR that cannot be read counts as right, so that the rule about CIDRs alone refuses it.
Cidr = Annotated[
    str,
    Field(
        max_length=43,
        json_schema_extra=kube(
            text_rule("isCIDR(self) && cidr(self) == cidr(self).masked()", CIDR_INVALID),
            text_rule(f"!isCIDR(self) || !{_IS_CLOSED}", CIDR_CLOSED),
        ),
    ),
    AfterValidator(_check_cidr),
]
"""A range of addresses, IPv4 or IPv6."""


class PeerSelector(ApiModel):
    """Selects pods or namespaces by their labels."""

    match_labels: dict[str, LabelValue] = match_labels_field(empty=PEER_SELECTOR_EMPTY, invalid=PEER_LABELS_INVALID)
    """Labels that a pod or namespace must carry, all of them with these very values; at least one."""


class EgressPeer(ApiModel):
    """A peer: a range of addresses outside of the cluster, or pods. Exactly one of both."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.cidr) != (has(self.namespaceSelector) || has(self.podSelector))",
                message=EGRESS_PEER,
            )
        )
    )

    cidr: Cidr | None = None
    """Addresses, such as 10.20.0.0/24. Metadata services, link-local addresses, nodes, the pods of nodes and the API
    server are always left out."""

    namespace_selector: PeerSelector | None = None
    """Labels of the pods' namespaces; absent for the agents' own namespace."""

    pod_selector: PeerSelector | None = None
    """Labels of the pods; absent for all pods of the namespaces. Pods of Interlock are always left out."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.cidr is not None) == (self.namespace_selector is not None or self.pod_selector is not None):
            raise ValueError(EGRESS_PEER)
        selectors = (self.namespace_selector, self.pod_selector)
        if any(selector is not None and not selector.match_labels for selector in selectors):
            raise ValueError(PEER_SELECTOR_EMPTY)
        return self

    @property
    def is_public(self) -> bool:
        """True if it has public addresses."""
        parsed = parse_cidr(self.cidr) if self.cidr is not None else None
        return parsed is not None and has_public(parsed)


class EgressPort(ApiModel):
    """A port, or a range of ports."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(rule="!has(self.endPort) || self.endPort >= self.port", message=EGRESS_PORTS, field_path=".endPort"),
            Rule(
                rule=f"self.port > {AUDIT_TELEMETRY_PORT}"
                f" || (has(self.endPort) ? self.endPort : self.port) < {FIRST_RESERVED_PORT}",
                message=EGRESS_PORT_RESERVED,
                field_path=".port",
            ),
        )
    )

    port: int = Field(ge=1, le=65535, json_schema_extra=kube(format="int32"))
    """The port at which the peer listens. For a Service this is the port of its pods."""

    end_port: int | None = Field(default=None, ge=1, le=65535, json_schema_extra=kube(format="int32"))
    """The last port of a range that begins with port; absent for port alone."""

    protocol: Literal["TCP", "UDP"] = Field(default="TCP", json_schema_extra=kube(default="TCP"))
    """The protocol."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.last < self.port:
            raise ValueError(EGRESS_PORTS)
        if self.port <= AUDIT_TELEMETRY_PORT and self.last >= FIRST_RESERVED_PORT:
            raise ValueError(EGRESS_PORT_RESERVED)
        return self

    @property
    def last(self) -> int:
        """The last port."""
        return self.port if self.end_port is None else self.end_port


_HAS_PUBLIC = f"self.to.exists(p, has(p.cidr) && isCIDR(p.cidr) && !{_IS_PRIVATE})"


class EgressRow(ApiModel):
    """A way out past the guard. What goes there is neither metered nor recorded.

    Exactly one of agents and agentSelector is set. It holds in isolation Separate alone.
    """

    model_config = ConfigDict(
        json_schema_extra=kube(
            agents_or_selector(EGRESS_AGENTS, name="self.name"),
            Rule(
                rule=f"has(self.public) || !{_HAS_PUBLIC}",
                message=plain(CIDR_PUBLIC),
                message_expression=cel_sentence(CIDR_PUBLIC, name="self.name"),
                field_path=".to",
            ),
        ),
    )

    name: Name
    """Name of the row, unique in the policy; the Agent's status shows it."""

    agents: tuple[AgentName, ...] | None = Field(default=None, min_length=1, max_length=64)
    """Names of the Agents that the row applies to."""

    agent_selector: AgentSelector | None = None
    """Labels of the Agents that the row applies to. Anyone who can label an Agent can open the row for it."""

    servers: tuple[Name, ...] = Field(default=(), max_length=32)
    """Sources whose stdio servers may go there, in place of the agents themselves. All servers of an agent share a pod,
    so what one of them may reach all of them may reach."""

    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=16)
    """Environments in which the row applies; absent for all."""

    to: tuple[EgressPeer, ...] = Field(min_length=1, max_length=MAX_PEERS)
    """Where connections may go."""

    ports: tuple[EgressPort, ...] = Field(min_length=1, max_length=MAX_PORTS)
    """The ports of all peers of the row. They are required, so that no row opens all ports unasked."""

    public: Literal["Allowed"] | None = None
    """Allowed: cidr may have public addresses. Without it, a cidr with any is refused."""

    dns: Literal["Allowed"] | None = None
    """Allowed: the cluster's DNS is open, too. Names that are looked up can carry data out of the cluster."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.public is None and any(peer.is_public for peer in self.to):
            raise ValueError(format_message(CIDR_PUBLIC, name=self.name))
        return self

    def applies_to(self, agent: ObjectMeta) -> bool:
        """Return True if the row applies to this Agent. A row with both names and labels applies to none."""
        return selects(self.agents, self.agent_selector, agent)
