"""Programs start as the account that admission policies name, and as no other ServiceAccount."""

import base64
import json
from typing import Any

import kopf
import pytest
import yaml

from interlock.handlers import startup
from interlock_contract.names import KILL_CONTROLLER_ACCOUNT, OPERATOR_ACCOUNT
from interlock_kill import __main__ as program
from interlock_kube.credentials import ApiAccess
from interlock_process.own_account import WrongAccount, check_account
from tests.requirements import requirement
from tools.charts.sources import ROOT


def access(claims: Any) -> ApiAccess:
    """Return the access with a token that has these claims."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return ApiAccess(server="https://api", authorization=f"Bearer e30.{payload}.c2ln")


@requirement("operator.own-account")
@pytest.mark.parametrize("name", ["interlock-system:acme-interlock", "acme:interlock", "interlock-system:interlock-2"])
def test_an_account_that_admission_policies_do_not_name_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(WrongAccount, match="namePrefix and nameSuffix") as refused:
        check_account(access({"sub": f"system:serviceaccount:{name}"}), OPERATOR_ACCOUNT)
    assert name in str(refused.value)


@pytest.mark.parametrize(
    "found",
    [
        access({"sub": OPERATOR_ACCOUNT}),
        access({"sub": "ada@example.com"}),
        access({"sub": 1}),
        access({}),
        access([]),
        ApiAccess(server="https://api"),
        ApiAccess(server="https://api", authorization="Bearer opaque"),
        ApiAccess(server="https://api", authorization="Bearer a.\u00e9.c"),
        ApiAccess(server="https://api", authorization="Bearer a.AAA.c"),
    ],
)
def test_its_own_account_and_what_is_no_service_account_are_taken(found: ApiAccess) -> None:
    check_account(found, OPERATOR_ACCOUNT)


@requirement("operator.own-account")
async def test_the_operator_does_not_start_as_another_account() -> None:
    class Memo:
        is_started = False

        @property
        def credentials(self) -> "Memo":
            return self

        async def current(self) -> ApiAccess:
            return access({"sub": "system:serviceaccount:interlock-system:acme-interlock"})

        async def start(self) -> None:
            self.is_started = True

    memo: Any = Memo()
    with pytest.raises(kopf.PermanentError, match="acme-interlock"):
        await startup.start(memo)
    assert not memo.is_started


@requirement("operator.own-account")
async def test_the_kill_controller_does_not_start_as_another_account(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Credentials:
        async def current(self) -> ApiAccess:
            return access({"sub": OPERATOR_ACCOUNT})

    monkeypatch.setattr(program, "find_credentials", lambda _: Credentials())

    assert await program.run(program.Settings.read({})) == 1
    assert f"bound the rights of {KILL_CONTROLLER_ACCOUNT} alone" in caplog.text


@pytest.mark.parametrize(
    ("file", "account"), [("operator.yaml", OPERATOR_ACCOUNT), ("kill.yaml", KILL_CONTROLLER_ACCOUNT)]
)
def test_they_are_the_accounts_of_the_manifests(file: str, account: str) -> None:
    found = yaml.safe_load_all((ROOT / "manifests/base" / file).read_text(encoding="utf-8"))
    [named] = [one["metadata"] for one in found if one["kind"] == "ServiceAccount"]
    assert f"system:serviceaccount:{named['namespace']}:{named['name']}" == account
