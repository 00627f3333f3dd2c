import json

import pytest

from interlock_cli.client_config import parse_servers
from interlock_cli.config_json import LARGEST_FILE, ImportRefusedError
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
    (server,) = parse_servers(json.dumps(SHAPES[place])).servers
    assert (server.name, server.place, server.members) == ("crm", place, SERVER)


def test_a_byte_order_mark_is_no_trouble() -> None:
    assert len(parse_servers('\ufeff{"mcpServers": {"crm": {"command": "npx"}}}').servers) == 1


REFUSED = {
    "{": "line 1, column 2",
    '{"mcpServers": {\n  // mine\n}': "line 3, column 2",
    '{"mcpServers": {}} /* open': "line 1, column 20",
    '{"mcpServers": "\\"\\"': "line 1, column 16",
    '{"mcpServers": {"crm": {"command": "a",,}}}': "this is not JSON",
    '{"mcpServers": {"crm": {"command": "a", "command": "b"}}}': "the key 'command' is present twice",
    '{"mcpServers": {"crm": {"command": NaN}}}': "NaN is not JSON",
    '{"mcpServers": {"crm": {"command": "\\ud800"}}}': "half of a character",
    "1": "is not a JSON object",
    "[]": "the file names no server",
    '{"mcpServers": {}}': "mcpServers names no server",
    '{"mcpServers": {"a": {}}, "servers": {"b": {}}}': "mcpServers and in servers",
    '{"contexts": {"a": {"x": 1}}}': "neither mcpServers nor servers, but ['contexts']",
    '{"command": "npx"}': "one server without a name",
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


@requirement("import.refused")
@pytest.mark.parametrize(
    ("text", "place"),
    [('{"mcpServers": {"crm": "npx"}}', "mcpServers.crm"), ('{"mcpServers": [1]}', "mcpServers[0]")],
)
def test_a_server_that_is_no_object_is_a_problem_of_this_server_alone(text: str, place: str) -> None:
    (server,) = parse_servers(text).servers
    assert server.problem == f"{place} is not an object: write command and args, or the url of a server"


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 500_000, '"' + '\\"' * 500_000 + "\\", "/*" * 500_000, "," * 1_000_000, "// " * 300_000]
)
def test_the_time_to_refuse_a_file_does_not_depend_on_what_is_in_it(text: str) -> None:
    """A quadratic pattern would need hours for these, and the time limit of a test ends it."""
    with pytest.raises(ImportRefusedError):
        parse_servers(text)


def test_what_looks_like_a_comment_in_a_string_is_kept() -> None:
    (server,) = parse_servers('{"servers": {"crm": {"url": "https://crm.example.com/a,]//b/*c*/"}}} // end').servers
    assert server.members == {"url": "https://crm.example.com/a,]//b/*c*/"}
