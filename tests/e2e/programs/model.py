"""A model in a pod: the answers of `scripted_model.py`, which lies next to this file, with the script of script.json.

It answers only who has the key, and prints one line for each question. Questions of a task with the word `held` wait
until a GET lets them go.

Environment variables:
    PROVIDER_KEY: The key.
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scripted_model import Reply, ToolUse, read_turn, scripted_reply

SCRIPT = json.loads(Path(__file__).with_name("script.json").read_text())
USES = [ToolUse(name, arguments) for name, arguments in SCRIPT]
KEY = f"Bearer {os.environ['PROVIDER_KEY']}"
HELD_SECONDS = 120.0
_let_go = threading.Event()


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _let_go.set()
        self.answer(200, Reply("text/plain", (b"let go",)))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != KEY:
            self.answer(401, Reply("application/json", (b'{"error": {"code": "invalid_api_key"}}',)))
            return
        turn = read_turn(self.path, asked)
        is_held = "held" in json.dumps(asked["messages"])
        line = f"{'held' if is_held else 'asked'}: {len(turn.results)}\n"
        print(line, end="", flush=True)  # noqa: T201 - tests read it; one write, since threads share the log
        if is_held:
            _let_go.wait(HELD_SECONDS)
        self.answer(200, scripted_reply(turn, USES))

    def answer(self, status: int, reply: Reply) -> None:
        self.send_response(status)
        self.send_header("Content-Type", reply.media_type)
        self.send_header("Content-Length", str(sum(map(len, reply.parts))))
        self.end_headers()
        for part in reply.parts:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


ThreadingHTTPServer(("0.0.0.0", 8000), Model).serve_forever()  # noqa: S104 - guards reach it
