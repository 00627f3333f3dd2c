import json

import pytest

from interlock_cli.client_config import LARGEST_FILE, ImportRefusedError, parse_servers
from tests.requirements import requirement

SERVER = {"command": "npx"}
SHAPES = {
    "mcpServers.crm": {"mcpServers": {"crm": SERVER}},
    "servers.crm": {"servers": {"crm": SERVER}, "inputs": []},
    "mcp.servers.crm": {"mcp": {"servers": {"crm": SERVER}}, "editor.tabSize": 2},
    "crm": {"crm": SERVER},
}


@requirement("import.shapes")
@pytest.mark.parametrize("place", SHAPES)
def test_servers_are_found_where_clients_keep_them(place: str) -> None:
    (server,) = parse_servers(json.dumps(SHAPES[place]))
    assert (server.name, server.place, server.members) == ("crm", place, SERVER)


def test_a_byte_order_mark_is_no_trouble() -> None:
    assert len(parse_servers('\ufeff{"mcpServers": {"crm": {"command": "npx"}}}')) == 1


REFUSED = {
    "{": "line 1, column 2",
    '{"mcpServers": {\n  // mine\n}}': "line 2, column 3",
    '{"mcpServers": {"crm": {"command": "a",}}}': "this is not JSON",
    '{"mcpServers": {"crm": {"command": "a", "command": "b"}}}': "the key 'command' is present twice",
    '{"mcpServers": {"crm": {"command": NaN}}}': "NaN is not JSON",
    '{"mcpServers": {"crm": {"command": "\\ud800"}}}': "half of a character",
    "[]": "is not a JSON object",
    '{"mcpServers": {}}': "mcpServers names no server",
    '{"mcpServers": [1]}': "mcpServers names no server",
    '{"mcpServers": {"crm": "npx"}}': "mcpServers.crm is not an object",
    '{"mcpServers": {"a": {}}, "servers": {"b": {}}}': "mcpServers and in servers",
    '{"context_servers": {"a": {"x": 1}}}': "neither mcpServers nor servers, but ['context_servers']",
    "[" * 200_000: "nested too deeply",
    " " * (LARGEST_FILE + 1): "import fewer servers at once",
    json.dumps({"mcpServers": {f"s{n}": SERVER for n in range(257)}}): "257 servers are more than 256",
}


@requirement("import.refused")
@pytest.mark.parametrize("text", REFUSED, ids=[message[:30] for message in REFUSED.values()])
def test_what_is_no_such_file_is_refused_with_place_and_way_out(text: str) -> None:
    with pytest.raises(ImportRefusedError) as refused:
        parse_servers(text)
    assert REFUSED[text] in str(refused.value)
