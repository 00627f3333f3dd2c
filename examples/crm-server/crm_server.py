"""A small CRM as an MCP server, on stdio or over HTTP: contacts, opportunities and tasks in SQLite.

It stands for the CRM of your company. Like such servers it offers more than an agent should have, `delete_contact` and
`export_everything` included, and asks for no approval. An MCPBinding and an AgentPolicy say what an agent may call.

Environment variables:
    CRM_ACCOUNT: `sandbox` (the default) or `production`: its invented data.
    CRM_TOKEN: the key to the production account, which is not opened without one.
    CRM_DATABASE: path of the database, /tmp/crm.db by default; created again at each start.
    CRM_PORT: a port to serve streamable HTTP on, at /mcp; without one it serves standard input and output.
    CRM_AUTHORIZATION: the `Authorization` header that every HTTP request must carry; HTTP is not served without one.
"""

import hmac
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

Region = Literal["eu-west", "us-east"]
Row = tuple[str | int, ...]

SCHEMA = """
CREATE TABLE contacts (id TEXT PRIMARY KEY, region TEXT NOT NULL, name TEXT NOT NULL, company TEXT NOT NULL);
CREATE TABLE opportunities (id TEXT PRIMARY KEY, region TEXT NOT NULL, contact TEXT NOT NULL, title TEXT NOT NULL,
                            amount INTEGER NOT NULL);
CREATE TABLE tasks (id INTEGER PRIMARY KEY, region TEXT NOT NULL, contact TEXT NOT NULL, title TEXT NOT NULL);
"""
CONTACTS: Mapping[str, tuple[Row, ...]] = {
    "sandbox": (
        ("eu-1", "eu-west", "Test Person One", "Sandbox GmbH"),
        ("eu-2", "eu-west", "Test Person Two", "Sandbox GmbH"),
        ("us-1", "us-east", "Test Person Three", "Sandbox Inc"),
    ),
    "production": (
        ("eu-1", "eu-west", "Marta Oliveira", "Ferro e Filhos"),
        ("eu-2", "eu-west", "Jonas Lindqvist", "Norrsken Papper"),
        ("eu-3", "eu-west", "Aoife Brennan", "Liffey Freight"),
        ("us-1", "us-east", "Dana Whitfield", "Harbor Tools"),
        ("us-2", "us-east", "Luis Ortega", "Cedar Valley Dairy"),
    ),
}
OPPORTUNITIES: Mapping[str, tuple[Row, ...]] = {
    "sandbox": (
        ("o-1", "eu-west", "eu-1", "A trial that never ends", 1),
        ("o-2", "us-east", "us-1", "Another trial", 1),
    ),
    "production": (
        ("o-1", "eu-west", "eu-1", "Two stamping presses", 84000),
        ("o-2", "eu-west", "eu-3", "Route planning for 40 lorries", 26000),
        ("o-3", "us-east", "us-2", "Cold chain sensors", 31500),
    ),
}


@dataclass(frozen=True)
class Contact:
    """A person whom the company deals with."""

    id: str
    region: str
    name: str
    company: str


@dataclass(frozen=True)
class Opportunity:
    """A sale that may come about; `amount` is in whole US dollars."""

    id: str
    region: str
    contact: str
    title: str
    amount: int


@dataclass(frozen=True)
class Task:
    """Something to do for a contact."""

    id: int
    region: str
    contact: str
    title: str


@dataclass(frozen=True)
class Everything:
    """All that the CRM holds."""

    contacts: list[Contact]
    opportunities: list[Opportunity]
    tasks: list[Task]


def seed(path: Path, account: str) -> sqlite3.Connection:
    """Create the database of `account` at `path`.

    The connection may be used from any thread: the tools run in a pool of threads, and SQLite takes one call at a time.
    """
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.executescript(SCHEMA)
    database.executemany("INSERT INTO contacts VALUES (?, ?, ?, ?)", CONTACTS[account])
    database.executemany("INSERT INTO opportunities VALUES (?, ?, ?, ?, ?)", OPPORTUNITIES[account])
    return database


