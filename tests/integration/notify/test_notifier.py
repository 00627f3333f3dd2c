"""The notifier at a real API server, with the rights that its Role gives, and real receivers of webhooks."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock_contract.clock import write_time
from tests.integration.kubectl import Kubectl
from tests.integration.notify.notifier import POLICY, RECORD, SECONDS, Notifier
from tests.integration.notify.receiver import KEY, Receiver, answering, receiving
from tests.requirements import requirement
from tests.support.bounds import check_promise, until, until_count
from tests.support.certificates import Authority, an_authority
from tools.cluster.kwok import KwokCluster

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

PROMISED_SECONDS = 5.0
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: TID251 - alerts expire
RULES = [
    {"apiGroups": ["interlock.dev"], "resources": ["budgetledgers"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [RECORD], "verbs": ["get", "patch"]},
]


def written(moment: datetime) -> str:
    return write_time(moment, "seconds")


class Space:
    """A namespace with the ledgers of a policy."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.kubectl, self.name = kubectl, name

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl.must(
            "apply",
            "-n",
            self.name,
            "-f",
            "-",
            stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": manifests}),
        )

    def create_record(self, **more: Any) -> None:
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RECORD}, **more})

    def create_ledger(self, name: str = "triage.staging", policy: str = POLICY) -> str:
        """Create a ledger; return its uid."""
        labels = {"interlock.dev/policy": policy, "interlock.dev/agent": "triage"}
        metadata = {"name": name, "labels": labels, "annotations": {"interlock.dev/owner": "Ada ada@example.com"}}
        spec = {"policy": policy, "agent": "triage", "environment": "staging"}
        self.apply({"apiVersion": "interlock.dev/v1alpha1", "kind": "BudgetLedger", "metadata": metadata, "spec": spec})
        return str(self.get("budgetledgers.interlock.dev", name)["metadata"]["uid"])

    def get(self, kind: str, name: str) -> Any:
        return self.kubectl.must("get", kind, name, "-n", self.name, "-o", "json").json()

    def alert(self, *percents: int, name: str = "triage.staging", at: datetime | None = None) -> None:
        """Write alerts into a ledger's status, as the operator does."""
        moment = written(datetime.now(UTC) if at is None else at)  # noqa: TID251 - alerts expire
        alerts = [
            {
                "percent": percent,
                "period": "day",
                "windowStart": written(DAY),
                "at": moment,
                "spent": 25_000_000_000,
                "limit": 50_000_000_000,
            }
            for percent in percents
        ]
        day = {"start": written(DAY), "end": written(DAY + timedelta(days=1)), "spent": 25_100_000_000}
        month = {**day, "start": written(DAY.replace(day=1)), "end": written(DAY + timedelta(days=32))}
        patch = {"status": {"day": day, "month": month, "alerts": alerts}}
        self.kubectl.must(
            *("patch", "budgetledgers.interlock.dev", name, "-n", self.name, "--subresource=status"),
            *("--type=merge", "-p", json.dumps(patch)),
        )

    async def recorded(self, webhook: str) -> int:
        """Return how many deliveries are recorded of a webhook."""
        return max(0, len((await self.record(webhook)).split()) - 1)

    async def until_recorded(self, webhook: str, count: int) -> None:
        """Wait until so many deliveries of a webhook are recorded."""

        async def is_recorded() -> bool:
            return await self.recorded(webhook) == count

        await until(is_recorded, f"{count} deliveries to {webhook} are recorded", SECONDS)

    async def record(self, key: str) -> str:
        found = await asyncio.to_thread(self.get, "configmap", RECORD)
        return str((found.get("data") or {}).get(key, ""))


Notifiers = Callable[[], Notifier]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return an_authority()


@pytest.fixture
def space(kubectl: Kubectl) -> Iterator[Space]:
    with kubectl.proxied() as api, api.namespace() as name:
        found = Space(kubectl, name)
        rbac = "rbac.authorization.k8s.io"
        named = {"metadata": {"name": "notifier"}}
        subject = {"kind": "ServiceAccount", "name": "notifier", "namespace": name}
        found.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", **named},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", **named, "rules": RULES},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                **named,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "notifier"},
                "subjects": [subject],
            },
        )
        yield found


