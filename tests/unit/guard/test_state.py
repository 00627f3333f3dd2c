import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import MAX_BUNDLE_DIGESTS, AgentIdentity, Bundle, digest, dump_bundle
from interlock_guard.bundle_reader import BundleReader
from interlock_guard.decision.decide import check_open
from interlock_guard.state import LiveState
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.bounds import until

BUNDLE = Bundle(4, AgentIdentity("a", "agents", "u-1"), "r", "s", "s", (), ())
TEXT, OTHER = (dump_bundle(one) for one in (BUNDLE, replace(BUNDLE, revision="r2")))
NEVER = 1000.0
AGENT = {"metadata": {"name": "a", "uid": "u-1"}, "status": {"bundleDigests": [digest(TEXT)]}}


def naming(*texts: str, uid: str = "u-1") -> Any:
    """Return the Agent with a status that names these bundles."""
    return {"metadata": {"name": "a", "uid": uid}, "status": {"bundleDigests": [digest(text) for text in texts]}}


def a_trusting_state(**settings: float) -> LiveState:
    """Return one whose bundles need no self-test: test_selftest_state.py tests that."""
    live = LiveState(**settings)
    live.reactions = (lambda: live.set_unverified_reason(""),)
    return live


def reason(live: LiveState, now: float) -> str | None:
    denial = check_open(live.bundle, live.state, now)
    return None if denial is None else denial.reason.value


def test_it_opens_only_once_agent_bundle_and_contact_for_both_are_there() -> None:
    live = a_trusting_state()
    assert reason(live, 0) == "StaleState"
    live.handle_bundle(dump_bundle(BUNDLE))
    live.record_contact("bundle", 10)
    assert reason(live, 10) == "StaleState"
    live.handle_agent(AGENT)
    assert reason(live, 10) == "StaleState"
    live.record_contact("agent", 10)
    assert reason(live, 10) is None


def test_the_older_of_both_contacts_counts() -> None:
    live = a_trusting_state(lease_seconds=30)
    live.handle_bundle(dump_bundle(BUNDLE))
    live.handle_agent(AGENT)
    live.record_contact("agent", 10)
    live.record_contact("bundle", 10)
    live.record_contact("agent", 35)
    assert reason(live, 40) is None
    assert reason(live, 40.1) == "StaleState"
    live.record_contact("bundle", 39)
    assert reason(live, 65) is None


def test_each_event_runs_the_reactions_before_the_next_one() -> None:
    live, seen = LiveState(), list[str | None]()
    live.reactions = (lambda: seen.append(live.state.kill.message),)
    live.handle_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    assert seen == ["leak"]


def test_a_bad_bundle_replaces_a_good_one_and_is_logged() -> None:
    log = list[str]()
    live = LiveState(log=log.append)
    live.handle_agent(naming(TEXT, "{}"))
    live.handle_bundle(dump_bundle(BUNDLE))
    assert live.bundle == BUNDLE
    live.handle_bundle("{}")
    assert live.bundle is None
    assert log == ["bundle refused: schemaVersion: is missing"]
    live.handle_bundle(None)
    assert live.bundle is None


