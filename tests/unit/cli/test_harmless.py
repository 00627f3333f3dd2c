"""The list of harmless shapes: what is on it, and that no secret of a generated corpus is."""

import base64
import contextlib
import io
import json
import random
import string
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock_cli.harmless import harmful_arguments, is_harmless, is_image, is_package
from interlock_cli.import_servers import main
from interlock_cli.secret_names import kind_of
from tests.requirements import requirement

HARMLESS = {
    "flag": [("NODE_OPTIONS", "--max-old-space-size=4096 --no-warnings"), ("", "--read-only"), ("", "-Xmx512m")],
    "number": [("PORT", "8080"), ("RATIO", "0.75"), ("WAIT", "30s"), ("TIMEOUT", "600000"), ("MAX_TOKENS", "200000")],
    "size": [("", "1920x1080")],
    "end of options": [("", "--"), ("", "-")],
    "version": [("", "0.0.1a4"), ("", "1.2.3"), ("API_VERSION", "2025-06-18"), ("", "v2.0.0-rc.1")],
    "package": [
        ("", "@aurda012/cursor10x-mcp"),
        ("", "serena@latest"),
        ("", "@scope/server-name@1.2.3"),
        ("", "mcp-server-git"),
        ("", "server==1.0"),
    ],
    "path": [
        ("DATA_DIR", "./data"),
        ("", "~/notes"),
        ("", "C:\\Program Files\\crm"),
        ("TOKEN_FILE", "/run/crm/token.txt"),
    ],
    "host": [("DB_HOST", "db-01.internal.example.com"), ("", "localhost:5432"), ("", "10.1.2.3"), ("", "::1")],
    "URL": [
        ("", "https://api.example.com/v1?format=json"),
        ("DB", "postgres://db.example.com:5432/crm"),
        ("", "http://crm:80"),
        ("NEO4J_URI", "neo4j+s://db.example.com"),
        ("", "https://YOUR-SERVER/mcp"),
    ],
    "word": [
        ("LOG_LEVEL", "debug"),
        ("USE_TOKEN", "true"),
        ("AUTH_MODE", "none"),
        ("", "application/json, text/event-stream"),
    ],
    "label": [
        ("REGION", "asia-northeast1"),
        ("SUI_NETWORK", "mainnet"),
        ("MODEL", "claude-3-5-sonnet-20241022"),
        ("DB_NAME", "mydb"),
        ("TZ", "America/New_York"),
    ],
    "JSON": [("", '{"debug": true, "port": 80}')],
}


@requirement("import.keep")
@pytest.mark.parametrize("shape", HARMLESS)
def test_a_harmless_value_stays_a_value(shape: str) -> None:
    assert [one for one in HARMLESS[shape] if not is_harmless(one[1], one[0])] == []


KINDS = {
    "secret": "DB_PASSWORD dbPass CRM_PASSPHRASE WALLET_MNEMONIC X-Api-Key apikey GH_PAT PGPASSWORD AUTH dbpass "
    "accessToken SEED_PHRASE SLACK_WEBHOOK_URL SESSION privateKey PIN clientsecret",
    "setting": "AUTH_MODE USE_TOKEN no-auth auth-timeout session-dir TOKEN_FILE PASSWORD_LENGTH ENABLE_AUTH TOKEN_URL "
    "DSN connectionString",
    "measure": "TIMEOUT max-items MAX_TOKENS pageSize RETRY_COUNT",
    "label": "REGION DB_NAME OPENAI_MODEL projectName",
    "neutral": "MONKEY AUTHOR KEYBOARD BYPASS TRESPASS TOKENIZERS_PARALLELISM COMPASS LOG",
}


@requirement("import.keep")
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_says_what_kind_of_value_it_has(kind: str) -> None:
    assert {name: kind_of(name) for name in KINDS[kind].split()} == dict.fromkeys(KINDS[kind].split(), kind)


@requirement("import.keep")
def test_arguments_are_judged_by_the_flag_before_them() -> None:
    words = [
        "--no-auth",
        "--port",
        "3000",
        "--api-key",
        "1234",
        "-p",
        "admin",
        "-p",
        "80",
        "--db",
        "mydb",
        "start",
        "mydb",
    ]
    assert [words[index] for index in harmful_arguments(words, frozenset())] == ["1234", "admin", "mydb"]


@requirement("import.keep")
@pytest.mark.parametrize(
    ("words", "harmful"),
    [
        (["--read-only", "--token=abc"], ["--token=abc"]),
        (["--token-file", "--verbose=true"], []),
        (["--password", "-x=1"], ["-x=1"]),
        (["-k", "1234"], ["1234"]),
        (["-p", "3000"], []),
        (["--password", "true"], ["true"]),
        (["--no-auth", "--port", "3000"], []),
    ],
)
def test_a_flag_is_no_value_of_the_flag_before_it(words: list[str], harmful: list[str]) -> None:
    assert [words[index] for index in harmful_arguments(words, frozenset())] == harmful


