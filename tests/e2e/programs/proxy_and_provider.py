"""An egress proxy for one name, and the example's provider behind it with TLS, both in one pod.

The proxy opens the tunnel's TLS itself, as the provider would, and passes what is inside on to the provider's port.
"""

import contextlib
import runpy
import socket
import ssl
import threading

HOST, LISTEN_PORT, PROVIDER_PORT = "llm.example.com", 8080, 8000
FOLDER = "/provider"

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{FOLDER}/tls.pem")


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until one side ends."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def serve(client: socket.socket) -> None:
    """Serve one connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return
        head += byte
    asked = head.split(b"\r\n")[0].decode()
    print(f"{asked}\n", end="", flush=True)  # noqa: T201 - the test reads it
    if asked != f"CONNECT {HOST}:443 HTTP/1.1":
        client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        client.close()
        return
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    tunnel = context.wrap_socket(client, server_side=True)
    provider = socket.create_connection(("127.0.0.1", PROVIDER_PORT))
    threading.Thread(target=pump, args=(tunnel, provider), daemon=True).start()
    pump(provider, tunnel)


threading.Thread(target=runpy.run_path, args=(f"{FOLDER}/provider.py",), daemon=True).start()
listener = socket.create_server(("0.0.0.0", LISTEN_PORT))  # noqa: S104 - other pods connect
while True:
    accepted, _ = listener.accept()
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
