"""Shapes of the files of many clients, one in each file, and the line that their user must see."""

import pytest

from tests.requirements import requirement
from tests.unit.cli.cases import FOLDER, HTTP, IMAGES, KEY, REMOTE, SECRET, check, imported, refused, remote, stdio
from tests.unit.cli.conftest import Run

CASES = {
    # Several servers and problems
    "several problems": refused(
        stdio("${workspaceFolder}/x", SECRET, env={"PORT": 1.5}, cwd="/x", envFile=".env"),
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
    "numbers and truth values": imported(
        stdio(args=[8080, True], env={"PORT": 8080, "DEBUG": True, "UNSET": None, "DB_PASSWORD": 123456}),
        "args: - '8080' - 'true'",
        "name: PORT value: '8080'",
        "name: DEBUG value: 'true'",
        f"{KEY}DB_PASSWORD=FILE",
        absent=("UNSET", "123456"),
    ),
    "a fraction": refused(stdio(env={"A": 1.5}), "env.'A' is not a string: write it in quotation marks"),
    "a command that is empty": imported(
        remote(command="", args=[], env={}), f"url: {REMOTE}", options=HTTP, absent=("args",)
    ),
    "a URL that is empty": imported(stdio(url="", headers={}), "command: - crm-server", absent=("http",)),
    "a server that is disabled alone": refused(
        remote(disabled=True), "no server is left to import: name a disabled one with --only", options=HTTP
    ),
    "servers in another file": refused(
        {"name": "crm", "mcpServers": "./.mcp.json"}, "mcpServers names another file", options=HTTP
    ),
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
        "--keep 'crm:command[1]'",
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
    "Goose, converted from YAML": imported(
        {
            "extensions": {
                "crm": {
                    "type": "stdio",
                    "cmd": "crm-server",
                    "args": [],
                    "envs": {"A": SECRET},
                    "env_keys": ["CRM_KEY"],
                },
                "developer": {"type": "builtin", "enabled": True},
            }
        },
        f"{KEY}CRM_KEY=FILE --from-file=A=FILE",
        options=(*IMAGES, "--skip", "developer"),
    ),
    "an extension without a command": refused(
        {"context_servers": {"crm": {"source": "extension", "settings": {"token": SECRET}}}},
        "needs exactly one of command and url: write one of them. If it is a part of the client",
    ),
    "Cherry Studio": imported(
        {
            "mcpServers": {
                "crm": {"name": "CRM", "type": "streamableHttp", "isActive": True, "baseUrl": REMOTE},
                "old": {"isActive": False, "command": "x"},
            }
        },
        f"url: {REMOTE}",
        "because it is disabled: mcpServers.old",
        options=HTTP,
    ),
    "a request to Anthropic": imported(
        {"mcp_servers": [{"type": "url", "url": REMOTE, "name": "crm", "authorization_token": SECRET}]},
        f"url: {REMOTE}",
        f"{KEY}Authorization=FILE",
        'the whole value: "Bearer " and ${authorization_token}',
        options=HTTP,
    ),
    "a request to OpenAI": imported(
        {
            "model": "x",
            "tools": [{"type": "mcp", "server_label": "crm", "server_url": REMOTE, "authorization": SECRET}],
        },
        f"url: {REMOTE}",
        f"{KEY}Authorization=FILE",
        options=HTTP,
    ),
    "tools of an agent": imported(
        {"name": "a", "tools": ["*"], "mcpServers": {"crm": {"url": REMOTE}}}, f"url: {REMOTE}", options=HTTP
    ),
    "powers of Kiro": imported(
        {"mcpServers": {"crm": {"url": REMOTE}}, "powers": {"mcpServers": {"wiki": {"url": f"{REMOTE}/wiki"}}}},
        f"url: {REMOTE}",
        f"url: {REMOTE}/wiki",
        options=HTTP,
    ),
    "no OAuth at opencode": imported(
        {"mcp": {"crm": {"type": "remote", "url": REMOTE, "oauth": False}}}, f"url: {REMOTE}", options=HTTP
    ),
    "an object of Zed with null": imported(
        {"context_servers": {"crm": {"command": {"path": "crm-server", "args": [], "env": None}}}}, "- crm-server"
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
    "flags of Go": imported(stdio("-transport", "stdio", "-debug"), "- -transport - stdio - -debug"),
    "a password after a short flag": refused(stdio("-pswordfish", "-psecretsauce"), "args[0], args[1] may be secrets"),
    "an image of AWS": imported(
        stdio("run", "123456789012.dkr.ecr.us-east-1.amazonaws.com/crm:1", command="docker"),
        "image: 123456789012.dkr.ecr.us-east-1.amazonaws.com/crm:1",
        options=("--command", "crm=crm-server"),
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
    "YAML": refused(
        "extensions:\n  crm:\n    cmd: npx\n", "the file is YAML. Convert it to JSON, for example: yq -o json FILE"
    ),
    "a text around JSON": refused(
        f'Add this:\n```json\n{{"mcpServers": {{"crm": {{"command": "{SECRET}"}}}}}}\n```',
        "the file has text around its JSON",
    ),
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
    check(run, CASES[name])