def test_packages_and_images_are_judged_in_their_places() -> None:
    assert all(
        map(is_package, ["crm", "@upstash/context7-mcp@latest", "git+https://github.com/oraios/serena", "mcp[cli]"])
    )
    assert all(
        map(is_image, ["ghcr.io/github/github-mcp-server", "localhost:5000/crm@sha256:" + "0" * 64, "mcp/fetch:1.2"])
    )
    assert not any(map(is_package, ["gUFBUs44-@-iwY", "@scope/zq1w2e3r4t5y6u7i", "@scope/xkqzjwvbnfghtrwq"]))
    assert not any(map(is_image, ["Zq1w2e3r4t5y6u7i", "zq1w2e3r4t5y6u7i"]))


LETTERS, DIGITS = string.ascii_letters, string.digits
SECRETS: list[Callable[[random.Random], str]] = [
    lambda chance: signs(chance, "0123456789abcdef", chance.choice([16, 32, 64])),
    lambda chance: signs(chance, LETTERS + DIGITS, chance.randint(12, 48)),
    lambda chance: signs(chance, LETTERS, chance.randint(16, 40)),
    lambda chance: signs(chance, string.ascii_lowercase, chance.randint(16, 40)),
    lambda chance: signs(chance, string.ascii_uppercase + "234567", chance.randint(16, 40)),
    lambda chance: signs(chance, LETTERS + DIGITS + "/+", 40),
    lambda chance: signs(chance, LETTERS + DIGITS + "!@#$%^&*-_", chance.randint(12, 24)),
    lambda chance: signs(chance, "123456789", chance.randint(8, 16)),
    lambda chance: base64.b64encode(chance.randbytes(chance.randint(12, 40))).decode(),
    lambda chance: base64.urlsafe_b64encode(chance.randbytes(chance.randint(12, 40))).decode().rstrip("="),
    lambda chance: str(uuid.UUID(int=chance.getrandbits(128))),
    lambda chance: "ghp_" + signs(chance, LETTERS + DIGITS, 36),
    lambda chance: "sk-proj-" + signs(chance, LETTERS + DIGITS + "_-", 48),
    lambda chance: ".".join(signs(chance, LETTERS + DIGITS + "_-", chance.randint(20, 40)) for _ in range(3)),
    lambda chance: "-".join(signs(chance, string.ascii_lowercase, 4) for _ in range(4)),
    lambda chance: json.dumps([chance.randrange(100, 256) for _ in range(32)]),
    lambda chance: chance.choice(["Summer", "hunter", "letmein"]) + signs(chance, DIGITS, 4) + "!",
]
"""Generators of secrets: tokens, keys, passwords."""


def signs(chance: random.Random, alphabet: str, count: int) -> str:
    return "".join(chance.choice(alphabet) for _ in range(count))


def stdio(*args: str, command: str = "crm-server", **members: Any) -> dict[str, Any]:
    return {"command": command, "args": list(args), **members}


def env(name: str, value: str) -> dict[str, Any]:
    return {"command": "crm-server", "env": {name: value}}


