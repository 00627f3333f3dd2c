"""A receiver of webhooks behind TLS: it verifies each signature, and prints one line for each post."""

import base64
import hashlib
import hmac
import json
import os
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, CERTIFICATE = 8443, "/provider/tls.pem"
KEY = base64.b64decode(os.environ["SIGNING_KEY"].removeprefix("whsec_"))


class Receiver(BaseHTTPRequestHandler):
    """Answers each post with 200."""

    def do_POST(self) -> None:
        """Print whether a post is signed, its id and its type."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number, seconds = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        digest = hmac.digest(KEY, f"{number}.{seconds}.".encode() + body, hashlib.sha256)
        is_signed = self.headers.get("webhook-signature") == f"v1,{base64.b64encode(digest).decode()}"
        line = f"{'signed' if is_signed else 'forged'} {number} {json.loads(body)['type']}\n"
        print(line, end="", flush=True)  # noqa: T201 - the test reads it
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing but what was posted."""


server = ThreadingHTTPServer(("0.0.0.0", PORT), Receiver)  # noqa: S104 - the Service reaches it
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
