import socket

import pytest

from interlock_http import own_pod
from interlock_http.own_pod import OwnPod
from tests.requirements import requirement


@requirement("agent-key.own-pod")
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.7.6", socket.gethostbyname(socket.gethostname())])
def test_every_address_that_a_process_here_could_send_from_is_of_this_pod(address: str) -> None:
    assert OwnPod().has(address)


@requirement("agent-key.own-pod")
@pytest.mark.parametrize("address", ["192.0.2.7", "198.51.100.9"])
def test_another_address_is_of_another_pod(address: str) -> None:
    assert not OwnPod().has(address)


@requirement("agent-key.own-pod")
@pytest.mark.parametrize("address", [None, "", "no address", "256.0.0.1"])
def test_what_cannot_be_judged_counts_as_of_this_pod(address: str | None) -> None:
    assert OwnPod().has(address)


def test_an_exempt_address_counts_as_of_another_pod_and_no_other_does() -> None:
    here = OwnPod(frozenset({"127.0.0.1"}))
    assert (here.has("127.0.0.1"), here.has("127.0.0.2")) == (False, True)


def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_pod, "_MOST", 3)
    here = OwnPod()
    for last in range(1, 20):
        here.has(f"127.0.0.{last}")
        assert len(here._known) <= 3  # noqa: SLF001 - no behaviour shows it
