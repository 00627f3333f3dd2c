import pytest

from interlock_cli.client_config import ImportRefusedError
from interlock_cli.credentials import Secrets, looks_secret, placeholders, reference_for
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
        ("${input:crm-token}", "crm-token"),
        ("$TOKEN", "TOKEN"),
        ("Bearer ${TOKEN}", "X"),
        ("https://${USER_NAME}:${PASS}@host", "X"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "debug"),
        ("PORT", "8080"),
        ("USE_TOKEN", "true"),
        ("BASE_URL", "https://crm.example.com/v1"),
        ("MEMORY_FILE_PATH", "/path/to/custom/memory.jsonl"),
        ("REGION", "asia-northeast1"),
        ("MONKEY", "banana"),
        ("EMPTY", ""),
    ],
)
def test_what_is_no_secret_stays_where_it_is(name: str, value: str) -> None:
    assert not looks_secret(name, value)
    assert taken(value, name) == (None, {})


@requirement("import.refused")
@pytest.mark.parametrize(
    "value",
    ["${workspaceFolder}", "${env:HOME}", "${HOME}/x", "${command:x}", "${TOKEN:-a default}", "${}", "${config:a.b}"],
)
def test_what_only_the_client_can_fill_in_is_refused_with_its_place(value: str) -> None:
    with pytest.raises(ImportRefusedError, match=r"^mcpServers\.crm\.env\.X has .* write the value"):
        placeholders(value, PLACE)


def test_a_default_of_a_placeholder_is_not_repeated() -> None:
    with pytest.raises(ImportRefusedError) as refused:
        placeholders("${TOKEN:-hunter2}", PLACE)
    assert "hunter2" not in str(refused.value)


def test_a_key_that_would_mean_two_things_is_refused() -> None:
    secrets = Secrets("crm")
    reference_for("${B}", "A", PLACE, secrets)
    with pytest.raises(ImportRefusedError, match="would have two values"):
        reference_for("Bearer ${C}", "B", PLACE, secrets)


def test_one_placeholder_in_two_places_is_one_key() -> None:
    secrets = Secrets("crm")
    assert reference_for("${B}", "A", PLACE, secrets) == reference_for("${B}", "C", PLACE, secrets)
    assert len(secrets.keys) == 1
