"""Entries of the MCP registry, in the schemas of today and of 2025, become bindings."""

from typing import Any

import pytest
import yaml

from tests.requirements import requirement
from tests.unit.cli.conftest import Run

TOKEN = {"name": "CRM_TOKEN", "isRequired": True, "isSecret": True}
OCI = {
    "registryType": "oci",
    "identifier": "docker.io/example/crm",
    "version": "1.2.0",
    "transport": {"type": "stdio"},
    "environmentVariables": [TOKEN, {"name": "LOG_LEVEL", "default": "info"}, {"name": "OPTIONAL"}],
    "packageArguments": [{"type": "positional", "value": "stdio"}],
}
NPM = {
    "registryType": "npm",
    "identifier": "@example/crm",
    "version": "1.2.0",
    "transport": {"type": "stdio"},
    "packageArguments": [{"type": "named", "name": "--port", "default": "3000"}],
}
PYPI = {
    "registry_name": "pypi",
    "name": "example-crm",
    "version": "1.2.0",
    "environment_variables": [{"name": "CRM_REGION", "is_required": True}, {"name": "CRM_KEY", "is_secret": True}],
}
REMOTE = {
    "type": "streamable-http",
    "url": "https://crm.example.com/mcp",
    "headers": [{"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isSecret": True}}}],
}


def entry(**members: Any) -> dict[str, Any]:
    return {
        "$schema": "https://static.example.com/server.schema.json",
        "name": "io.github.example/crm",
        "version": "1.2.0",
        **members,
    }


def spec(run: Run, file: Any, *options: str) -> dict[str, Any]:
    code, out, err = run(file, *options)
    assert code == 0, err
    found: dict[str, Any] = yaml.safe_load(out)["spec"]
    return found


@requirement("import.registry")
def test_an_image_is_taken_before_a_package_and_a_remote_server(run: Run) -> None:
    stdio = spec(run, entry(packages=[NPM, OCI], remotes=[REMOTE]), "--command", "crm=crm-server")["server"]["stdio"]
    assert stdio == {
        "image": "docker.io/example/crm:1.2.0",
        "command": ["crm-server"],
        "args": ["stdio"],
        "env": [
            {"name": "CRM_TOKEN", "valueFrom": {"secretKeyRef": {"name": "crm", "key": "CRM_TOKEN"}}},
            {"name": "LOG_LEVEL", "value": "info"},
        ],
    }


@requirement("import.registry")
def test_a_package_starts_with_its_runner(run: Run) -> None:
    npm = spec(run, entry(packages=[NPM], remotes=[REMOTE]), "--image", "crm=example/crm:1")["server"]["stdio"]
    assert [*npm["command"], *npm["args"]] == ["npx", "-y", "@example/crm@1.2.0", "--port", "3000"]
    found = spec(run, entry(packages=[PYPI]), "--image", "crm=example/crm:1")
    pypi = found["server"]["stdio"]
    assert [*pypi["command"], *pypi["args"]] == ["uvx", "example-crm==1.2.0"]
    assert [one["name"] for one in pypi["env"]] == ["CRM_REGION", "CRM_KEY"]
    assert all("valueFrom" in one for one in pypi["env"])
    assert found["source"] == "crm"


@requirement("import.registry")
@pytest.mark.parametrize(
    "file",
    [
        entry(remotes=[REMOTE]),
        entry(packages=[OCI], remotes=[{"type": "sse", "url": "https://crm.example.com/sse"}, REMOTE]),
        {"server": entry(remotes=[REMOTE]), "_meta": {}},
        {"servers": [{"server": entry(remotes=[REMOTE]), "_meta": {}}]},
    ],
)
def test_a_remote_server_becomes_a_server_over_http(run: Run, file: Any) -> None:
    http = spec(run, file, "--package", "remote")["server"]["http"]
    reference = {"secretKeyRef": {"name": "crm", "key": "Authorization"}}
    assert http == {
        "url": "https://crm.example.com/mcp",
        "headers": [{"name": "Authorization", "valueFrom": reference}],
    }