@pytest.fixture
async def receiver(authority: Authority, tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(authority, tmp_path) as found:
        yield found


@pytest.fixture
def with_credentials(kwok_cluster: KwokCluster, space: Space, tmp_path: Path) -> Notifier:
    config = yaml.safe_load(kwok_cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    found = Notifier(config["server"], space.name, tmp_path)
    token = space.kubectl.must("create", "token", "notifier", "-n", space.name, "--duration", "1h").text
    found.write_credentials(token, Path(config["certificate-authority"]).read_bytes())
    return found


@pytest.fixture
async def notifier(with_credentials: Notifier) -> AsyncIterator[Notifier]:
    found = with_credentials
    yield found
    await found.stop(signal.SIGKILL)


@requirement("budget.webhooks", "budget.b11")
async def test_an_alert_arrives_within_five_seconds_signed_and_addressed_to_the_owner(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    uid = space.create_ledger()
    notifier.post_to("chat", receiver)
    await notifier.start()

    space.alert(50)
    started = time.monotonic()
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)

    check_promise(time.monotonic() - started, PROMISED_SECONDS, "an alert reaches its webhook")
    (post,) = receiver.posts
    assert post.is_signed_with(KEY)
    assert post.id == f"{uid}/day/{written(DAY)}/50"
    assert post.json["data"]["owner"] == "Ada ada@example.com"
    assert (post.json["data"]["spent"], post.json["data"]["limit"]) == ("25.00", "50.00")


@requirement("budget.b11")
async def test_an_exhausted_budget_is_reported_once(space: Space, notifier: Notifier, receiver: Receiver) -> None:
    space.create_record()
    uid = space.create_ledger()
    space.alert(50, 80, 100)
    notifier.post_to("chat", receiver)
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 3, "posts", SECONDS)

    exhausted = {"at": written(datetime.now(UTC)), "period": "day", "refused": 1, "holder": "pod/1"}  # noqa: TID251
    space.kubectl.must(
        *("patch", "budgetledgers.interlock.dev", "triage.staging", "-n", space.name, "--subresource=status"),
        *("--type=merge", "-p", json.dumps({"status": {"exhausted": exhausted}})),
    )
    space.create_ledger("other.staging")
    space.alert(50, name="other.staging")  # proves that the change before it was handled
    await until_count(lambda: len(receiver.posts), 4, "posts", SECONDS)

    assert receiver.ids[:3] == [f"{uid}/day/{written(DAY)}/{percent}" for percent in (50, 80, 100)]
    assert receiver.posts[2].json["type"] == "budget.exhausted"


@requirement("budget.webhooks", "budget.b11")
async def test_two_restarts_send_nothing_twice_and_lose_nothing(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    async def is_delivered() -> bool:
        return await notifier.metric('interlock_notifier_deliveries_total{webhook="chat",outcome="Delivered"}') == 1

    space.create_record()
    space.create_ledger()
    notifier.post_to("chat", receiver)
    for percents in ((50,), (50, 80), (50, 80, 100)):
        await notifier.start()
        space.alert(*percents)
        await until_count(lambda: len(receiver.posts), len(percents), "posts", SECONDS)
        await until(is_delivered, "the notifier has the answer", SECONDS)  # one without it would post again
        assert await notifier.stop() == 0
        space.alert(*percents)
    await notifier.start()
    await until(notifier.is_ready, "the ledgers were listed", SECONDS)

    assert [one.rpartition("/")[2] for one in receiver.ids] == ["50", "80", "100"]


@requirement("budget.webhooks")
async def test_a_notifier_killed_between_post_and_record_posts_again_under_the_same_key(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record(immutable=True)  # the API server refuses to record anything
    space.create_ledger()
    space.alert(50)
    notifier.post_to("chat", receiver)
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)

    async def is_refused() -> bool:
        return await notifier.metric("interlock_notifier_record_failures") > 0

    await until(is_refused, "the delivery cannot be recorded", SECONDS)
    await notifier.stop(signal.SIGKILL)
    assert len(receiver.posts) == 1

    space.kubectl.must("delete", "configmap", RECORD, "-n", space.name)
    space.create_record(data={"chat": written(DAY)})
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 2, "posts", SECONDS)
    assert len(set(receiver.ids)) == 1
    await space.until_recorded("chat", 1)
    await notifier.stop(signal.SIGKILL)
    await notifier.start()
    space.alert(50, 80)
    await until_count(lambda: len(receiver.posts), 3, "posts", SECONDS)
    assert receiver.ids[2].endswith("/80")


@requirement("budget.webhooks")
async def test_a_notifier_killed_while_its_receiver_thinks_posts_again_under_the_same_key(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    space.create_ledger()
    space.alert(50)
    notifier.post_to("chat", receiver)
    receiver.answers_at_all.clear()
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)

    await notifier.stop(signal.SIGKILL)
    receiver.answers_at_all.set()
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 2, "posts", SECONDS)

    assert len(set(receiver.ids)) == 1


async def test_a_receiver_that_was_down_gets_the_alert_once_it_is_back(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    space.create_ledger()
    space.alert(50)
    await receiver.stop()
    notifier.post_to("chat", receiver)
    await notifier.start()

    async def has_failed() -> bool:
        return await notifier.metric('interlock_notifier_deliveries_total{webhook="chat",outcome="Failed"}') > 0

    await until(has_failed, "an attempt fails", SECONDS)
    assert await notifier.metric('interlock_notifier_pending_alerts{webhook="chat"}') == 1

    await receiver.start()
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)
    assert "secret-part" not in notifier.log


