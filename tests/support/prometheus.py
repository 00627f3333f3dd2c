"""A real Prometheus on the loopback interface, which scrapes the samples of a test."""

import contextlib
import json
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.bounds import WAIT_SECONDS, eventually
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port
from tools.cluster import programs
from tools.machine.settings import from_environment

_OK = 200
_JOB = "test"


class Exporter:
    """A page of samples in Prometheus' text format, which a test may change.

    Attributes:
        text: The samples.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        exporter = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text.encode()
                self.send_response(_OK)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # Python 3.11 has no override
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.address = f"127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        """Begin to serve the page."""
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(WAIT_SECONDS)


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    def has_samples(self, query: str) -> bool:
        """Return True if a query has a result by now."""
        asked = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(asked, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - the test's own
                return bool(json.load(answer)["data"]["result"])
        except (urllib.error.URLError, ConnectionError):
            return False

    def end(self) -> None:
        """End it, if it runs."""
        self._process.kill()
        self._process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def running_prometheus(folder: Path, exporter: Exporter) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes an exporter every second; end it with the block.

    Args:
        folder: Where its data are.
        exporter: What it scrapes.
    """
    program = programs.ensure(from_environment(), ["prometheus"])["prometheus"]
    scrape = {"job_name": _JOB, "static_configs": [{"targets": [exporter.address]}]}
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    path, log_path, address = folder / "prometheus.json", folder / "prometheus.log", f"127.0.0.1:{free_port()}"
    path.write_text(json.dumps(settings))  # JSON is YAML
    flags = (f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}")
    with log_path.open("wb") as log:
        process = subprocess.Popen([program, *flags], stdout=log, stderr=log, preexec_fn=end_with_parent)
        prometheus = Prometheus(f"http://{address}", process)
        try:
            eventually(
                lambda: prometheus.has_samples(f'up{{job="{_JOB}"}} == 1'),
                lambda: f"it has scraped: {log_path.read_text()}",
                WAIT_SECONDS,
            )
            yield prometheus
        finally:
            prometheus.end()