@requirement("import.registry")
def test_what_is_left_out_of_an_entry_is_named(run: Run) -> None:
    _, out, _ = run(entry(packages=[NPM, OCI], remotes=[REMOTE]), "--command", "crm=crm-server")
    assert "# the entry has oci, and also remote, npm: --package takes another" in out
    assert "# left out, because they are optional: OPTIONAL" in out


@requirement("import.registry")
def test_a_variable_of_a_url_has_its_default_or_is_refused(run: Run) -> None:
    url = {"type": "streamable-http", "url": "https://{region}.example.com/mcp"}
    found = spec(run, entry(remotes=[url | {"variables": {"region": {"default": "eu"}}}]))
    assert found["server"]["http"]["url"] == "https://eu.example.com/mcp"
    code, _, err = run(entry(remotes=[url | {"variables": {"region": {}}}]))
    assert code == 1
    assert "remotes[0].url has a placeholder: write the complete URL" in err


@requirement("import.registry")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            entry(remotes=[{"type": "sse", "url": "https://crm.example.com/sse"}]),
            "has no package that can be imported, but 'sse'",
        ),
        (entry(packages=[{"registryType": "nuget", "identifier": "x"}]), "no package that can be imported"),
        (entry(packages=[]), "but none at all"),
        (entry(packages=[], server=1.5), "but none at all"),
        (
            entry(
                packages=[NPM | {"packageArguments": [{"type": "positional", "isSecret": True, "valueHint": "KEY"}]}]
            ),
            "packages[0].packageArguments[0] has a placeholder",
        ),
    ],
)
def test_an_entry_that_cannot_be_imported_is_refused_with_the_place_in_the_file(
    run: Run, file: Any, message: str
) -> None:
    code, out, err = run(file, "--image", "crm=example/crm:1")
    assert (code, out) == (1, "")
    assert message in err


@requirement("import.registry")
def test_an_entry_with_a_common_name_gets_that_of_its_owner(run: Run) -> None:
    entries = {"com.example/mcp": "example-mcp", "io.github.ana/mcp-server": "ana-mcp-server", "com.example/crm": "crm"}
    found = {name: spec(run, entry(name=name, remotes=[REMOTE]))["source"] for name in entries}
    assert found == entries


@requirement("import.registry")
def test_what_an_entry_requires_in_other_words_becomes_a_key_and_a_number_stays(run: Run) -> None:
    variables = [
        {"name": "CRM_TOKEN", "required": True},
        {"name": "PORT", "default": 8080},
        {"name": "DRY", "default": True},
    ]
    package = {**NPM, "identifier": "@10360/crm-mcp", "version": "1.0.0", "environmentVariables": variables}
    stdio = spec(run, entry(packages=[package]), "--image", "crm=example/crm:1")["server"]["stdio"]
    assert stdio["args"][1] == "@10360/crm-mcp@1.0.0"
    assert stdio["env"] == [
        {"name": "CRM_TOKEN", "valueFrom": {"secretKeyRef": {"name": "crm", "key": "CRM_TOKEN"}}},
        {"name": "PORT", "value": "8080"},
        {"name": "DRY", "value": "true"},
    ]


@requirement("import.registry")
def test_an_entry_without_packages_is_refused_with_a_way_out(run: Run) -> None:
    file = entry(**{"$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"})
    code, out, err = run(file)
    assert (code, out) == (1, "")
    assert "none at all" in err
    assert 'write its command or its url: {"mcpServers"' in err