def add_reading_tools(server: MCPServer, database: sqlite3.Connection) -> None:
    """Offer what only looks."""

    @server.tool()
    def list_contacts(region: Region) -> list[Contact]:
        """List the contacts of a region."""
        rows = database.execute("SELECT * FROM contacts WHERE region = ? ORDER BY id", (region,))
        return [Contact(*row) for row in rows]

    @server.tool()
    def get_contact(id: str) -> Contact:  # noqa: A002 - the argument's name is what clients write
        """Get one contact by its id, whatever its region."""
        row = database.execute("SELECT * FROM contacts WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise ToolError(f"there is no contact {id!r}")
        return Contact(*row)

    @server.tool()
    def list_opportunities(region: Region) -> list[Opportunity]:
        """List the opportunities of a region."""
        rows = database.execute("SELECT * FROM opportunities WHERE region = ? ORDER BY id", (region,))
        return [Opportunity(*row) for row in rows]

    @server.tool()
    def export_everything() -> Everything:
        """Export the whole CRM at once."""
        return Everything(
            contacts=[Contact(*row) for row in database.execute("SELECT * FROM contacts ORDER BY id")],
            opportunities=[Opportunity(*row) for row in database.execute("SELECT * FROM opportunities ORDER BY id")],
            tasks=[Task(*row) for row in database.execute("SELECT * FROM tasks ORDER BY id")],
        )


def add_changing_tools(server: MCPServer, database: sqlite3.Connection) -> None:
    """Offer what changes something."""

    @server.tool()
    def create_task(region: Region, title: str, contact: str) -> Task:
        """Create a task for a contact of that region."""
        # Else a caller who may write in one region could write about the contacts of another.
        if not database.execute("SELECT 1 FROM contacts WHERE id = ? AND region = ?", (contact, region)).fetchone():
            raise ToolError(f"there is no contact {contact!r} in {region}")
        [row] = database.execute(
            "INSERT INTO tasks (region, contact, title) VALUES (?, ?, ?) RETURNING *",
            (region, contact, title),
        ).fetchall()
        return Task(*row)

    @server.tool()
    def delete_contact(id: str) -> str:  # noqa: A002 - the argument's name is what clients write
        """Delete a contact for good."""
        if not database.execute("DELETE FROM contacts WHERE id = ?", (id,)).rowcount:
            raise ToolError(f"there is no contact {id!r}")
        return f"contact {id} is deleted"


def add_reading_matter(server: MCPServer, database: sqlite3.Connection) -> None:
    """Offer what is no tool: the contacts of a region as a resource, and a prompt about one of them."""

    @server.resource("crm://contacts/{region}", mime_type="application/json")
    def contacts_of(region: str) -> str:
        """Give the contacts of a region."""
        rows = database.execute("SELECT * FROM contacts WHERE region = ? ORDER BY id", (region,))
        return json.dumps([asdict(Contact(*row)) for row in rows])

    @server.prompt()
    def prepare_call(id: str) -> str:  # noqa: A002 - the argument's name is what clients write
        """Prepare a call to a contact."""
        row = database.execute("SELECT name, company FROM contacts WHERE id = ?", (id,)).fetchone()
        name, company = row or ("an unknown contact", "an unknown company")
        return f"You are about to call {name} of {company}. What have we sold them, and what is still open?"


def build_server(database: sqlite3.Connection, account: str) -> MCPServer:
    """Return the server with all that it offers."""
    server = MCPServer(f"crm-{account}", version="1.0.0", log_level="WARNING")
    add_reading_tools(server, database)
    add_changing_tools(server, database)
    add_reading_matter(server, database)
    return server


def over_http(server: MCPServer, authorization: str) -> ASGIApp:
    """Return the server as a web application that answers only requests with the right header."""
    app = server.streamable_http_app(host="0.0.0.0")  # noqa: S104 - a container's own; its Service says who it is

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "http" and not hmac.compare_digest(given, authorization.encode()):
            await PlainTextResponse("Unauthorized\n", status_code=401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return checked


def serve_http(server: MCPServer, port: int) -> None:
    """Serve over HTTP until TERM comes."""
    authorization = os.environ.get("CRM_AUTHORIZATION")
    if not authorization:
        sys.exit("CRM_AUTHORIZATION is missing: nothing is served over HTTP without it")
    app = over_http(server, authorization)
    uvicorn.run(app, host="0.0.0.0", port=port, log_level="warning", timeout_graceful_shutdown=1)  # noqa: S104


def main() -> None:
    """Serve until the input ends or TERM comes."""
    account = os.environ.get("CRM_ACCOUNT", "sandbox")
    if account not in CONTACTS:
        sys.exit(f"CRM_ACCOUNT is {account!r}: write sandbox or production")
    if account == "production" and not os.environ.get("CRM_TOKEN"):
        sys.exit("CRM_TOKEN is missing: the production account is not opened without it")
    path = Path(os.environ.get("CRM_DATABASE", "/tmp/crm.db"))  # noqa: S108 - a container's own /tmp
    with closing(seed(path, account)) as database:
        server = build_server(database, account)
        if port := os.environ.get("CRM_PORT"):
            serve_http(server, int(port))
            return
        # As process 1 of a container Python would not end on TERM otherwise; there is nothing to be put away.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        server.run("stdio")


if __name__ == "__main__":
    main()
