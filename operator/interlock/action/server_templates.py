"""Whether stdio servers are as the agent's policy allows, and fit into one pod with the agent and with each other."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from interlock.api.agent import Agent, Stage
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import Refusal
from interlock.api.status import AgentReason
from interlock.api.stdio_server import StdioServer
from interlock.api.template_messages import NODE_SELECTOR_CONTRADICTS, USER_TWICE
from interlock.governance.pod_features import digest_refusals, id_refusals, server_refusals


class NamedServer(NamedTuple):
    """A stdio server of the agent.

    Attributes:
        place: Where it is defined.
        stdio: The server.
    """

    place: str
    stdio: StdioServer


def check_servers(
    agent: Agent, policy: AgentPolicy, stage: Stage, servers: Iterable[NamedServer], reserved_ids: frozenset[int]
) -> Refusal | None:
    """Return why the stdio servers of one stage may not run, or None.

    Args:
        agent: The Agent.
        policy: Its policy.
        stage: The stage.
        servers: The stdio servers of the agent's sources in this stage.
        reserved_ids: The users and groups of Interlock's containers in its namespace.
    """
    found, name, rules = tuple(servers), policy.metadata.name, policy.spec.pod_template
    withheld = [text for one in found for text in server_refusals(one.place, one.stdio, name, rules)]
    withheld += id_refusals("spec.template", agent.spec.template.security_context, reserved_ids)
    withheld += [text for one in found for text in id_refusals(one.place, one.stdio.security_context, reserved_ids)]
    withheld += [*_contradictions(agent, stage, found), *_equal_users(agent, stage, found)]
    if withheld:
        return Refusal(AgentReason.TEMPLATE_NOT_ALLOWED, "; ".join(withheld))
    undigested = digest_refusals({f"{one.place}.image": one.stdio.image for one in found}, name, rules)
    return Refusal(AgentReason.DIGEST_REQUIRED, "; ".join(undigested)) if undigested else None


def _contradictions(agent: Agent, stage: Stage, servers: tuple[NamedServer, ...]) -> Iterator[str]:
    """Yield which node selectors contradict each other. All of them hold for the guard's pod."""
    known = {key: (value, "spec.template.nodeSelector") for key, value in agent.spec.template.node_selector.items()}
    for server in servers:
        for key, value in server.stdio.node_selector.items():
            other, where = known.setdefault(key, (value, f"{server.place}.nodeSelector"))
            if other != value:
                yield NODE_SELECTOR_CONTRADICTS.format(
                    field=f"stage {stage.name}: {server.place}.nodeSelector",
                    key=key,
                    value=value,
                    other=f"{key}={other}",
                    where=f"in {where}",
                )


def _equal_users(agent: Agent, stage: Stage, servers: tuple[NamedServer, ...]) -> Iterator[str]:
    """Yield which two of agent and servers have the same user. It could read the files and memory of the other one."""
    own = agent.spec.template.security_context
    stated = [("spec.template", own.run_as_user)] if own is not None and own.run_as_user is not None else []
    stated += [(one.place, one.stdio.security_context.run_as_user) for one in servers if one.stdio.security_context]
    known: dict[int, str] = {}
    for place, user in stated:
        first = known.setdefault(user, place)
        if first != place:
            yield USER_TWICE.format(stage=stage.name, first=first, second=place, user=user)
