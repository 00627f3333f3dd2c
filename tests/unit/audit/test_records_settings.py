import pytest

from interlock_audit.settings import CollectorSettingsInvalid, read_settings

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_what_a_pod_has_is_enough() -> None:
    settings = read_settings(POD)
    assert (settings.api_server, settings.port, settings.telemetry_port) == ("https://10.96.0.1:443", 7420, 7421)
    assert (settings.keep_days, settings.postgres) == (184, "")
    assert str(settings.sqlite) == "/var/lib/interlock-audit/records.sqlite"


def test_an_ipv6_api_server_is_bracketed() -> None:
    assert read_settings({**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}).api_server == "https://[fd00::1]:443"


@pytest.mark.parametrize(
    "wrong",
    [
        {"INTERLOCK_KEEP_DAYS": "a year"},
        {"INTERLOCK_KEEP_DAYS": "-1"},
        {"INTERLOCK_KEEP_DAYS": "nan"},
        {"INTERLOCK_PORT": "70000"},
        {"INTERLOCK_API_SERVER": "http://10.96.0.1"},
        {"KUBERNETES_SERVICE_HOST": ""},
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, str]) -> None:
    with pytest.raises(CollectorSettingsInvalid, match=next(iter(wrong))):
        read_settings({**POD, **wrong})
