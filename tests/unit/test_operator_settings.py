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
