"""examples/frameworks/serve.py: tasks, failures of them, and the end of the process."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.bounds import eventually
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

SERVE = Path(__file__).parents[3] / "examples" / "frameworks" / "serve.py"
AGENT = """
import os, time

def work(task):
    if task == "held":
        open("begun", "w").close()
        while not os.path.exists("let-go"):
            time.sleep(0.01)
    return {"fail": 1}[task] / 0 if task == "fail" else f"done: {task}"
"""


@dataclass
class Serving:
    """serve.py with an agent that fails, or waits, if a task says so."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def send(self, task: str) -> tuple[int, dict[str, str]]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", json.dumps({"text": task}).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def answers(self) -> bool:
        try:
            return self.send("ping")[0] == 200
        except OSError:
            return False


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    (folder / "agent.py").write_text(AGENT)
    (folder / "serve.py").write_text(SERVE.read_text())
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "serve.py"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=end_with_parent,
    )
    try:
        found = Serving(folder, port, process)
        eventually(found.answers, "it takes tasks", 30)
        yield found
    finally:
        process.kill()
        process.communicate()


def test_a_task_under_way_is_answered_after_sigterm_and_one_that_fails_is_no_end(tmp_path: Path) -> None:
    with serving(tmp_path) as served, ThreadPoolExecutor(1) as pool:
        assert served.send("fail") == (500, {"error": "ZeroDivisionError: division by zero"})
        assert served.send("next") == (200, {"said": "done: next"})
        held = pool.submit(served.send, "held")
        eventually((tmp_path / "begun").exists, "the task is under way", 30)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.stdout is not None
        lines = [line.strip() for line in iter(served.process.stdout.readline, "SIGTERM: the last tasks\n")]
        assert "task None: 500" in lines
        (tmp_path / "let-go").touch()
        assert held.result(timeout=30) == (200, {"said": "done: held"})
        assert served.process.stdout.read().splitlines() == ["task None: 200", "ended"]
        assert served.process.wait(timeout=30) == 0
