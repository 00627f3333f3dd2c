"""The operator's settings: what an administrator may write, and what would lead guards elsewhere."""

import pytest
from pydantic import ValidationError

from interlock.settings import OperatorSettings
from tests.requirements import requirement


@requirement("audit.collector-name")
@pytest.mark.parametrize("host", ["interlock-audit.interlock-system", "interlock-audit", "collector.lan"])
def test_a_collector_is_not_named_so_that_a_namespace_of_users_could_answer(host: str) -> None:
    with pytest.raises(ValidationError) as raised:
        OperatorSettings(audit_url=f"http://{host}:7420")
    message = str(raised.value)
    assert f"INTERLOCK_AUDIT_URL: guards look up the name {host} in their own namespace first" in message
    assert "http://<service>.<namespace>.svc:<port>" in message


@requirement("audit.collector-name")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://interlock-audit.interlock-system.svc:7420",
        "http://interlock-audit.interlock-system.svc.cluster.local",
        "http://collector.lan.:7420",
        "https://collector.lan:7420",
        "http://192.0.2.7:7420",
        "http://[2001:db8::7]:7420",
        "http://localhost:7420",
    ],
)
def test_a_collector_is_named_in_full_by_its_address_or_over_tls(url: str) -> None:
    assert OperatorSettings(audit_url=url).audit_url == url


@requirement("pods.bounded")
@pytest.mark.parametrize("name", ["guard_cpu_request", "guard_cpu_limit", "guard_memory_request", "guard_memory_limit"])
@pytest.mark.parametrize("amount", ["x", "0", "-1"])
def test_what_is_no_amount_for_the_guard_is_refused_by_the_name_of_its_variable(name: str, amount: str) -> None:
    with pytest.raises(ValidationError, match=f"INTERLOCK_{name.upper()}: '{amount}' is no amount above 0"):
        OperatorSettings(**{name: amount})


@requirement("pods.bounded")
def test_the_settings_state_the_resources_of_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_GUARD_CPU_LIMIT", "1500m")
    monkeypatch.setenv("INTERLOCK_GUARD_MEMORY_REQUEST", "64Mi")

    found = OperatorSettings().guard_resources.model_dump(exclude_none=True)

    assert found == {"requests": {"memory": "64Mi"}, "limits": {"cpu": "1500m"}}


@requirement("pods.installed-pull-secrets")
def test_pull_secrets_of_the_installation_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_IMAGE_PULL_SECRETS", '[{"name": "mirror"}, {"name": "registry-login"}]')

    assert OperatorSettings().pull_secrets == ("mirror", "registry-login")


@requirement("pods.installed-pull-secrets")
@pytest.mark.parametrize("text", ['[{"name": ""}]', '[{"nam": "mirror"}]', '["mirror"]'])
def test_pull_secrets_that_are_none_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_IMAGE_PULL_SECRETS", text)

    with pytest.raises(ValidationError, match="image_pull_secrets"):
        OperatorSettings()


@requirement("egress.cut-out")
@pytest.mark.parametrize("text", ["10.64.0.1/14", "10.64.0.0", "x"])
def test_a_closed_range_that_is_none_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(ValidationError, match=f"INTERLOCK_CLOSED_RANGES: '{text}' is no range"):
        OperatorSettings(closed_ranges=(text,))


def test_closed_ranges_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_CLOSED_RANGES", '["10.64.0.0/14", "fd00:64::/32"]')

    assert OperatorSettings().closed_ranges == ("10.64.0.0/14", "fd00:64::/32")
