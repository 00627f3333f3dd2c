"""The verifier of audit records (`python -m interlock_audit.verify`): it prints one line per finding.

Exit code 0: no finding. 1: findings. 2: the records cannot be read.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from interlock_audit.chain_verifier import Anchor, ChainReport, ChainVerifier, Checkpoint
from interlock_audit.remote import Remote
from interlock_audit.settings import KEEP_DAYS, MOST_DAYS
from interlock_audit.sqlite import open_sqlite
from interlock_audit.stores import (
    ChainState,
    Readable,
    Store,
    Stored,
    StoreUnavailable,
    all_chains,
    all_lines,
)
from interlock_contract.audit_chain import ORIGIN, Head, LineInvalid, is_sequence, parse_guard
from interlock_contract.canonical_json import is_digest
from interlock_contract.clock import utc_now
from interlock_contract.strict_json import JsonInvalid, parse_json

OK, FOUND, UNREADABLE = 0, 1, 2

_CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far a guard's clock may be ahead of the collector's, by which retention deletes."""
_RECORD: Final = b'{"guard":"'


class SourceUnreadable(Exception):  # noqa: N818 - says the state of a source
    """The files, or an earlier report, cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What must be true of the chains of a store; see `ChainVerifier`."""

    anchors: Sequence[Anchor] = ()
    known: Mapping[str, Checkpoint] = field(default_factory=dict)
    kept_since: datetime | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the records that the command line names. Return the exit code."""
    options = _parser().parse_args(arguments)
    keep = timedelta(days=options.keep_days)
    expectations = Expectations(kept_since=utc_now() - keep + _CLOCK_TOLERANCE if keep else None)
    try:
        if options.since is not None:
            expectations = _read_report(options.since, expectations.kept_since)
        report = _check(options, expectations)
    except (SourceUnreadable, StoreUnavailable) as error:
        sys.stderr.write(f"{_printable(str(error))}\n")
        return UNREADABLE
    sys.stdout.write(_to_json(report) if options.json else _to_text(report))
    return FOUND if report.findings else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m interlock_audit.verify", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="JSON lines, in the order of their names")
    parser.add_argument("--sqlite", type=Path, metavar="PATH", help="the collector's SQLite file")
    parser.add_argument("--postgres", metavar="DSN", help="the collector's PostgreSQL database")
    parser.add_argument("--url", help="the collector itself, such as http://127.0.0.1:7420")
    parser.add_argument("--token", type=Path, metavar="FILE", help="with --url: a file with the bearer token")
    parser.add_argument("--namespace", default="", help="not for FILE: only the chains of this namespace")
    parser.add_argument("--since", type=Path, metavar="REPORT", help="an earlier --json report, stored elsewhere")
    text = "INTERLOCK_KEEP_DAYS of the collector, the smallest since --since, 0 for ever (default: %(default)s)"
    parser.add_argument("--keep-days", type=_days, default=KEEP_DAYS, metavar="DAYS", help=text)
    parser.add_argument("--log", action="store_true", help="FILE is a guard's log: it may begin late")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= MOST_DAYS:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_DAYS}")
    return days


def _check(options: argparse.Namespace, expectations: Expectations) -> ChainReport:
    sources = [options.sqlite, options.postgres, options.url, options.files]
    if sum(bool(source) for source in sources) != 1:
        raise SourceUnreadable("name exactly one source: files, --sqlite, --postgres or --url")
    if options.files:
        return _check_files(options.files, expectations.anchors, is_log=options.log)
    if options.url:
        return check_store(Remote(options.url, options.token), expectations, options.namespace)
    store = open_sqlite(options.sqlite, is_read_only=True) if options.sqlite else _open_postgres(options.postgres)
    try:
        return check_store(store, expectations, options.namespace)
    finally:
        store.close()


def _open_postgres(dsn: str) -> Store:
    from interlock_audit.postgres import open_postgres  # noqa: PLC0415 - files can be checked without its driver

    return open_postgres(dsn, is_read_only=True)


def _check_files(files: Sequence[Path], anchors: Sequence[Anchor], *, is_log: bool) -> ChainReport:
    check = ChainVerifier(anchors, is_part=is_log)
    for path in files:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if is_log and not line.startswith(_RECORD):
                        continue  # a line of the guard's own log; a damaged record shows as missing
                    if not line.endswith(b"\n"):
                        check.add_finding("Truncated", f"{path}:{number}", "the last line was cut off")
                    check.add_line(line.removesuffix(b"\n"), f"{path}:{number}")
        except OSError as error:
            raise SourceUnreadable(f"{path}: {error.strerror}") from None
    return check.finish()


def check_store(store: Readable, expectations: Expectations, namespace: str = "") -> ChainReport:
    """Verify all records of a store, against its states of the chains and against its index.

    Args:
        store: The store.
        expectations: What must be true of its chains.
        namespace: Only the chains of this namespace, empty for all.

    Raises:
        StoreUnavailable: The store cannot be read.
    """
    chains = [_sound(one) for one in all_chains(store, namespace)]
    own = [Anchor(one.guard, one.next - 1, one.head, "the collector's note") for one in chains if one.next > one.start]
    checkpoints = {one.guard: Checkpoint(one.start, one.start_hash) for one in chains if one.start}
    anchors = [one for one in expectations.anchors if one.guard.startswith(f"{namespace}/" if namespace else "")]
    check = ChainVerifier([*anchors, *own], checkpoints, known=expectations.known, kept_since=expectations.kept_since)
    for chain in chains:
        if chain.next == 0:
            check.add_finding("Misfiled", chain.guard, "the collector has no valid note of the chain of these records")
        elif chain.namespace != chain.guard.partition("/")[0]:
            check.add_finding("Misfiled", chain.guard, "the noted namespace of the chain differs from its guard's")
        stored = all_lines(store, chain.guard)
        first = next(stored, None)
        if chain.next > chain.start and (first is None or first.seq > chain.start):
            # Retention may have deleted lines since the note was read. If not, they are missing.
            now = _read_again(store, chain)
            if now.start > chain.start:
                check.move_beginning(chain.guard, Checkpoint(now.start, now.start_hash))
        if first is not None:
            _check_stored(check, first)
        for one in stored:
            _check_stored(check, one)
    return check.finish()


def _read_again(store: Readable, chain: ChainState) -> ChainState:
    """Return the present note of a chain. Few chains come before it after the beginning of its name."""
    namespace = chain.guard.partition("/")[0]
    page = store.chains(namespace, chain.guard[:-1])
    return next((_sound(one) for one in page.chains if one.guard == chain.guard), chain)


def _sound(chain: ChainState) -> ChainState:
    """Return a note, or one without any line for a note with values of wrong types, which SQLite can hold."""
    is_sound = all(type(getattr(chain, one.name)) is one.type for one in fields(chain))
    return chain if is_sound else ChainState(str(chain.guard), "", 0, ORIGIN, 0, ORIGIN)


def _check_stored(check: ChainVerifier, stored: Stored) -> None:
    where = f"{stored.guard} {stored.seq}"
    if not isinstance(stored.text, str):  # SQLite can hold any type
        check.add_finding("Damaged", where, "the line is not as a guard wrote it: it is no text")
        return
    line = check.add_line(stored.text.encode(), where)
    if line is None:
        return
    said = line.fields
    filed = (stored.guard, stored.seq, stored.time, stored.kind, stored.decision)
    if filed != (line.guard, line.seq, said["time"], line.kind, said.get("decision", "")):
        check.add_finding("Misfiled", where, "the index of the record differs from its content")
    if stored.namespace != line.guard.split("/", maxsplit=1)[0] or stored.agent != said.get("agent", stored.agent):
        check.add_finding("Misfiled", where, "the indexed namespace or agent differs from the content")


def _read_report(path: Path, kept_since: datetime | None) -> Expectations:
    """Return what an earlier report states: the beginning of each chain, and its end as an anchor."""
    anchors: list[Anchor] = []
    known: dict[str, Checkpoint] = {}
    try:
        for one in parse_json(path.read_bytes())["chains"]:
            guard, first, start, following, head = (one[name] for name in ("guard", "first", "start", "next", "head"))
            parse_guard(guard)
            is_valid = is_sequence(first) and is_sequence(following) and is_digest(start) and is_digest(head)
            if not is_valid or not isinstance(one["headTime"], str):
                raise SourceUnreadable(f"{path} is not a report")
            known[guard] = Checkpoint(first, start)
            if following > first:
                anchors.append(Anchor(guard, following - 1, head, "the earlier report", one["headTime"]))
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}") from None
    except (JsonInvalid, LineInvalid, KeyError, TypeError):
        raise SourceUnreadable(f"{path} is not a report") from None
    return Expectations(anchors, known, kept_since)


def _printable(text: str) -> str:
    """Return a text in one line and without signs that a terminal obeys, such as those of a forged database."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _to_text(report: ChainReport) -> str:
    lines = [_printable(f"{finding.kind}: {finding.where}: {finding.message}") for finding in report.findings]
    open_calls = f", {report.without_outcome} allowed calls without outcome" if report.without_outcome else ""
    verdict = f"{len(report.findings)} findings" if report.findings else "complete"
    lines.append(f"{report.lines} lines in {len(report.chains)} chains: {verdict}{open_calls}")
    return "".join(f"{line}\n" for line in lines)


def _to_json(report: ChainReport) -> str:
    ends = {guard: (chain.beginning, chain.head) for guard, chain in report.chains.items()}
    ends |= {guard: (last, Head(last.next, last.hash)) for guard, last in report.emptied.items()}
    value = {
        "lines": report.lines,
        "withoutOutcome": report.without_outcome,
        "chains": [
            {
                "guard": guard,
                "first": beginning.next,
                "start": beginning.hash,
                "next": head.next,
                "head": head.hash,
                "headTime": head.time,
            }
            for guard, (beginning, head) in sorted(ends.items())
        ],
        "findings": [
            {"kind": finding.kind, "where": finding.where, "message": finding.message} for finding in report.findings
        ],
    }
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
