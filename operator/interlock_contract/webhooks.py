"""The webhooks of one AgentPolicy as the operator describes them to the notifier. No I/O.

The document stands in a variable of the notifier's container, so that each change of it rolls the pod. It names files
of a mounted Secret and holds no secret. The URL of a webhook is one, since anyone who knows it can post.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from interlock_contract.addresses import Network
from interlock_contract.http_target import FileName, ProxyTarget
from interlock_contract.strict_fields import (
    Name,
    StrictStruct,
    Text,
    dump_document,
    parse_document,
    refuse_doubles,
)

WEBHOOKS_VERSION: Final = 1
MAX_WEBHOOKS: Final = 8
"""Webhooks of one policy: each has a queue in the notifier's memory and its share of the record of deliveries."""

PROBLEM_SUFFIX: Final = ".problem"
"""End of the key, after the name of a webhook, under which the record of deliveries says why the webhook takes no
alerts. No webhook has a name with a full stop."""
MAX_PROBLEM: Final = 256
"""Most characters of such a text."""

WebhookFormat = Literal["Slack", "Standard"]
"""What the body of a notification is.

`Slack` has the one member `text`, which Slack, Mattermost and others post. Slack documents no further members of its
own incoming webhooks as allowed, so there are none. `Standard` has `type`, `timestamp` and `data`, as the Standard
Webhooks specification has them, and `text`.
"""


class Webhook(StrictStruct, frozen=True):
    """One receiver of notifications, with the files that hold its URL, its signing keys and its CA certificates."""

    name: Name
    url_file: FileName
    network: Network
    format: WebhookFormat
    key_file: FileName | None = None
    ca_file: FileName | None = None


class WebhookPlan(StrictStruct, frozen=True):
    """All webhooks of one policy, and the egress proxy through which public ones are reached, but not these hosts."""

    version: Literal[1]
    policy: Text
    webhooks: Annotated[tuple[Webhook, ...], Meta(min_length=1, max_length=MAX_WEBHOOKS)]
    proxy: ProxyTarget | None = None
    no_proxy: tuple[Text, ...] = ()

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((webhook.name for webhook in self.webhooks), "webhooks", "name")
        if self.no_proxy and self.proxy is None:
            raise ValueError(".noProxy: is for an egress proxy alone")


def parse_webhooks(text: str) -> WebhookPlan:
    """Read the document.

    Raises:
        BundleInvalid: It is none of this version; the message names the path.
    """
    return parse_document(text, WebhookPlan, WEBHOOKS_VERSION, key="version")


def dump_webhooks(plan: WebhookPlan) -> str:
    """Write the document canonically."""
    return dump_document(plan)
