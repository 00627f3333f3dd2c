"""The shipper: brings the spool's lines to the collector in the background, in order and at least once.

`POST <collector>/v1/records` takes lines of one chain that follow on each other and answers `{"next": n}` once it has
committed them: it holds everything before line `n`. Its answers to lines that do not follow on what it has:

| answer | meaning | what happens here |
|---|---|---|
| 409 `{"error": "Gap", "next": n}` | it holds less than was thought | the spool is read again from where `n` may be |
| 409 `{"error": "Fork"}` | it holds another line of that number | this chain is given up, loudly; later ones go on |
| 400 `{"error": "Invalid"}` | a line is not what its hash says | the same |
| anything else, or nothing | it is not there, or cannot commit | back-off, up to 10 s |

Lines that the collector lacks and that are no longer in the spool are declared with `?lost=n`: lines that it took in
and then lost must not keep the rest from it. The verifier shows the gap.

Once a chain is given up, the spool frees nothing: it fills up and the guard closes, rather than act without records
that reach the collector.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from interlock_contract.audit_chain import LineInvalid, is_sequence, open_line
from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_guard.audit.spool import Position, Spool, chain_of

BATCH: Final = 256 * 1024
"""About how many bytes are sent in one request."""

_GATHER_SECONDS: Final = 0.1
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
_OK, _INVALID, _CONFLICT = 200, 400, 409


@dataclass(frozen=True, slots=True)
class _Batch:
    guard: str
    first: int
    next: int
    lines: bytes
    after: Position


class _Unanswered(Exception):  # noqa: N818 - says what became of a batch
    """The collector is not there, or cannot commit; the message says why."""


class AuditShipper:
    """The one reader of a spool.

    Args:
        spool: The spool.
        log: Told of each change.
        url: The collector's URL; where it is empty nothing is shipped.
        token: The file of the collector's token, read for each request since the kubelet renews it.
    """

    def __init__(self, spool: Spool, log: Callable[[str], None], *, url: str, token: Path) -> None:
        self.shipped = 0
        """Lines that the collector has confirmed."""
        self.stuck = False
        """Whether it has refused a chain for good."""
        self._spool, self._log = spool, log
        self._url, self._token = url, token
        self._position = Position()
        self._lost: int | None = None
        self._refused = ""
        self._appended = asyncio.Event()
        spool.listener = self._appended.set

    async def run(self) -> None:
        """Ship until cancelled."""
        if not self._url:
            return
        async with self._open_session() as session:
            wait = _FIRST_WAIT
            while True:
                try:
                    await self._drain(session)
                except _Unanswered as error:
                    self._log(f"records wait in the spool ({self._spool.used} bytes): {error}")
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, _LONGEST_WAIT)
                    continue
                wait = _FIRST_WAIT
                await self._appended.wait()
                await asyncio.sleep(_GATHER_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Ship what is left, for at most that long; the caller has ended `run`."""
        if not self._url:
            return
        with suppress(_Unanswered, TimeoutError):
            async with asyncio.timeout(seconds), self._open_session() as session:
                await self._drain(session)

    def _open_session(self) -> aiohttp.ClientSession:
        # No proxy from the environment, no cookies: this session speaks to the collector alone.
        return aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    async def _drain(self, session: aiohttp.ClientSession) -> None:
        self._appended.clear()
        while True:
            try:
                with suppress(OSError):
                    self._spool.flush()
                lines, after = self._spool.read(self._position, BATCH)
            except OSError as error:
                raise _Unanswered(f"the spool cannot be read: {error.strerror}") from None
            if not lines:
                return
            if self._refused == chain_of(after) or await self._send(session, lines, after):
                self._position = after
                if not self.stuck:
                    self._spool.release(after)

    async def _send(self, session: aiohttp.ClientSession, lines: bytes, after: Position) -> bool:
        """Send one batch; return whether the collector is done with it."""
        try:
            batch = _batch_of(lines, after)
        except LineInvalid as damage:
            return self._give_up(after, f"a line in the spool is damaged: {damage}")
        status, answer = await self._post(session, batch)
        error, following = answer.get("error"), answer.get("next")
        if status == _OK and is_sequence(following) and following >= batch.next:
            self._lost = None
            self.shipped += batch.next - batch.first
            return True
        if status == _CONFLICT and error == "Gap" and is_sequence(following) and following < batch.first:
            await self._go_back(batch, following)
            return False
        if (status == _CONFLICT and error == "Fork") or (status == _INVALID and error == "Invalid"):
            return self._give_up(after, f"the collector does not accept the chain of {batch.guard}: {answer}")
        raise _Unanswered(f"the collector answers {status} {error or ''}".rstrip())

    def _give_up(self, after: Position, why: str) -> bool:
        self._log(f"AUDIT RECORDS REFUSED: {why}")
        self.stuck = True
        self._refused = chain_of(after)
        return True

    async def _go_back(self, batch: _Batch, following: int) -> None:
        """Read again from where the collector stands; where that is gone, let it know which lines are lost."""
        if self._lost is not None:
            self._lost = None
            raise _Unanswered("the collector wants lines that it was told are lost")
        start = self._spool.first_of_chain(batch.after)
        lines, after = self._spool.read(start, 1)
        oldest = _batch_of(lines, after).first
        if oldest > following:
            self._log(f"lines {following} to {oldest - 1} of {batch.guard} are lost: the collector lost them")
            self._lost = following
        self._position = start
        await asyncio.sleep(_GATHER_SECONDS)

    async def _post(self, session: aiohttp.ClientSession, batch: _Batch) -> tuple[int, dict[str, Any]]:
        try:
            token = self._token.read_text().strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
            query = {} if self._lost is None else {"lost": str(self._lost)}
            url = f"{self._url}/v1/records"
            async with session.post(
                url, params=query, data=batch.lines, headers=headers, allow_redirects=False
            ) as response:
                answer = await response.content.read(BATCH)
                return response.status, _object(answer)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise _Unanswered(f"{type(error).__name__}: {error}") from None


def _batch_of(lines: bytes, after: Position) -> _Batch:
    first, last = open_line(lines[: lines.index(b"\n")]), open_line(lines[lines.rfind(b"\n", 0, -1) + 1 : -1])
    return _Batch(first.guard, first.seq, last.seq + 1, lines, after)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except JsonInvalid:
        return {}
    return value if isinstance(value, dict) else {}
