"""Values that real files of many clients have, one in each file, and the line that their user must see."""

import json

import pytest

from tests.requirements import requirement
from tests.unit.cli.cases import (
    FOLDER,
    HTTP,
    IMAGES,
    KEY,
    MACHINE,
    REMOTE,
    SECRET,
    SSE,
    check,
    imported,
    refused,
    remote,
    stdio,
)
from tests.unit.cli.conftest import Run

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
    "a secret as an argument": refused(stdio("start", SECRET), "crm.args[1] may be a secret", "--keep 'crm:args[1]'"),
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
    "a default after a scheme": imported(
        remote(headers={"Authorization": f"Bearer ${{TOKEN:-{SECRET}}}", "X-Team": "Token ${TEAM}"}),
        "Authorization: the whole value, with all placeholders filled in",
        'X-Team: the whole value: "Token " and ${TEAM}',
        options=HTTP,
    ),
    "a key as a list of numbers": imported(
        stdio(env={"WALLET": json.dumps(list(range(100, 164)))}), "key: WALLET", absent=("101,", "101 ")
    ),
    "a number of a credit card": refused(stdio("4111 1111 1111 1111"), "args[0] may be a secret"),
    "a password in groups": refused(stdio("--project", "esft-quug-tcrj-rayg"), "args[1] may be a secret"),
    "a password in groups in the place of a package": refused(
        stdio("-y", "qosr-ouwq-pmrz-dlxv", command="npx"), "args[1]"
    ),
    "a password in groups in a variable": imported(
        stdio(env={"MAIL_DATABASE": "esft-quug-tcrj-rayg"}), "key: MAIL_DATABASE", absent=("quug",)
    ),
    "a setting that only the client knows": refused(
        remote(apiKey=SECRET, requiresOAuth=True),
        "crm.'apiKey' is or may be a secret, and only the client knows how the server gets it: write it into headers",
        options=HTTP,
    ),
    "an empty setting that only the client knows": imported(remote(apiKey=""), f"url: {REMOTE}", options=HTTP),
    "a number in the place of a package": refused(stdio("-y", "@x/6689155342275", command="npx"), "args[1] may be"),
    "a setting of a program that only the client knows": refused(
        stdio(secrets={"A": SECRET}), "crm.'secrets' is or may be a secret", "write it into env as ${NAME}"
    ),
    "a URL with a secret as a name": refused(
        {"mcpServers": {f"{REMOTE}?key={SECRET}": {"url": REMOTE}, "crm": {"url": REMOTE}}},
        "mcpServers[0] has no name, or a URL with a possible secret as its name",
        "add --skip 'mcpServers[0]'",
        options=HTTP,
    ),
    "a URL as a name": imported({"mcpServers": {REMOTE: {"url": REMOTE}}}, f"url: {REMOTE}", options=HTTP),
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
}


@requirement("import.clients")
@pytest.mark.parametrize("name", CASES)
def test_a_value_of_a_file_gives_the_line_that_its_user_needs(run: Run, name: str) -> None:
    check(run, CASES[name])
