"""Takes tasks over HTTP and hands the text of each one to `work` of agent.py, which answers with a text.

On SIGTERM it takes tasks for two more seconds, until guards no longer send any, finishes what it has, and ends.
"""

import json
import os
import signal
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import agent

PORT = int(os.environ.get("PORT", "8080"))
LATE_SECONDS = 2.0


class Tasks(BaseHTTPRequestHandler):
    """Answers {"text": "..."} with {"said": "..."}."""

    timeout = 30.0  # seconds of silence in which a caller must send its task

    def do_POST(self) -> None:
        """Do one task."""
        task = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = 200, {}
        try:
            answer["said"] = agent.work(task["text"])
        except Exception as error:  # noqa: BLE001 - whatever fails is a failed task, and no end of the agent
            traceback.print_exc()
            status, answer["error"] = 500, f"{type(error).__name__}: {error}"
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(f"task {self.headers['Interlock-Task']}: {status}", flush=True)

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


def end() -> None:
    """Let the tasks that are under way be the last ones."""
    print("SIGTERM: the last tasks", flush=True)
    server.shutdown()


server = ThreadingHTTPServer(("0.0.0.0", PORT), Tasks)  # noqa: S104 - the guard is in another pod
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(LATE_SECONDS, end).start())
server.serve_forever(poll_interval=0.05)
server.server_close()  # waits for the tasks
print("ended", flush=True)
