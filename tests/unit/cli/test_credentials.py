import pytest

from interlock_cli.config_json import ImportRefusedError
from interlock_cli.credentials import Secrets, fill_defaults, reference_for
from tests.requirements import requirement

PLACE = "mcpServers.crm.env.X"


def taken(value: str, name: str = "X") -> tuple[dict[str, dict[str, str]] | None, dict[str, str]]:
    secrets = Secrets("crm")
    return reference_for(value, name, PLACE, secrets), secrets.keys


@requirement("import.secrets")
@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("${TOKEN}", "TOKEN"),
        ("${env:TOKEN}", "TOKEN"),
        ("{env:TOKEN}", "TOKEN"),
        ("${input:crm-token}", "crm-token"),
        ("$TOKEN", "TOKEN"),
        ("$GITHUB_TOKEN", "GITHUB_TOKEN"),
        ("Bearer ${TOKEN}", "X"),
        ("https://${USER_NAME}:${PASS}@host", "X"),
        ("$ecretPassw0rd", "X"),
        ("$ECRET", "X"),
        ("${Zq1w2e3r4t5y6u7i}", "X"),
        ("{file:~/token}", "X"),
        ("${TOKEN:-a default}", "TOKEN"),
    ],
)
def test_a_placeholder_becomes_a_key_of_the_servers_secret(value: str, key: str) -> None:
    reference, keys = taken(value)
    assert reference == {"secretKeyRef": {"name": "crm", "key": key}}
    assert list(keys) == [key]


@requirement("import.secrets")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_PERSONAL_ACCESS_TOKEN", "<YOUR_TOKEN>"),
        ("DB_PASSWORD", "hunter2"),
        ("API_KEY", "x"),
        ("Authorization", "whatever"),
        ("X-Api-Key", "whatever"),
        ("GH_PAT", "x"),
        ("OTHER", "ghp_0123456789abcdef"),
        ("OTHER", "sk-proj-abcdefghijkl"),
        ("OTHER", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
        ("OTHER", "Bearer abcdefgh"),
        ("OTHER", "-----BEGIN PRIVATE KEY-----"),
        ("DATABASE", "postgres://ada:hunter2@db/crm"),
        ("OTHER", "9f86d081884c7d659a2feaa0c55ad015"),
        ("OTHER", "550e8400-e29b-41d4-a716-446655440000"),
    ],
)
def test_a_literal_that_resembles_a_secret_goes_into_the_secret_and_is_repeated_nowhere(name: str, value: str) -> None:
    reference, keys = taken(value, name)
    assert reference == {"secretKeyRef": {"name": "crm", "key": name}}
    assert value not in f"{reference}" + keys[name].replace(f"the value of {name} in the file", "")


@requirement("import.refused")
@pytest.mark.parametrize(
    "value",
    ["${workspaceFolder}", "${env:HOME}", "${HOME}/x", "${command:x}", "${}", "$HOME/x", "${CLAUDE_PLUGIN_ROOT}/x"],
)
def test_what_only_the_client_can_fill_in_is_refused_with_its_place(value: str) -> None:
    with pytest.raises(ImportRefusedError, match=r"^mcpServers\.crm\.env\.X has .* write the value"):
        taken(value)


@requirement("import.secrets")
def test_a_default_of_a_placeholder_is_used_if_it_is_harmless_and_repeated_nowhere_if_not() -> None:
    filled = [
        fill_defaults(f"${{{name}:-{value}}}", {}, "X", frozenset())
        for name, value in (("LEVEL", "info"), ("LEVEL", "hunter2"), ("API_KEY", "info"))
    ]
    assert filled == ["info", "${LEVEL:-hunter2}", "${API_KEY:-info}"]
    reference, keys = taken("${LEVEL:-hunter2}")
    assert "hunter2" not in f"{reference} {keys}"


def test_a_key_that_would_mean_two_things_is_refused() -> None:
    secrets = Secrets("crm")
    reference_for("${B}", "A", PLACE, secrets)
    with pytest.raises(ImportRefusedError, match="would have two values"):
        reference_for("Bearer ${C}", "B", PLACE, secrets)


def test_one_placeholder_in_two_places_is_one_key() -> None:
    secrets = Secrets("crm")
    assert reference_for("${B}", "A", PLACE, secrets) == reference_for("${env:B}", "C", PLACE, secrets)
    assert len(secrets.keys) == 1