def test_an_agent_that_is_gone_keeps_its_kill() -> None:
    live = LiveState()
    live.handle_agent({"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}})
    live.handle_agent(None)
    live.handle_agent(AGENT)
    assert live.state.kill.message == "leak"


@requirement("governance.deleted")
def test_an_agent_that_is_being_deleted_is_gone_whatever_finalizers_keep_it() -> None:
    live = a_trusting_state()
    live.handle_bundle(dump_bundle(BUNDLE))
    live.handle_agent(AGENT)
    live.record_contact("agent", 10)
    live.record_contact("bundle", 10)
    assert reason(live, 10) is None
    kept = {"deletionTimestamp": "2026-03-02T09:00:00Z", "finalizers": ["example.com/keep"]}
    live.handle_agent({**AGENT, "metadata": AGENT["metadata"] | kept})
    assert reason(live, 10) == "AgentMismatch"


# Which bundle is in force


def an_open_state(agent: Any = AGENT, text: str = TEXT) -> LiveState:
    live = a_trusting_state()
    live.handle_agent(agent)
    live.handle_bundle(text)
    live.record_contact("agent", 10)
    live.record_contact("bundle", 10)
    return live


@requirement("guard.confirmed-bundle")
@pytest.mark.parametrize(
    "status",
    [
        None,
        "x",
        {},
        {"bundleDigests": None},
        {"bundleDigests": digest(TEXT)},
        {"bundleDigests": {digest(TEXT): True}},
        {"bundleDigests": []},
        {"bundleDigests": [digest(OTHER)]},
        {"bundleDigests": [digest(TEXT)[:63]]},
        {"bundleDigests": ["", None, 1, [digest(TEXT)]]},
        {"bundleDigests": [*("x" for _ in range(MAX_BUNDLE_DIGESTS)), digest(TEXT)]},
        {"enforcement": {"bundleDigest": digest(TEXT)}},
    ],
)
def test_a_bundle_that_the_status_does_not_name_is_not_obeyed(status: Any) -> None:
    live = an_open_state({"metadata": {"uid": "u-1"}, "status": status})

    assert (reason(live, 10), live.bundle, live.digest) == ("BundleNotConfirmed", None, "")


@requirement("guard.confirmed-bundle")
def test_a_forged_bundle_changes_nothing_while_the_status_names_the_one_in_force() -> None:
    live = an_open_state()
    ran: list[str] = []
    live.reactions = (lambda: ran.append(live.digest),)

    live.handle_bundle(OTHER)

    assert (reason(live, 10), live.digest) == (None, digest(TEXT))
    live.handle_bundle(TEXT)
    assert (reason(live, 10), live.digest) == (None, digest(TEXT))
    assert set(ran) == {digest(TEXT)}


@requirement("guard.confirmed-bundle")
def test_the_bundle_before_is_no_longer_obeyed_once_the_status_does_not_name_it() -> None:
    live = an_open_state()

    live.handle_agent(naming(OTHER))
    assert reason(live, 10) == "BundleNotConfirmed"
    live.handle_bundle(OTHER)
    assert (reason(live, 10), live.digest) == (None, digest(OTHER))
    live.handle_bundle(TEXT)
    assert (reason(live, 10), live.digest) == (None, digest(OTHER)), "a replay changes nothing"


@requirement("guard.confirmed-bundle")
@pytest.mark.parametrize("is_status_first", [True, False])
def test_a_change_that_the_status_announces_closes_nothing_in_any_order_of_the_events(*, is_status_first: bool) -> None:
    live = an_open_state()
    events = [lambda: live.handle_agent(naming(OTHER, TEXT)), lambda: live.handle_bundle(OTHER)]

    for event in events if is_status_first else reversed(events):
        event()
        assert reason(live, 10) is None
    live.handle_agent(naming(OTHER))

    assert (reason(live, 10), live.digest) == (None, digest(OTHER))


@requirement("guard.confirmed-bundle")
def test_a_bundle_is_obeyed_as_soon_as_the_status_names_it() -> None:
    live = an_open_state(naming())
    assert reason(live, 10) == "BundleNotConfirmed"

    live.handle_agent(AGENT)

    assert reason(live, 10) is None


class Reading:
    """A read of the ConfigMap that brings what the test sets: a text, or an exception."""

    def __init__(self, live: LiveState) -> None:
        self.live, self.reads, self.texts = live, 0, list[str | Exception | None]()
        self.answer = asyncio.Event()

    async def __call__(self) -> None:
        self.reads += 1
        await self.answer.wait()
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        self.live.handle_bundle(text)


@asynccontextmanager
async def a_reader(live: LiveState, *, grace_seconds: float = NEVER) -> AsyncIterator[Reading]:
    reading = Reading(live)
    task = asyncio.create_task(BundleReader(live, reading, grace_seconds=grace_seconds).run(lambda _: None))
    yield reading
    task.cancel()


async def until_reads(reading: Reading, count: int) -> None:
    await until(lambda: reading.reads == count, "the ConfigMap is being read")


@requirement("guard.bundle-grace")
async def test_a_status_that_comes_before_its_config_map_closes_nothing() -> None:
    live, seen = an_open_state(), set[str]()
    live.reactions = (*live.reactions, lambda: seen.add(live.digest))
    async with a_reader(live) as reading:
        live.handle_agent(naming(OTHER))
        assert (reason(live, 10), live.digest) == (None, digest(TEXT))
        await until_reads(reading, 1)
        reading.texts.append(OTHER)
        reading.answer.set()
        await until(lambda: live.digest == digest(OTHER), "the new bundle is in force")

    assert reason(live, 10) is None
    assert "" not in seen, "no moment was without a bundle, which would end what is open"


@requirement("guard.bundle-grace")
@pytest.mark.parametrize("text", [TEXT, "forged", None, ValueError("no list"), ApiError(500, "down"), OSError("down")])
async def test_a_read_that_does_not_bring_what_the_status_names_closes_the_guard(text: Any) -> None:
    live = an_open_state()
    async with a_reader(live) as reading:
        reading.texts.append(text)
        reading.answer.set()
        live.handle_agent(naming(OTHER))
        await until(lambda: live.bundle is None, "the guard is closed")

    assert reason(live, 10) in ("BundleNotConfirmed", "NoBundle")
    assert reading.reads == 1


@requirement("guard.bundle-grace")
async def test_a_read_without_an_answer_closes_the_guard_after_the_grace() -> None:
    live = an_open_state()
    async with a_reader(live, grace_seconds=0.05) as reading:
        live.handle_agent(naming(OTHER))
        await until_reads(reading, 1)
        live.handle_bundle("forged")
        live.handle_agent(naming(OTHER, "another"))  # a later status gives no second grace
        await until(lambda: live.bundle is None, "the guard is closed")

    assert reason(live, 10) == "BundleNotConfirmed"


@requirement("guard.bundle-grace")
async def test_the_grace_ends_although_no_task_reads() -> None:
    live = an_open_state()
    BundleReader(live, Reading(live), grace_seconds=0.05)

    live.handle_agent(naming(OTHER))

    assert reason(live, 10) is None
    await until(lambda: live.bundle is None, "the guard is closed")


@requirement("guard.bundle-grace")
async def test_a_status_that_changes_during_the_read_is_read_for_again() -> None:
    live = an_open_state()
    async with a_reader(live) as reading:
        live.handle_agent(naming("earlier"))
        await until_reads(reading, 1)
        live.handle_agent(naming(OTHER))
        reading.texts += ["earlier", OTHER]
        reading.answer.set()
        await until(lambda: live.digest == digest(OTHER), "the new bundle is in force")

    assert reading.reads == 2


@requirement("guard.bundle-grace")
async def test_a_status_that_names_no_bundle_closes_the_guard_without_a_read() -> None:
    live = an_open_state()
    async with a_reader(live) as reading:
        live.handle_agent(naming())
        assert (reason(live, 10), reading.reads) == ("BundleNotConfirmed", 0)


def test_the_status_of_a_later_agent_says_nothing_about_the_bundle_of_an_earlier_one() -> None:
    live = an_open_state()

    live.handle_agent(naming(uid="u-2"))

    assert reason(live, 10) == "AgentMismatch"
    live.handle_agent(naming(TEXT, uid="u-2"))
    assert reason(live, 10) == "AgentMismatch"


def test_a_bundle_that_is_gone_closes_the_guard_whatever_the_status_names() -> None:
    live = an_open_state()

    live.handle_bundle(None)

    assert reason(live, 10) == "NoBundle"


def test_a_bundle_that_cannot_be_read_is_logged_once() -> None:
    log = list[str]()
    live = LiveState(log=log.append)
    live.handle_bundle("{}")
    for _ in range(3):
        live.handle_agent(naming("{}"))

    assert log == ["bundle refused: schemaVersion: is missing"]


def test_a_bundle_that_the_status_does_not_name_is_logged_once_the_agent_was_read() -> None:
    log = list[str]()
    live = LiveState(log=log.append)
    live.handle_bundle(TEXT)
    assert log == []

    for _ in range(3):
        live.handle_agent(naming("{}"))

    assert log == [f"bundle {digest(TEXT)} is not obeyed: the status of the Agent does not name it"]
