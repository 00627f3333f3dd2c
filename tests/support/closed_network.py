"""A network of its own, as an agent's pod has it: one port leads to the guard, and nothing else answers.

All addresses are local there, IPv4 and IPv6, so that each attempt to leave is refused immediately, and a socket sees
it. Names are not resolved: a question to a DNS server is an attempt like any other.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

_CLONE_NEWNET = 0x40000000
_ALL_FRAMES = 0x0003
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
_SYN, _ACK = 0x02, 0x10
_SET_UP = ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo")
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class ClosedNetwork:
    """The network, as long as it is open.

    Attributes:
        namespace: Descriptor of the network namespace, for `nsenter`.
        port: Port at 127.0.0.1 that leads to the guard.
    """

    namespace: int
    port: int
    _frames: socket.socket

    def attempts(self) -> set[str]:
        """Return what was tried since the last call, but the guard's port: `tcp 192.0.2.1:443`, `udp 127.0.0.1:53`."""
        with contextlib.suppress(BlockingIOError):
            found = set()
            while True:
                frame, address = self._frames.recvfrom(256)
                found |= set(_attempts_in(frame, address[1]))
        return found - {f"tcp 127.0.0.1:{self.port}"}


def _attempts_in(packet: bytes, kind: int) -> Iterator[str]:
    """Yield the destination of a packet that begins a connection of TCP, or is one of UDP."""
    if kind == _IPV4:
        protocol, head, to = packet[9], (packet[0] & 0x0F) * 4, packet[16:20]
    elif kind == _IPV6:
        protocol, head, to = packet[6], 40, packet[24:40]
    else:
        return
    address, rest = ip_address(to), packet[head:]
    shown = f"[{address}]" if address.version == 6 else str(address)
    if protocol == _TCP and rest[13] & (_SYN | _ACK) == _SYN:
        yield f"tcp {shown}:{struct.unpack('!H', rest[2:4])[0]}"
    if protocol == _UDP:
        yield f"udp {shown}:{struct.unpack('!H', rest[2:4])[0]}"


@asynccontextmanager
async def closed_network(port: int) -> AsyncIterator[ClosedNetwork]:
    """Open a network in which 127.0.0.1 has this port of this machine's 127.0.0.1, and nothing else. Needs root."""
    # A namespace belongs to a thread: what the thread opens stays in it, and the thread ends.
    with ThreadPoolExecutor(max_workers=1) as thread:
        namespace, listener, frames = thread.submit(_enter, port).result()
    connections = set[asyncio.Task[None]]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await _pass_on(reader, writer, port)
        finally:
            connections.discard(task)

    server = await asyncio.start_server(pass_on, sock=listener)
    try:
        yield ClosedNetwork(namespace, port, frames)
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        frames.close()
        os.close(namespace)


def _enter(port: int) -> tuple[int, socket.socket, socket.socket]:
    """Move this thread into a new network; return its namespace, the guard's port, and a socket that sees all."""
    if _LIBC.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace")
    for command in _SET_UP:
        subprocess.run(["ip", *command.split()], check=True)
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_FRAMES))
    frames.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    frames.settimeout(0)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY), socket.create_server(("127.0.0.1", port)), frames


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass bytes in both directions until both ends are closed."""
    to_guard, from_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, from_writer))
            group.create_task(_copy(to_guard, writer))
    finally:
        for end in (writer, from_writer):
            end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
