import pytest

from interlock_contract.environment import SettingsInvalid
from interlock_guard.settings import read_settings

POD = {
    "INTERLOCK_AGENT": "a",
    "INTERLOCK_NAMESPACE": "agents",
    "INTERLOCK_POD": "a-0123456789-x",
    "INTERLOCK_BUNDLE": "a-0123456789",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}


def test_what_a_pod_has_is_enough() -> None:
    settings = read_settings(POD)
    assert settings.api_server == "https://10.96.0.1:443"
    assert (settings.mcp_port, settings.observe_port, settings.lease_seconds) == (7410, 7411, 30)
    assert str(settings.pipes) == "/run/interlock/pipes"
    assert str(settings.credentials) == "/var/run/secrets/interlock"


def test_an_ipv6_api_server_is_bracketed() -> None:
    assert read_settings({**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}).api_server == "https://[fd00::1]:443"


@pytest.mark.parametrize("name", sorted(POD))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        read_settings({key: value for key, value in POD.items() if key != name})


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "0", "-1", "1e9"])
def test_a_lease_that_is_no_sane_number_is_refused(value: str) -> None:
    with pytest.raises(SettingsInvalid, match="INTERLOCK_LEASE_SECONDS"):
        read_settings({**POD, "INTERLOCK_LEASE_SECONDS": value})


@pytest.mark.parametrize("url", ["http://10.96.0.1", "http://127.0.0.1.evil.example", "ftp://x", "10.96.0.1"])
def test_the_token_never_travels_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="https"):
        read_settings({**POD, "INTERLOCK_API_SERVER": url})


def test_a_guard_listens_on_loopback_unless_another_address_is_configured() -> None:
    assert (read_settings(POD).listen, read_settings(POD).host) == ("127.0.0.1", "")
    alone = read_settings({**POD, "INTERLOCK_LISTEN": "fd00::7", "INTERLOCK_HOST": "guard"})
    assert (alone.listen, alone.host) == ("fd00::7", "guard")


@pytest.mark.parametrize("address", ["", "0.0.0.0/0", "guard", "10.0.0.256"])
def test_an_address_to_listen_at_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsInvalid, match="INTERLOCK_LISTEN"):
        read_settings({**POD, "INTERLOCK_LISTEN": address})
