"""The condition EgressEnforced: what an agent's pods can reach, as their policy says and their egress checks saw."""

from dataclasses import dataclass
from typing import Final, Literal

from interlock.api.shared_types import EnvironmentClass
from interlock.api.status import AgentReason
from interlock.deployment.cloud_identity import METADATA_SERVER, metadata_rules
from interlock.deployment.egress_exceptions import (
    CROWDED,
    MAX_EXCEPTED,
    agent_exceptions,
    egress_rows,
    opens_dns,
    server_exceptions,
)
from interlock.deployment.observed.egress_check import EgressCheckReport, EgressCheckVerdict
from interlock.deployment.placement import Placement, may_start_open
from interlock.reconcile.agent_report import AgentReport
from interlock.reconcile.placements import RunningPlacement


@dataclass(frozen=True)
class Egress:
    """The condition EgressEnforced.

    Attributes:
        status: Its status.
        reason: Its reason.
        message: Its message.
        refuses: Whether the agent does not start: its egress check waits for a network that enforces NetworkPolicies.
    """

    status: Literal["True", "False", "Unknown"]
    reason: AgentReason
    message: str
    refuses: bool = False


def egress_of(report: AgentReport) -> Egress | None:
    """Return how far egress is enforced for all placements: what is worst among them; None if there is none."""
    # A placement without pods says something only where no other one has any.
    with_pods = [one for one in report.lasting if one.wanted > 0]
    found = [_of_placement(report, one) for one in with_pods or report.lasting]
    return min(found, key=lambda one: _WORST_FIRST.index(one.status), default=None)


def open_network(report: AgentReport) -> Egress | None:
    """Return the egress finding that keeps a placement from starting; None if there is none."""
    found = (_of_placement(report, one) for one in report.lasting)
    return next((one for one in found if one.refuses), None)


_WORST_FIRST = ("False", "Unknown", "True")


def _of_placement(report: AgentReport, one: RunningPlacement) -> Egress:
    stage, policy = one.desired.stage, one.placement.policy
    environment_class = policy.spec.class_of(stage.environment)
    if one.placement.isolation == "Shared":
        # A shared pod is the default of development. Elsewhere the policy asks for it.
        is_default = environment_class is EnvironmentClass.DEVELOPMENT
        status: Literal["False", "Unknown"] = "Unknown" if is_default else "False"
        message = _shared_message(policy.metadata.name, stage.environment)
        ignored = "; rows of egress have no effect here" if egress_rows(one.placement) else ""
        return Egress(status, AgentReason.SHARED_POD, f"{message}{ignored}")
    if report.killed is not None:
        return Egress("Unknown", AgentReason.KILL_SWITCH, "killed: no pod runs")
    if one.wanted == 0:
        return Egress("Unknown", AgentReason.NO_GUARD, f"{one.why_no_pods}: no pod runs")
    found = _checks_of(report, one)
    seen = next((check.message for check in found if check.verdict is EgressCheckVerdict.OPEN), None)
    if seen is not None:
        goes_on = may_start_open(environment_class)
        message = _open_message(stage.environment, seen, goes_on=goes_on)
        return Egress("False", AgentReason.NETWORK_OPEN, message, refuses=not goes_on)
    closed = sum(check.verdict is EgressCheckVerdict.CLOSED for check in found)
    if closed < one.wanted:
        return Egress(
            "Unknown",
            AgentReason.EGRESS_CHECK_PENDING,
            f"{closed} of {one.wanted} agent pods have finished their egress check",
        )
    return _closed(one.placement, found)


def _closed(placement: Placement, checks: list[EgressCheckReport]) -> Egress:
    """Return the finding for a network that is closed, except for what the policy opens and a pod's own node."""
    agents, servers = agent_exceptions(placement), server_exceptions(placement)
    opened = [one.text for one in agents if one.is_open]
    opened += [_DNS] if opens_dns(agents) else []
    nodes = sorted({check.node for check in checks if check.node})
    opened += [f"the pod's own node ({_listed(nodes)}), which the network plugin does not close"] if nodes else []
    served = [one.text for one in servers if one.is_open]
    served += [_DNS] if opens_dns(servers) else []
    if metadata_rules(placement):
        served.append(f"the metadata server {METADATA_SERVER}, which gives them the identity of cloudIdentity")
    withheld = [f"{one.row.name} {text}" for one in (*agents, *servers) for text in one.withheld]
    crowded = [f"{one.row.name} {cidr}" for one in (*agents, *servers) for cidr in one.crowded]
    unanswered = sorted({word for check in checks for word in check.message.split()})
    said = "every agent pod can reach only its guard"
    if opened:
        count = "1 exception" if len(opened) == 1 else f"{len(opened)} exceptions"
        said = (
            f"every agent pod can reach its guard and {count}: {_listed(opened)}; what goes there is neither metered "
            "nor recorded"
        )
    parts = [
        said,
        *([f"servers in the guard's pod can reach {_listed(served)}"] if served else []),
        *([f"not opened: {_listed(withheld)}"] if withheld else []),
        *([f"{CROWDED_MESSAGE} {_listed(crowded)}"] if crowded else []),
        *([f"did not answer when a pod started: {_listed(unanswered)}"] if unanswered else []),
    ]
    reason = AgentReason.EGRESS_OPENED if opened or served else AgentReason.EGRESS_CLOSED
    return Egress("True", reason, "; ".join(parts))


CROWDED_MESSAGE: Final = (
    f"{CROWDED} or more of at most {MAX_EXCEPTED} ranges are left out, and more nodes will close as a whole:"
)
_DNS: Final = "the cluster's DNS, which can carry data out"
_MOST_LISTED: Final = 300
"""Characters of a list in the message, which has room for three of them."""


def _listed(texts: list[str]) -> str:
    shown = texts[:1]
    for text in texts[1:]:
        if len(", ".join((*shown, text))) > _MOST_LISTED:
            return f"{', '.join(shown)} and {len(texts) - len(shown)} more"
        shown.append(text)
    return ", ".join(shown)


def _checks_of(report: AgentReport, one: RunningPlacement) -> list[EgressCheckReport]:
    """Return the reports of a placement's separate agent pods."""
    pods = report.snapshot.pods.of(one.key.stage, one.key.revision)
    return [pod.egress_check for pod in pods if pod.egress_check is not None]


def _shared_message(policy: str, environment: str) -> str:
    return (
        "the agent can open connections past the guard, which neither authorizes nor records these, because both "
        "share a pod and its network; to give each a separate pod, "
        f"write isolation: Separate for {environment} into spec.environments of AgentPolicy {policy}"
    )


def _open_message(environment: str, seen: str, *, goes_on: bool) -> str:
    what = f": {seen}" if seen else ""
    follows = (
        f"in {environment} it runs nevertheless"
        if goes_on
        else f"in {environment} it does not start: install a network plugin that enforces NetworkPolicies (Calico, "
        "Cilium, kube-router or another). If others of its agents start, the plugin is only slow: the pods try again"
    )
    return (
        f"the agent could bypass its guard because the cluster's network enforces no NetworkPolicy{what}, as observed "
        f"from the agent's own pod; {follows}"
    )