async def test_a_receiver_that_fails_gets_the_same_alert_until_it_takes_it(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    space.create_ledger()
    space.alert(50)
    receiver.answers = [answering(500), answering(503, Retry_After="1")]
    notifier.post_to("chat", receiver)
    await notifier.start()
    await space.until_recorded("chat", 1)
    assert len(receiver.posts) == 3
    assert len(set(receiver.ids)) == 1


async def test_a_slow_receiver_delays_no_other_webhook(
    space: Space, notifier: Notifier, receiver: Receiver, authority: Authority, tmp_path: Path
) -> None:
    space.create_record()
    space.create_ledger()
    receiver.answers_at_all.clear()
    async with receiving(authority, tmp_path) as quick:
        notifier.post_to("slow", receiver)
        notifier.post_to("quick", quick, format="Slack")
        await notifier.start()
        space.alert(50, 80)
        await until_count(lambda: len(quick.posts), 2, "posts to the quick webhook", SECONDS)

        await until_count(lambda: len(receiver.posts), 1, "posts to the slow webhook", SECONDS)
        assert all(post.json.keys() == {"text"} for post in quick.posts)


async def test_an_alert_of_another_policy_is_not_posted(space: Space, notifier: Notifier, receiver: Receiver) -> None:
    space.create_record()
    space.create_ledger("other.staging", policy="another")
    space.alert(50, name="other.staging")
    uid = space.create_ledger()
    notifier.post_to("chat", receiver)
    await notifier.start()
    space.alert(80)
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)

    assert receiver.ids == [f"{uid}/day/{written(DAY)}/80"]


async def test_a_private_receiver_gets_nothing_in_the_network_public(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    space.create_ledger()
    space.alert(50)
    notifier.dialable = ""
    notifier.post_to("chat", receiver)
    await notifier.start()

    def is_refused() -> bool:
        return any("may not be dialled" in message.get("reason", "") for message in notifier.messages())

    await until(is_refused, "the address is refused", SECONDS)
    assert receiver.posts == []


@requirement("budget.webhooks")
async def test_a_new_webhook_gets_no_alert_from_long_before_it_appeared(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    old, new = space.create_ledger(), space.create_ledger("other.staging")
    space.alert(50, at=datetime.now(UTC) - timedelta(minutes=20))  # noqa: TID251 - the notifier reads the clock
    space.alert(80, name="other.staging")
    notifier.post_to("chat", receiver)
    await notifier.start()
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)
    await space.until_recorded("chat", 1)
    assert receiver.ids == [f"{new}/day/{written(DAY)}/80"]
    assert await notifier.metric('interlock_notifier_deliveries_total{webhook="chat",outcome="Expired"}') == 0
    await notifier.stop(signal.SIGKILL)
    await notifier.start()
    space.alert(50, 80, name="other.staging")
    await until_count(lambda: len(receiver.posts), 2, "posts", SECONDS)
    assert not any(old in one for one in receiver.ids)


async def test_a_webhook_whose_secret_is_missing_makes_the_notifier_unready_and_is_recorded(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_record()
    notifier.post_to("chat", receiver)
    await notifier.start()
    url = notifier.folder / "secrets" / "chat" / "0a"
    content = url.read_text()

    async def has_problem() -> bool:
        return "the Secret or its key is missing" in await space.record("chat.problem")

    async def has_none() -> bool:
        return await space.record("chat.problem") == ""

    url.unlink()
    await until(has_problem, "the problem is recorded", SECONDS)
    assert not await notifier.is_ready()
    url.write_text(content)
    await until(has_none, "the problem is gone", SECONDS)
    assert await notifier.is_ready()


@requirement("budget.webhooks")
async def test_two_notifiers_at_once_lose_nothing_and_send_what_they_double_under_the_same_key(
    space: Space, notifier: Notifier, receiver: Receiver, tmp_path: Path
) -> None:
    space.create_record()
    space.create_ledger()
    notifier.post_to("chat", receiver)
    other = Notifier(notifier.server, notifier.namespace, notifier.folder, webhooks=notifier.webhooks)
    await asyncio.gather(notifier.start(), other.start())
    try:
        space.alert(50, 80)

        async def are_recorded() -> bool:
            return len(set(receiver.ids)) == 2 and await space.recorded("chat") == 2

        await until(are_recorded, "both alerts are recorded", SECONDS)
        await notifier.stop(signal.SIGKILL)
        space.alert(50, 80, 100)
        await until(lambda: len(set(receiver.ids)) == 3, "the other one goes on", SECONDS)
        await space.until_recorded("chat", 3)
    finally:
        await other.stop()
    doubled = len(receiver.posts)
    assert doubled <= 5
    await notifier.start()
    space.create_ledger("other.staging")
    space.alert(50, name="other.staging")  # proves that the ledger before it was handled
    await until_count(lambda: len(receiver.posts), doubled + 1, "posts", SECONDS)


async def test_an_alert_waits_for_a_record_that_does_not_exist_yet(
    space: Space, notifier: Notifier, receiver: Receiver
) -> None:
    space.create_ledger()
    space.alert(50)
    notifier.post_to("chat", receiver)
    start = asyncio.create_task(notifier.start())

    def is_waiting() -> bool:
        log = notifier.folder / "log"
        return log.exists() and "the record of deliveries is not read yet" in notifier.log

    await until(is_waiting, "the notifier waits for its record", SECONDS)
    assert receiver.posts == []
    space.create_record()
    await start
    await until_count(lambda: len(receiver.posts), 1, "posts", SECONDS)