def remote(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {"url": url, **({"headers": headers} if headers else {})}


URL = "https://crm.example.com/mcp"
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "an argument": lambda secret: stdio("start", secret),
    "a value in JSON": lambda secret: stdio("--config", json.dumps({"apiKey": secret, "a": [{"b": secret}]})),
    "a value of a flag": lambda secret: stdio(f"--data={secret}"),
    "a value after a flag": lambda secret: stdio("--project", secret),
    "a value after a short flag": lambda secret: stdio("-k", secret),
    "a part of a short flag": lambda secret: stdio(f"-p{secret}"),
    "an argument after a package": lambda secret: stdio("-y", "@crm/server", secret, command="npx"),
    "a package": lambda secret: stdio("-y", secret, command="npx"),
    "a query in an argument": lambda secret: stdio(f"{URL}?api_key={secret}"),
    "a path of a URL in an argument": lambda secret: stdio(f"https://crm.example.com/{secret}/mcp"),
    "a line of a shell": lambda secret: stdio("-c", f"export API_KEY={secret} && crm-server", command="sh"),
    "a command line": lambda secret: {"command": f"npx crm --token {secret}"},
    "a program": lambda secret: {"command": secret},
    "a query": lambda secret: remote(f"{URL}?v={secret}"),
    "a path of a URL": lambda secret: remote(f"https://crm.example.com/s/{secret}/mcp"),
    "a fragment": lambda secret: stdio(f"{URL}#{secret}"),
    "a user of a URL": lambda secret: remote(f"https://{secret}@crm.example.com/mcp"),
    "a header": lambda secret: remote(URL, {"X-Thing": secret}),
    "a header with a scheme": lambda secret: remote(URL, {"X-Thing": f"Bearer {secret}"}),
    "a header of mcp-remote": lambda secret: stdio("mcp-remote", URL, "--header", f"X-Thing: {secret}", command="npx"),
    "a header without a name": lambda secret: stdio("mcp-remote", URL, "--header", secret, command="npx"),
    "a variable's name of docker": lambda secret: stdio("run", "-e", f"{secret}=x", "example/crm:1", command="docker"),
    "a variable of docker that env lacks": lambda secret: stdio("run", "-e", secret, "example/crm:1", command="docker"),
    "a URL of mcp-remote": lambda secret: stdio("mcp-remote", f"https://crm.example.com/{secret}/mcp", command="npx"),
    "a variable": lambda secret: env("THING", secret),
    "a password": lambda secret: env("DB_PASSWORD", secret),
    "a password after a dollar sign": lambda secret: env("DB_PASSWORD", f"${secret}"),
    "a name of a placeholder": lambda secret: env("DB_PASSWORD", f"${{{secret}}}"),
    "a default": lambda secret: env("THING", f"${{NAME:-{secret}}}"),
    "a default after a scheme": lambda secret: env("THING", f"Bearer ${{NAME:-{secret}}}"),
    "a label": lambda secret: env("PROJECT_NAME", secret),
    "a folder": lambda secret: env("DATA_DIR", secret),
    "a measure": lambda secret: env("PAGE_KIND", secret),
    "a connection string": lambda secret: env("DB", f"Server=db;Database=crm;Uid=crm;Pwd={secret};"),
    "a password of a URL": lambda secret: env("DB", f"postgres://crm:{secret}@db/crm"),
    "a webhook": lambda secret: env("NOTIFY", f"https://chat.example.com/services/{secret}"),
    "JSON in a variable": lambda secret: env("CONFIG", json.dumps({"a": {"token": secret}})),
    "options in a variable": lambda secret: env("OPTIONS", f"--token={secret} --verbose"),
    "a name of a variable": lambda secret: env(secret, "x"),
    "a variable of docker": lambda secret: stdio("run", "-e", f"THING={secret}", "example/crm:1", command="docker"),
    "an argument of docker": lambda secret: stdio("run", "example/crm:1", secret, command="docker"),
    "an image": lambda secret: stdio("run", secret, command="docker"),
    "a flag of docker": lambda secret: stdio("run", f"--x={secret}", "example/crm:1", command="docker"),
    "an entry point": lambda secret: stdio("run", "--entrypoint", secret, "example/crm:1", command="docker"),
    "a tag": lambda secret: stdio("run", f"example/crm:{secret}", command="docker"),
    "a version": lambda secret: stdio("-y", f"crm@{secret}", command="npx"),
    "a version of Python": lambda secret: stdio(f"crm=={secret}", command="uvx"),
    "a branch": lambda secret: stdio("-y", f"github:example/crm#{secret}", command="npx"),
    "a folder of uv": lambda secret: stdio("--directory", secret, "run", "server.py", command="uv"),
    "a module": lambda secret: stdio("-m", secret, command="python"),
    "a program file": lambda secret: stdio(secret, command="node"),
    "a folder of the program": lambda secret: stdio("-y", "crm", command=f"/Users/{secret}/bin/npx"),
    "a program of cmd": lambda secret: stdio("/c", secret, command="cmd"),
    "a variable of env": lambda secret: stdio(f"A={secret}", "npx", "crm", command="env"),
    "a variable's name of env": lambda secret: stdio(f"{secret}=a", "npx", "crm", command="env"),
    "a path": lambda secret: stdio(f"/data/{secret}"),
    "a file": lambda secret: stdio(f"./{secret}.json"),
    "a path of Windows": lambda secret: stdio(f"C:\\{secret}"),
    "a user and a password": lambda secret: stdio("--user", f"admin:{secret}"),
    "data of a form": lambda secret: stdio("--data", f"a=1&b={secret}"),
    "a quoted word": lambda secret: stdio(f"'{secret}'"),
    "a host": lambda secret: stdio(f"{secret}.example.com"),
    "a password of Redis": lambda secret: stdio(f"redis://:{secret}@db.example.com:6379/0"),
    "a list in a variable": lambda secret: env("THING", f"a,{secret},b"),
    "lines": lambda secret: env("THING", f"a\n{secret}"),
    "a mode": lambda secret: env("AUTH_MODE", secret),
    "a path of a token's URL": lambda secret: env("TOKEN_URL", f"https://crm.example.com/{secret}"),
    "a placeholder of opencode": lambda secret: env("THING", "{env:" + secret + "}"),
    "a file of opencode": lambda secret: env("THING", "{file:" + secret + "}"),
    "an input": lambda secret: env("THING", "${input:" + secret + "}"),
    "a placeholder in an argument": lambda secret: stdio("${" + secret + "}"),
    "a name of a header": lambda secret: remote(URL, {secret: "x"}),
    "a name of a setting": lambda secret: {"url": URL, secret: 1},
    "a token in the place of its name at Codex": lambda secret: {"url": URL, "bearer_token_env_var": secret},
    "a header in the place of its name at Codex": lambda secret: {"url": URL, "env_http_headers": {"X-A": secret}},
    "a variable of Codex": lambda secret: stdio(env_vars=[secret]),
    "a list of opencode": lambda secret: {"command": ["crm-server", secret], "environment": {"A": secret}},
    "an object of Zed": lambda secret: {"command": {"path": "crm-server", "args": [secret], "env": {"A": secret}}},
    "a type": lambda secret: stdio(type=secret),
    "an unknown setting": lambda secret: stdio(thing=secret, cwd=secret),
    "a token of Anthropic's API": lambda secret: {"url": URL, "authorization_token": secret},
    "a token of OpenAI's API": lambda secret: {"server_url": URL, "authorization": secret},
    "a key of Goose": lambda secret: {"cmd": "crm-server", "envs": {"A": secret}, "env_keys": [secret]},
    "a setting of the client": lambda secret: {"url": URL, "apiKey": secret, "auth": {"token": secret}},
    "a permission": lambda secret: stdio(permissions={"read": [secret]}),
}


