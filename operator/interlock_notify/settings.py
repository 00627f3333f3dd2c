"""The notifier's settings, read once from the environment of its container."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interlock_contract import pod
from interlock_contract.environment import SettingsInvalid, read_api_server, read_number, require
from interlock_contract.strict_fields import BundleInvalid
from interlock_contract.webhooks import WebhookPlan, parse_webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierSettings:
    """What the notifier watches, where it posts, and what it has at hand.

    Attributes:
        namespace: The namespace of the AgentPolicy, its ledgers and the record.
        selector: The label selector of its ledgers.
        record: Name of the ConfigMap with what was delivered.
        plan: The webhooks.
        api_server: URL of the API server.
        credentials: Folder with the token for it.
        secrets: Folder with the files of the webhooks, in one folder each.
        observe_port: Port for probes and metrics.
        dialable: Addresses that are dialled whatever they are; for tests, whose receivers are on loopback. The operator
            never sets it.
    """

    namespace: str
    selector: str
    record: str
    plan: WebhookPlan
    api_server: str
    credentials: Path
    secrets: Path
    observe_port: int
    dialable: frozenset[str]


def read_settings(environment: Mapping[str, str]) -> NotifierSettings:
    """Read the settings; in a pod only the first four are set.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    return NotifierSettings(
        namespace=require(environment, pod.NAMESPACE_VARIABLE),
        selector=require(environment, pod.LEDGERS_VARIABLE),
        record=require(environment, pod.RECORD_VARIABLE),
        plan=_read_plan(environment),
        api_server=read_api_server(environment),
        credentials=Path(environment.get("INTERLOCK_CREDENTIALS", pod.TOKEN_PATH)),
        secrets=Path(environment.get("INTERLOCK_SECRETS", pod.SECRETS_PATH)),
        observe_port=int(read_number(environment, "INTERLOCK_OBSERVE_PORT", pod.OBSERVE_PORT)),
        dialable=frozenset(environment.get("INTERLOCK_DIALABLE", "").split()),
    )


def _read_plan(environment: Mapping[str, str]) -> WebhookPlan:
    try:
        return parse_webhooks(require(environment, pod.WEBHOOKS_VARIABLE))
    except BundleInvalid as error:
        raise SettingsInvalid(f"{pod.WEBHOOKS_VARIABLE}: {error}") from None