@requirement("import.registry")
@pytest.mark.parametrize(
    ("identifier", "base", "image"),
    [
        ("example/crm", "https://ghcr.io", "ghcr.io/example/crm:1.2.0"),
        ("ghcr.io/example/crm", "https://ghcr.io/", "ghcr.io/example/crm:1.2.0"),
        ("example/crm", "https://docker.io", "example/crm:1.2.0"),
        ("example/crm", "https://hub.docker.com", "example/crm:1.2.0"),
        ("quay.io/example/crm", "https://ghcr.io", "quay.io/example/crm:1.2.0"),
    ],
)
def test_an_image_has_the_registry_of_its_entry(run: Run, identifier: str, base: str, image: str) -> None:
    package = {**OCI, "identifier": identifier, "registryBaseUrl": base}
    stdio = spec(run, entry(packages=[package]), "--command", "crm=crm-server")["server"]["stdio"]
    assert stdio["image"] == image


@requirement("import.registry")
def test_a_package_of_another_registry_is_noted(run: Run) -> None:
    package = {**NPM, "registryBaseUrl": "https://packages.example.com"}
    _, out, _ = run(entry(packages=[package]), "--image", "crm=example/crm:1")
    assert "the entry takes its package from another registry than npx: 'packages.example.com'" in out


def positional(*words: str) -> list[dict[str, Any]]:
    return [{"type": "positional", "value": word} for word in words]


@requirement("import.registry")
@pytest.mark.parametrize(
    ("package", "words"),
    [
        (
            {**NPM, "runtimeArguments": positional("-y", "@example/crm@latest"), "packageArguments": []},
            ["npx", "-y", "@example/crm@latest"],
        ),
        (
            {
                **PYPI,
                "environment_variables": [],
                "runtime_arguments": [{"type": "named", "name": "--from", "value": "example-crm[mcp]==1.2.0"}],
                "package_arguments": positional("crm", "stdio"),
            },
            ["uvx", "--from", "example-crm[mcp]==1.2.0", "crm", "stdio"],
        ),
    ],
)
def test_a_package_that_the_arguments_of_the_runner_name_is_not_named_twice(
    run: Run, package: dict[str, Any], words: list[str]
) -> None:
    stdio = spec(run, entry(packages=[package]), "--image", "crm=example/crm:1")["server"]["stdio"]
    assert [*stdio["command"], *stdio["args"]] == words


@requirement("import.registry")
def test_the_command_of_docker_in_an_entry_of_the_first_schema_is_read(run: Run) -> None:
    package = {
        "registry_name": "docker",
        "name": "example/crm",
        "runtime_arguments": positional("run", "-i", "--rm", "example/crm"),
        "environment_variables": [{"name": "CRM_TOKEN", "is_required": True}, {"name": "PORT", "value": 80}],
    }
    stdio = spec(run, entry(packages=[package]), "--command", "crm=crm-server")["server"]["stdio"]
    assert stdio["image"] == "example/crm"
    assert [one["name"] for one in stdio["env"]] == ["CRM_TOKEN", "PORT"]


@requirement("import.registry", "import.secrets")
@pytest.mark.parametrize("mark", [True, "true"])
def test_no_value_that_the_entry_marks_as_secret_is_printed_whatever_its_shape(run: Run, mark: Any) -> None:
    secret = {"isSecret": mark, "value": "production"}
    filled = {"isSecret": mark, "value": "{a}", "variables": {"a": {"default": "production"}}}
    package = {**NPM, "environmentVariables": [{"name": "MODE", **secret}, {"name": "OTHER", **filled}]}
    code, out, err = run(entry(packages=[package]), "--image-for", "npx=registry.example.com/npx:1")
    assert code == 0, err
    assert "production" not in out
    env = yaml.safe_load(out)["spec"]["server"]["stdio"]["env"]
    assert [one["valueFrom"]["secretKeyRef"]["key"] for one in env] == ["MODE", "OTHER"]
    named = {"type": "named", "name": "--mode", **secret}
    code, out, err = run(entry(packages=[{**NPM, "packageArguments": [named]}]), "--image-for", "npx=a")
    assert (code, out) == (1, "")
    assert "packageArguments[0]" in err
    assert "production" not in err
