"""Settings that real files of many clients have, one in each file, and the line that their user must see."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from interlock.api.binding import MCPBinding
from tests.requirements import requirement
from tests.unit.cli.conftest import Run

SECRET = "Zq1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h"  # noqa: S105 - made up
IMAGES = ("--image", "crm=example/crm:1")
REMOTE = "https://crm.example.com/mcp"


@dataclass(frozen=True)
class Case:
    """A file, and what its import must print.

    Attributes:
        file: The file, or its only server.
        printed: What both streams must have together, white space and comment signs aside.
        code: The exit code.
        options: The options of the import.
        absent: What neither stream may have.
    """

    file: Any
    printed: tuple[str, ...] = ()
    code: int = 0
    options: tuple[str, ...] = ()
    absent: tuple[str, ...] = (SECRET,)


def stdio(*args: str, command: str = "crm-server", **members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"command": command, "args": list(args), **members}}}


def remote(url: str = REMOTE, **members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"url": url, **members}}}


def refused(file: Any, *printed: str, options: tuple[str, ...] = IMAGES) -> Case:
    return Case(file, printed, 1, options)


def imported(file: Any, *printed: str, options: tuple[str, ...] = IMAGES, absent: tuple[str, ...] = ()) -> Case:
    return Case(file, printed, 0, options, (SECRET, *absent))


HTTP = ()
FOLDER = "which only the MCP client can fill in"
SSE = "the SSE transport of 2024-11-05, which Interlock does not support"
MACHINE = "these paths of your machine do not exist in a pod"
KEY = "--from-file="

CASES = {
    # Paths of the user's machine
    "a path in command": imported(
        stdio("-y", "crm", command="/Users/me/.local/bin/npx"), "command: - npx", "command is a path of your machine"
    ),
    "paths in all spellings": imported(
        stdio(
            "C:/Users/me/crm/index.js",
            "dist/index.js",
            "--dir=/Users/me/crm",
            "/opt/homebrew/share/crm",
            "/mnt/c/crm",
            command="node",
        ),
        f"{MACHINE}: 'C:/Users/me/crm/index.js', 'dist/index.js', '/Users/me/crm', '/opt/homebrew/share/crm', "
        "'/mnt/c/crm'",
    ),
    "more spellings": imported(
        stdio(
            "/workspaces/crm",
            "~/crm",
            "..",
            "/root/crm",
            "C:\\Users\\me\\crm",
            "%USERPROFILE%\\crm",
            "./crm",
            "/Applications/crm",
            "server.py",
            "/c/Users/me",
        ),
        "'/workspaces/crm', '~/crm', '..', '/root/crm', 'C:\\\\Users\\\\me\\\\crm', '%USERPROFILE%\\\\crm', './crm', "
        "'/Applications/crm', 'server.py', '/c/Users/me'",
    ),
    "a path that the image may have": imported(stdio("/data/crm"), "these paths must exist in the image: '/data/crm'"),
    "a path in the image": imported(stdio("/usr/share/crm", "/tmp/crm"), absent=("paths",)),  # noqa: S108
    "a path of a virtual environment": imported(stdio("-m", "crm", command=".venv/bin/python"), "command: - python"),
    "a path among variables": imported(stdio(env={"A": "/home/me/crm"}), f"{MACHINE}: '/home/me/crm'"),
    "a path in a Secret": imported(
        stdio(env={"A_KEY": "/home/me/Zq1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h"}), f"{MACHINE}: env.A_KEY", KEY
    ),
    "localhost in variables": imported(
        stdio(env={"DB_HOST": "localhost", "CRM_URL": "http://127.0.0.1:8080"}),
        "env.DB_HOST, env.CRM_URL: localhost, 127.0.0.1 is your own machine, and in a pod the pod itself",
    ),
    "localhost in arguments": imported(
        stdio("--url=http://host.docker.internal:80"), "args[0]: host.docker.internal is your own machine"
    ),
    "localhost in a secret": imported(
        stdio(env={"DB": f"postgres://ada:{SECRET}@localhost/crm"}), "env.DB: localhost is your own machine", KEY
    ),
    "a folder in another language": imported(
        stdio("--directory", "/절대경로/crm", "run", command="uv"), "these paths must exist in the image: '/"
    ),
    "a folder of the user in another language": imported(stdio("/Users/josé/crm"), f"{MACHINE}: '/Users/jos"),
    "a path in a URL": imported(stdio("sqlite:////Users/me/crm.db"), f"{MACHINE}: 'sqlite:////Users/me/crm.db'"),
    "a path in a line of a shell": imported(
        stdio("-c", "cd /Users/me/crm && npm run start", command="bash"), f"{MACHINE}: '/Users/me/crm"
    ),
    "a transport in arguments": imported(
        stdio("--transport", "sse", "--port", "80"), "args[1]: a server in a pod must use the transport stdio"
    ),
    "a transport in variables": imported(
        stdio("--transport=stdio", env={"MCP_TRANSPORT": "streamable-http"}),
        "env.MCP_TRANSPORT: a server in a pod must",
    ),
    "stdio in arguments": imported(stdio("--transport", "stdio"), absent=("must use the transport",)),
    "several paths in one argument": imported(
        stdio("-cp", "D:/crm/crm.jar;D:/lib/crm.jar", command="java"), f"{MACHINE}: 'D:/crm/crm.jar', 'D:/lib/crm.jar'"
    ),
    # Secrets
    "a secret as an argument": refused(stdio("start", SECRET), "crm.args[1] may be a secret", "--keep crm:args[1]"),
    "a secret in JSON": refused(stdio("--config", json.dumps({"apiKey": SECRET})), "args[1] may be a secret"),
    "a secret in a URL": refused(stdio("--url", f"{REMOTE}?api_key={SECRET}"), "args[1] may be a secret"),
    "a secret in a URL of mcp-remote": refused(
        stdio("mcp-remote", f"{REMOTE}?api_key={SECRET}"), "args[1] has a possible secret"
    ),
    "a secret after a short flag": refused(stdio("-k", SECRET), "args[1] may be a secret"),
    "a secret in a line of a shell": refused(
        stdio("-c", f"export API_KEY={SECRET} && crm-server", command="sh"), "args[1]"
    ),
    "a password of digits": imported(
        stdio(env={"DB_PASSWORD": "123456"}), f"{KEY}DB_PASSWORD=FILE", absent=("123456",)
    ),
    "a password that says true": imported(
        stdio(env={"DB_PASSWORD": "true"}), f"{KEY}DB_PASSWORD=FILE", absent=("'true'",)
    ),
    "a password that begins with a dollar sign": imported(
        stdio(env={"DB_PASSWORD": "$ecretPassw0rd"}), "key: DB_PASSWORD", absent=("ecretPassw0rd",)
    ),
    "a passphrase": imported(
        stdio(env={"CRM_PASSPHRASE": "my-Phrase-1!"}), "key: CRM_PASSPHRASE", absent=("my-Phrase",)
    ),
    "a seed phrase": imported(
        stdio(env={"WALLET": "test code start list index search time team north west east south"}),
        "key: WALLET",
        absent=("north west",),
    ),
    "a name in camel case": imported(stdio(env={"dbPass": "swordfish"}), "key: dbPass", absent=("swordfish",)),
    "a connection string": imported(
        stdio(env={"DB": "Server=db;Database=crm;User=crm;Password=swordfish;"}), "key: DB", absent=("swordfish",)
    ),
    "a password in a query": imported(
        stdio(env={"DB": "postgres://db.example.com/crm?password=swordfish"}), "key: DB", absent=("swordfish",)
    ),
    "JSON in a variable": imported(stdio(env={"A": json.dumps({"a": {"token": "x"}})}), "key: A", absent=("token",)),
    "a webhook": imported(
        stdio(env={"A": "https://hooks.slack.com/services/T0/B0/x"}), "key: A", absent=("hooks.slack.com",)
    ),
    "a webhook without a key": imported(
        stdio(env={"A": "https://chat.example.com/webhook/sales"}), "key: A", absent=("chat.example.com",)
    ),
    "a key in the path of a URL": refused(
        remote(f"https://crm.example.com/s/{SECRET}/mcp"), "url has a possible secret", "--keep crm:url", options=HTTP
    ),
    "an empty secret": imported(stdio(env={"CRM_API_KEY": ""}), "key: CRM_API_KEY", "empty in the file"),
    "a secret in a command line": refused(
        stdio(command=f"npx crm --token {SECRET}"), "crm.command (a value of 48 characters)"
    ),
    "a user in a URL": refused(
        remote(f"https://{SECRET}@crm.example.com/mcp"), "is not the URL of a server", options=HTTP
    ),
    "a secret and a placeholder": imported(
        stdio(env={"CRM_TOKEN": "${TOKEN}", "DB_PASSWORD": "123456"}),
        "each value that is or may be a secret is left out",
        absent=("no secret", "123456"),
    ),
    "a secret as a name": refused(
        stdio(env={SECRET: "CRM_TOKEN"}), "env has (a name of 32 characters) that may be a secret"
    ),
    "a secret as an image": refused(stdio("run", SECRET, command="docker"), "has not the shape of one"),
    # Placeholders
    "a folder in command": refused(
        stdio("-m", "crm", command="${workspaceFolder}/.venv/bin/python"),
        f"crm.command has '${{workspaceFolder}}', {FOLDER}",
    ),
    "a placeholder as an image": refused(
        stdio("run", "-i", "--rm", "${IMAGE}", command="docker"), "crm.args[3] has a placeholder in the image"
    ),
    "a folder of a plugin in arguments": refused(
        stdio("${CLAUDE_PLUGIN_ROOT}/index.js", command="node"), f"args[0] has '${{CLAUDE_PLUGIN_ROOT}}', {FOLDER}"
    ),
    "a folder of a plugin in variables": refused(
        stdio(env={"DATA_DIR": "${CLAUDE_PLUGIN_ROOT}/data"}), f"env.DATA_DIR has '${{CLAUDE_PLUGIN_ROOT}}', {FOLDER}"
    ),
    "folders of editors": refused(
        stdio("${workspaceRoot}/a", "${extensionPath}/b", env={"A": "$HOME/c", "B": "${userHome}/d"}),
        "args[0] has '${workspaceRoot}'",
        "args[1] has '${extensionPath}'",
        "env.A has '$HOME'",
        "env.B has '${userHome}'",
    ),
    "a default": imported(stdio("${PORT:-3000}", env={"LOG_LEVEL": "${LOG_LEVEL:-info}"}), "- '3000'", "value: info"),
    "a default that may be a secret": imported(
        stdio(env={"A": "${A_TOKEN:-swordfish}"}), "key: A_TOKEN", absent=("swordfish",)
    ),
    "two spellings of a placeholder": imported(stdio(env={"A": "${env:TOKEN}", "B": "${TOKEN}"}), f"{KEY}TOKEN=FILE"),
    "a placeholder of opencode": imported(stdio(env={"A": "{env:CRM_KEY}"}), f"{KEY}CRM_KEY=FILE", absent=("{env",)),
    # Servers over HTTP
    "mcp-remote": imported(
        stdio("-y", "mcp-remote", REMOTE, command="npx"),
        f"http: url: {REMOTE}",
        "mcp-remote is left out",
        absent=("stdio",),
        options=HTTP,
    ),
    "mcp-remote with a header": imported(
        stdio("-y", "mcp-remote@latest", REMOTE, "--header", "Authorization: Bearer ${TOKEN}", command="npx"),
        f"http: url: {REMOTE}",
        f"{KEY}Authorization=FILE",
        'the whole value: "Bearer " and ${TOKEN}',
        options=HTTP,
    ),
    "mcp-remote with a header from a variable": imported(
        stdio(
            "mcp-remote",
            REMOTE,
            "--header",
            "Authorization:${AUTH_HEADER}",
            command="npx",
            env={"AUTH_HEADER": f"Bearer {SECRET}"},
        ),
        "name: Authorization",
        f"{KEY}Authorization=FILE",
        options=HTTP,
    ),
    "mcp-remote to the own machine": refused(
        stdio("-y", "mcp-remote", "http://localhost:3000/mcp", command="npx"),
        "args[2] is your own machine",
        options=HTTP,
    ),
    "mcp-remote over SSE": refused(
        stdio("mcp-remote", REMOTE, "--transport", "sse-only", command="npx"), "uses SSE", options=HTTP
    ),
    "supergateway over SSE": refused(
        stdio("-y", "supergateway", "--sse", REMOTE, command="npx"), "uses SSE", options=HTTP
    ),
    "SSE as transportType": refused(remote(transportType="sse"), f"crm.transportType is sse, {SSE}", options=HTTP),
    "SSE in capitals": refused(remote(type="SSE"), f"crm.type is SSE, {SSE}", options=HTTP),
    "SSE in an object": refused(
        {"mcpServers": {"crm": {"transport": {"type": "sse", "url": REMOTE}}}},
        f"transport.type is sse, {SSE}",
        options=HTTP,
    ),
    "SSE by the end of the URL": refused(
        remote("https://crm.example.com/sse"), "crm.url ends in /sse", "--keep crm:url", options=HTTP
    ),
    "an end of the URL that is kept": imported(
        remote("https://crm.example.com/sse"), "url: https://crm.example.com/sse", options=("--keep", "crm:url")
    ),
    "an end of the URL with a type": imported(
        remote("https://crm.example.com/sse", type="http"), "the URL ends in /sse", options=HTTP
    ),
    "a WebSocket": refused(remote(type="ws"), "crm.type is", "write http", options=HTTP),
    "a Service": imported(remote("https://crm.crm.svc.cluster.local/mcp"), "add --private crm", options=HTTP),
    "headers of the guard": imported(
        remote(headers={"Accept": "application/json", "Content-Type": "application/json", "X-Region": "eu"}),
        "left out, because the guard writes them: Accept, Content-Type",
        "headers: - name: X-Region value: eu",
        options=HTTP,
    ),
    "a user of a database": imported(
        stdio("postgresql://postgres@db.example.com:5432/crm"), "postgresql://postgres@db"
    ),
    "an unknown user of a database": refused(
        stdio(f"postgresql://{SECRET}@db.example.com/crm"), "args[0] may be a secret"
    ),
    # Images and wrappers
    "an image": refused(
        stdio("run", "-i", "--rm", "example/crm:1", command="docker"),
        'add --command "crm=<Entrypoint and Cmd>", as docker image inspect',
        options=HTTP,
    ),
    "an image with arguments": refused(
        stdio("run", "example/crm:1", "stdio", command="docker"), 'add --command "crm=<Entrypoint>"', options=HTTP
    ),
    "an image that is known": imported(
        stdio("run", "-i", "ghcr.io/github/github-mcp-server:v1", command="docker"),
        "command: - /server/github-mcp-server - stdio",
        options=HTTP,
    ),
    "an entry point": imported(
        stdio("run", "--entrypoint", "crm-server", "example/crm:1", "stdio", command="docker"),
        "command: - crm-server args: - stdio",
        options=HTTP,
    ),
    "flags of docker run": imported(
        stdio(
            "run",
            "--name",
            "crm",
            "--pull=always",
            "--platform",
            "linux/amd64",
            "-m",
            "1g",
            "example/crm:1",
            command="docker",
        ),
        "image: example/crm:1",
        options=("--command", "crm=crm-server"),
    ),
    "volumes and ports of docker run": refused(
        stdio("run", "-v", "/a:/b", "-p", "80:80", "--network=host", "example/crm:1", command="docker"),
        "'-v', '-p', '--network' of docker run cannot be imported",
        options=("--command", "crm=crm-server"),
    ),
    "an index after cmd": refused(
        stdio("/c", "npx", "-y", "crm", "--api-key", SECRET, command="cmd"), "crm.args[5] may be"
    ),
    "an index after docker": refused(
        stdio("run", "-i", "--rm", "example/crm:1", "--api-key", SECRET, command="docker"), "crm.args[5] may be"
    ),
    "cmd with more flags": imported(stdio("/d", "/s", "/c", "npx", "-y", "crm", command="cmd.exe"), "command: - npx"),
    "wsl": imported(stdio("-d", "Ubuntu", "npx", "-y", "crm", command="wsl"), "command: - npx"),
    "env": imported(stdio("PORT=3000", "npx", "-y", "crm", command="env"), "command: - npx", "name: PORT"),
    "a program of Windows": imported(
        stdio("-y", "crm", command="C:\\Program Files\\nodejs\\npx.cmd"), "command: - npx"
    ),
    "a program with a suffix": imported(
        stdio("-y", "crm", command="npx.cmd"), "command: - npx", "npx downloads its package"
    ),
    "a shell of Windows": refused(
        stdio("-Command", "npx", command="powershell.exe"), "crm.command is a shell of Windows"
    ),
    # Harmless values
    "a flag after a flag": imported(stdio("--no-auth", "--port", "3000"), "- --no-auth - --port - '3000'"),
    "a number after a telling flag": imported(
        stdio("--auth-timeout", "60", "--max-tokens", "4096"), "- '60'", "- '4096'"
    ),
    "a path after a telling flag": imported(stdio("--session-dir", "/tmp/crm"), "- /tmp/crm"),  # noqa: S108
    "harmless variables": imported(
        stdio(
            env={
                "MODEL": "text-embedding-3-small",
                "PROJECT": "my-project-123456",
                "HOST": "db-01.internal.example.com",
                "NODE_OPTIONS": "--max-old-space-size=4096",
                "AUTH_MODE": "none",
                "USE_TOKEN": "true",
                "GOOGLE_APPLICATION_CREDENTIALS": "/etc/crm/key.json",
            }
        ),
        absent=("secretKeyRef",),
    ),
    "a value that is kept": imported(
        stdio("start", SECRET, env={"A": "swordfish"}),
        "- Zq1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h",
        "value: swordfish",
        "kept as they are by --keep: args[1], env.A",
        options=(*IMAGES, "--keep", "crm:args[1]", "--keep", "crm:env.A"),
    ),
    "a value to keep that is not there": refused(
        stdio(), "--keep crm:env.X names no value of mcpServers.crm", options=(*IMAGES, "--keep", "crm:env.X")
    ),
    "a value to keep without a place": refused(
        stdio(), "--keep 'crm' names no value: write --keep SERVER:env.NAME", options=(*IMAGES, "--keep", "crm")
    ),
    "a placeholder that is kept": imported(
        stdio("${HOME}", env={"A": "${workspaceFolder}"}),
        "- ${HOME}",
        "value: ${workspaceFolder}",
        options=(*IMAGES, "--keep", "crm:args[0]", "--keep", "crm:env.A"),
    ),
    "a transport after a short flag": imported(stdio("mcp", "-t", "stdio"), "- -t - stdio"),
    "a connection string without a password": imported(
        stdio("--connectionString", "mongodb://db.example.com:27017/crm"), "- mongodb://db.example.com:27017/crm"
    ),
    "a server with a digit in its name": refused(
        {"mcpServers": {"n8n": {"command": "npx", "args": ["n8n-mcp"], "env": {"N8N_API_KEY": SECRET}}}},
        "mcpServers.n8n: the file names no image",
        options=HTTP,
    ),
    "packages in repositories": imported(
        stdio("-y", "github:example/crm-mcp#main", command="npx"), "- github:example/crm-mcp#main"
    ),
    "a module of Go": imported(
        stdio("run", "github.com/example/crm/cmd/server@latest", command="go"),
        "- github.com/example/crm/cmd/server@latest",
    ),
    "a query without a value": imported(remote("https://crm.example.com/mcp?login"), "mcp?login", options=HTTP),
    # Several servers and problems
    "several problems": refused(
        stdio("${workspaceFolder}/x", SECRET, env={"PORT": 3000}, cwd="/x", envFile=".env"),
        "crm.cwd cannot",
        "crm.envFile cannot",
        "args[0] has",
        "args[1] may be",
        "env.'PORT' is not a string",
        "names no image",
        options=HTTP,
    ),
    "one cause in two places": refused(stdio("${A}", "${B}"), "crm.args[0], args[1] have a placeholder"),
    "a comment among servers": imported(
        {"mcpServers": {"_comment": "ours", "crm": {"url": REMOTE}}}, "left out: mcpServers._comment", options=HTTP
    ),
    "a disabled twin": imported(
        {"mcpServers": {"CRM": {"url": "https://old.example.com/mcp", "disabled": True}, "crm": {"url": REMOTE}}},
        f"url: {REMOTE}",
        "because it is disabled: mcpServers.CRM",
        options=HTTP,
    ),
    "one refused server": refused(
        {"mcpServers": {"crm": {"url": REMOTE}, "my old": {"type": "sse", "url": "https://old.example.com/sse"}}},
        "my old.type is sse",
        "1 of 2 servers can be imported",
        "--skip 'my old'",
        options=HTTP,
    ),
    "a server that is skipped": imported(
        {"mcpServers": {"crm": {"url": REMOTE}, "My Old": {"type": "sse"}, "!!": {}, "x": "y"}},
        f"url: {REMOTE}",
        options=("--skip", "My Old", "--skip", "!!", "--skip", "x"),
    ),
    "a name of the file": imported(
        {"mcpServers": {"My CRM": {"url": REMOTE}, "old": {"type": "sse"}}},
        "source: my-crm",
        options=("--only", "My CRM"),
    ),
    "a long name": imported(
        {"mcpServers": {"github.com/modelcontextprotocol/servers/tree/main/src/sequentialthinking": {"url": REMOTE}}},
        "source: sequentialthinking",
        options=HTTP,
    ),
    "a server next to mcpServers": imported(
        {"mcpServers": {"crm": {"url": REMOTE}}, "tickets": {"url": "https://tickets.example.com/mcp"}},
        "left out: tickets is next to mcpServers",
        options=HTTP,
    ),
    "two servers of one source": refused(
        {"mcpServers": {"a b": {"url": REMOTE}, "A-B": {"url": REMOTE}, "crm": {"url": "ftp://x"}}},
        "mcpServers.A-B and mcpServers.a b would be one source, a-b: rename one",
        "crm.url",
        "1 of 3 servers can be imported",
        "--skip A-B --skip crm",
        options=HTTP,
    ),
    "too many arguments": refused(stdio(*["stdio"] * 65), "at most 64 items, not 65: use fewer"),
    "a setting that is null": imported(stdio(env=None, headers=None, cwd=None), "image: example/crm:1"),
    "a name in another language": refused({"mcpServers": {"客户": {"url": REMOTE}}}, "mcpServers.客户", options=HTTP),
    # Shapes of other clients
    "opencode": imported(
        {
            "$schema": "x",
            "mcp": {"crm": {"type": "local", "command": ["npx", "-y", "crm"], "environment": {"LOG": "debug"}}},
        },
        "command: - npx args: - -y - crm",
        "name: LOG value: debug",
    ),
    "a secret in the list of opencode": refused(
        {"mcp": {"crm": {"type": "local", "command": ["crm-server", SECRET]}}},
        "mcp.crm.command[1] may be a secret",
        "--keep crm:command[1]",
    ),
    "a kept value in the list of opencode": imported(
        {"mcp": {"crm": {"command": ["crm-server", "swordfish"]}}},
        "- swordfish",
        options=(*IMAGES, "--keep", "crm:command[1]"),
    ),
    "opencode with a server that is only disabled": imported(
        {"mcp": {"crm": {"type": "remote", "url": REMOTE}, "old": {"enabled": False}}}, f"url: {REMOTE}", options=HTTP
    ),
    "servers by themselves with a schema": imported(
        {"$schema": "x", "crm": {"url": REMOTE}}, f"url: {REMOTE}", "left out: $schema", options=HTTP
    ),
    "Zed": imported(
        {"context_servers": {"crm": {"command": {"path": "crm-server", "args": ["stdio"], "env": {"A": "b"}}}}},
        "command: - crm-server args: - stdio",
        f"{KEY}A=FILE",
    ),
    "Gemini": imported(
        {"mcpServers": {"crm": {"httpUrl": REMOTE, "url": "https://x.example.com/sse", "trust": True}}},
        f"url: {REMOTE}",
        options=HTTP,
    ),
    "Windsurf": imported({"mcpServers": {"crm": {"serverUrl": REMOTE}}}, f"url: {REMOTE}", options=HTTP),
    "a list of servers": imported({"mcpServers": [{"name": "crm", "url": REMOTE}]}, f"url: {REMOTE}", options=HTTP),
    "a list by itself": imported([{"name": "crm", "url": REMOTE}], f"url: {REMOTE}", options=HTTP),
    "a list without names": refused({"servers": [{"url": REMOTE}]}, "servers[0] has no name", options=HTTP),
    "inputs": imported(
        {
            "servers": {"crm": {"command": "crm-server", "args": ["${input:level}"], "env": {"T": "${input:t}"}}},
            "inputs": [{"id": "level", "default": "debug"}, {"id": "t", "password": True, "default": "swordfish"}],
        },
        "- debug",
        "t: the value of the input t",
        absent=("swordfish",),
    ),
    "arguments in one string": refused(
        stdio() | {"mcpServers": {"crm": {"command": "npx", "args": "-y crm"}}}, "args is one string with spaces"
    ),
    "projects of Claude Code": imported(
        {
            "numStartups": 25,
            "mcpServers": {"crm": {"url": REMOTE}},
            "projects": {
                "/home/ana/one": {"allowedTools": [], "mcpServers": {"crm": {"url": REMOTE}}},
                "/home/ana/two": {"mcpServers": {"wiki": {"url": "https://wiki.example.com/mcp"}}},
            },
        },
        "name: crm",
        "name: wiki",
        options=HTTP,
    ),
    "projects of Claude Code alone": imported(
        {
            "mcpServers": {},
            "projects": {"C:\\one": {"mcpServers": {"crm": {"url": REMOTE}}}, "/two": {"mcpServers": {}}},
        },
        f"url: {REMOTE}",
        options=HTTP,
    ),
    "one name in two projects": refused(
        {
            "projects": {
                "/home/ana/one": {"mcpServers": {"crm": {"url": REMOTE}}},
                f"/home/{SECRET}": {"mcpServers": {"crm": {"url": "https://crm.example.com/other"}}},
            }
        },
        "projects[1].mcpServers.crm and projects.'/home/ana/one'.mcpServers.crm would be one source, crm",
        "add --skip 'projects[1].mcpServers.crm'",
        options=HTTP,
    ),
    "one name twice in a list": refused(
        [{"name": "crm", "url": REMOTE}, {"name": "crm", "url": "https://crm.example.com/other"}],
        "[1] and [0] would be one source",
        "add --skip '[1]'",
        options=HTTP,
    ),
    "one of two with a name": imported(
        [{"name": "crm", "url": "https://crm.example.com/other"}, {"name": "crm", "url": REMOTE}],
        f"url: {REMOTE}",
        options=("--skip", "[0]"),
        absent=("/other",),
    ),
    "a bundle": imported(
        {
            "manifest_version": "0.3",
            "name": "crm",
            "server": {
                "type": "node",
                "mcp_config": {
                    "command": "crm-server",
                    "args": ["--level", "${user_config.level}"],
                    "env": {"CRM_TOKEN": "${user_config.token}", "DRY": "${user_config.dry}"},
                    "platform_overrides": {"win32": {"command": "crm-server.exe"}},
                },
            },
            "user_config": {
                "level": {"type": "string", "default": "debug"},
                "dry": {"type": "boolean", "default": True},
                "token": {"type": "string", "sensitive": True, "default": SECRET},
            },
        },
        "its program and its other files must be in the image",
        "- debug",
        "value: 'true'",
        "--from-file=user_config.token=FILE",
    ),
    "a bundle with files": refused(
        {
            "dxt_version": "0.1",
            "name": "crm",
            "server": {"mcp_config": {"command": "node", "args": ["${__dirname}/dist/index.js"]}},
        },
        f"crm.server.mcp_config.args[0] has '${{__dirname}}', {FOLDER}",
    ),
    "a bundle without a command": refused(
        {"manifest_version": "0.1", "name": "crm", "server": {"type": "binary", "entry_point": "crm.exe"}},
        "crm.server has no mcp_config: write its command and args",
    ),
    "a manifest of another kind": refused(
        {"manifest_version": 3, "name": "crm", "background": {}}, "the file has neither mcpServers nor servers"
    ),
    "no servers of opencode": refused({"$schema": "x", "mcp": {}}, "mcp names no server"),
    "a schema alone": refused({"$schema": "x", "theme": "dark"}, "neither mcpServers nor servers, but ['theme']"),
    "remote at opencode": refused(
        {"mcp": {"crm": {"type": "remote", "url": "https://crm.example.com/sse"}}}, "crm.url ends in /sse", options=HTTP
    ),
    "Codex, converted from TOML": imported(
        {
            "model": "o3",
            "mcp_servers": {
                "crm": {
                    "url": REMOTE,
                    "bearer_token_env_var": "CRM_TOKEN",
                    "env_http_headers": {"X-Team": "CRM_TEAM"},
                    "http_headers": {"X-Region": "eu"},
                    "tool_timeout_sec": 60,
                },
                "wiki": {"command": "wiki-server", "env_vars": ["WIKI_TOKEN"], "env": {"PORT": "1"}},
            },
        },
        "--from-file=CRM_TEAM=FILE",
        'Authorization: the whole value: "Bearer " and ${CRM_TOKEN}',
        "- name: X-Region value: eu",
        "--from-file=WIKI_TOKEN=FILE",
        options=("--image", "wiki=example/wiki:1"),
        absent=("are unknown",),
    ),
    "Codex with other shapes": imported(
        remote(env_http_headers=[1], env_vars={"A": 1}, bearer_token_env_var=1), "are unknown", options=HTTP
    ),
    # Programs
    "bun x": imported(stdio("x", "crm-mcp", command="bun"), "- x"),
    "a spec of pipx": imported(
        stdio("run", "--spec", "git+https://github.com/example/crm", "crm", command="pipx"), "- --spec", "- crm"
    ),
    "empty values of flags": imported(stdio("--token=", "--api-key", ""), "- --token=", "- ''"),
    "a value after an empty one": refused(stdio("--token=", SECRET), "args[1] may be a secret"),
    "secrets of the machine": refused(
        stdio("run", "--env-file=.env", "--", "npx", "-y", SECRET, command="op"),
        "crm.command is op, which takes secrets from your machine or your account: write the program",
    ),
    "a login of the machine": refused(
        stdio("-i", "~/.ssh/id", "ana@10.1.2.3", "/opt/crm", command="/usr/bin/ssh"),
        "crm.command is ssh, which connects with your own login",
    ),
    "docker compose": refused(
        stdio("compose", "run", "crm", command="docker"), "Write docker run with the image of the server"
    ),
    "known variables": imported(
        stdio(env={"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NEO4J_URI": "bolt://db.example.com:7687"}),
        "- name: PYTHONUNBUFFERED value: '1'",
        "value: bolt://db.example.com:7687",
        absent=("--from-file",),
    ),
    "commands of runners": imported(
        stdio("dlx", "crm-mcp@latest", "--viewport-size", "1920x1080", command="pnpm"),
        "- dlx",
        absent=("--dockerfile",),
    ),
    "a flake of Nix": imported(stdio("run", "nixpkgs#mcp-nixos", "--", command="nix"), "- nixpkgs#mcp-nixos", "- --"),
    "an image of a known entry point": imported(
        stdio("run", "-i", "--rm", "mcp/sequentialthinking", command="docker"),
        "image: mcp/sequentialthinking",
        options=HTTP,
    ),
    # Texts
    "no text": refused(" \n", "the file is empty: write"),
    "a part of an object": refused('"mcpServers": {"crm": {}}', "write { before it and } after it"),
    "TOML": refused('# ours\nmodel = "o3"\n\n[mcp_servers.crm]\ncommand = "x"\n', "the file is TOML", "tomllib"),
    "YAML": refused("extensions:\n  crm:\n    cmd: npx\n", "the file is YAML: convert it to JSON"),
    "quotation marks of a text": refused("{\u201cmcpServers\u201d: {}}", 'write "straight double ones"'),
    "single quotation marks": refused("{'mcpServers': {}}", 'write "straight double ones"'),
    "comments": imported(
        '{\n // ours\n "servers": {"crm": {"url": "https://crm.example.com/mcp",},},\n}', f"url: {REMOTE}", options=HTTP
    ),
    "a large integer": imported(
        '{"mcpServers": {"crm": {"url": "https://crm.example.com/mcp", "timeout": ' + "1" * 5000 + "}}}",
        f"url: {REMOTE}",
        options=HTTP,
    ),
    "many letters": imported(stdio(env={"BLOB": "a" * 200_000}), "key: BLOB"),
}


@requirement("import.clients")
@pytest.mark.parametrize("name", CASES)
def test_a_file_of_a_client_gives_the_line_that_its_user_needs(run: Run, name: str) -> None:
    case = CASES[name]
    code, out, err = run(case.file, *case.options)
    text = " ".join(line.strip().removeprefix("#").strip() for line in (out + err).splitlines())
    absent = [one for one in case.absent if one not in str(case.printed)]
    assert (code, [one for one in case.printed if one not in text], [one for one in absent if one in text]) == (
        case.code,
        [],
        [],
    ), text
    for binding in yaml.safe_load_all(out):
        MCPBinding.model_validate(binding)
    assert bool(out) == (code == 0)