def registry_entry(secret: str) -> dict[str, Any]:
    variable = {"name": "A", "value": "x {t}", "variables": {"t": {"default": secret}}}
    package = {
        "registryType": "npm",
        "identifier": "crm",
        "packageArguments": [
            {"type": "positional", "value": secret},
            {"type": "named", "name": "--x", "default": secret},
        ],
        "environmentVariables": [variable, {"name": "B", "default": secret}],
    }
    return {"name": "io.example/crm", "packages": [package], "remotes": [{"type": secret, "url": secret}]}


def mcp_bundle(secret: str) -> dict[str, Any]:
    config = stdio("${user_config.a}", f"${{user_config.{secret}}}", env={"A": "${user_config.a}"})
    described = {"a": {"type": "string", "default": secret}, secret: {"type": "string"}}
    return {"manifest_version": "0.3", "name": "crm", "server": {"mcp_config": config}, "user_config": described}


DOCUMENTS: dict[str, Callable[[str], str]] = {
    name: lambda secret, place=place: json.dumps({"mcpServers": {"crm": place(secret)}})
    for name, place in PLACES.items()
} | {
    "an entry of the registry": lambda secret: json.dumps(registry_entry(secret)),
    "a default of an input": lambda secret: json.dumps(
        {"servers": {"crm": env("THING", "${input:a}")}, "inputs": [{"id": "a", "default": secret}]}
    ),
    "a project of Claude Code": lambda secret: json.dumps(
        {"projects": {f"/home/ana/{secret}": {"mcpServers": {"crm": stdio(secret, env={"A": secret}), "b": 1}}}}
    ),
    "an MCP bundle": lambda secret: json.dumps(mcp_bundle(secret)),
    "a key that is there twice": lambda secret: f"{{{json.dumps(secret)}: 1, {json.dumps(secret)}: 2}}",
    "a name of a server": lambda secret: json.dumps({"mcpServers": {f"{URL}?key={secret}": {"url": URL}}}),
    "a server next to the others": lambda secret: json.dumps(
        {"mcpServers": {"crm": {"url": URL}}, f"{URL}?key={secret}": {"url": URL}}
    ),
    "a key at the top": lambda secret: json.dumps({secret: {"a": 1}}),
    "TOML": lambda secret: f'[mcp_servers.crm]\nargs = ["{secret}"]\n',
    "a place that is no JSON": lambda secret: f'{{"mcpServers": {json.dumps(secret)} x}}',
}


@requirement("import.secrets")
@pytest.mark.parametrize("place", DOCUMENTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), kind=st.integers(0, len(SECRETS) - 1))
def test_no_generated_secret_is_printed_on_either_stream(place: str, tmp_path: Path, seed: int, kind: int) -> None:
    secret = SECRETS[kind](random.Random(seed))  # noqa: S311 - secrets of a test are reproducible
    (tmp_path / "mcp.json").write_text(DOCUMENTS[place](secret))
    command = ["--command", "crm=crm-server"] if "docker" in place else []
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main([str(tmp_path / "mcp.json"), "--image", "crm=example/crm:1", *command])
    # Long values are wrapped.
    printed = "".join(out.getvalue().split()) + "".join(err.getvalue().split())
    assert secret not in printed
    assert json.dumps(secret)[1:-1] not in printed
