"""The command `interlock-audit report`: what calls of models and tools cost, by their audit records.

Exit code 0: the report is written. 2: the records, a file or an option cannot be read.
"""

import argparse
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from interlock_audit import cost_compare, cost_formats
from interlock_audit.cost_formats import midnight, printable
from interlock_audit.cost_report import (
    DIMENSIONS,
    LABEL,
    CostReport,
    Question,
    ReportRefused,
    build_report,
    read_agents,
)
from interlock_audit.cost_sql import CostSource
from interlock_audit.provider_export import ExportInvalid, ProviderExport, read_export
from interlock_audit.remote import Remote
from interlock_audit.settings import SQLITE_FILE
from interlock_audit.sqlite import open_sqlite
from interlock_audit.stores import StoreUnavailable
from interlock_contract.clock import utc_now

OK, UNREADABLE = 0, 2
PROGRAM: Final = "interlock-audit report"
FORMATS: Final = ("table", "json", "csv")

_BY: Final = ("agent", "environment", "model")
_MOST_BYTES: Final = 16 * 1024 * 1024
_MOST_MEMORY: Final = 128 * 1024 * 1024
"""Bytes of data that the command may take: the collector's container has a limit, and the collector needs its part."""
_STATEMENT_SECONDS: Final = 120.0
_FIRST_YEAR, _LAST_YEAR = 1971, 9000


def run(arguments: Sequence[str]) -> int:
    """Run the command with a bound of its memory, so that no report ends the collector. Return the exit code."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    return main(arguments)


def main(
    arguments: Sequence[str] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Write the report that the command line asks for. Return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        text = _run(options, environment, clock())
    except (ReportRefused, StoreUnavailable, ExportInvalid) as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return UNREADABLE
    except MemoryError:
        sys.stderr.write("the report takes more than 128 MiB of memory: group by less, or give it smaller files\n")
        return UNREADABLE
    sys.stdout.write(text)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="What calls of models and tools cost, by audit records.")
    parser.add_argument("--sqlite", type=Path, metavar="PATH", help="the collector's SQLite file")
    parser.add_argument("--postgres", metavar="DSN", help="the collector's PostgreSQL database")
    parser.add_argument("--url", help="the collector itself, such as http://127.0.0.1:7420")
    parser.add_argument("--token", type=Path, metavar="FILE", help="with --url: a file with the bearer token")
    known = f"{', '.join(DIMENSIONS)}, {LABEL}KEY"
    parser.add_argument("--by", metavar="LIST", help=f"with commas between them: {known} (default: {','.join(_BY)})")
    text = "day (YYYY-MM-DD) or time (RFC 3339) from which on calls count (default: the first of the month)"
    parser.add_argument("--from", dest="since", metavar="TIME", help=text)
    text = "day or time from which on no call counts (default: now)"
    parser.add_argument("--to", dest="until", metavar="TIME", help=text)
    text = "time zone of days, such as Europe/Berlin (default: %(default)s)"
    parser.add_argument("--time-zone", default="UTC", metavar="NAME", help=text)
    parser.add_argument("--namespace", default="", help="only the agents of this namespace")
    parser.add_argument("--agent", default="", help="with --namespace: only this agent")
    text = (
        "output of `kubectl get agents.interlock.dev -A -o json`, for labels; - is stdin; of several, the last counts"
    )
    parser.add_argument("--agents", action="append", default=[], metavar="FILE", help=text)
    parser.add_argument("--compare", metavar="FILE", help="an export of OpenAI or Anthropic, or CSV; - is stdin")
    text = "with --compare: the provider's name in policies (default: openai or anthropic, by the file)"
    parser.add_argument("--provider", default="", metavar="NAME", help=text)
    parser.add_argument("--format", choices=FORMATS, default="table", help="csv has the columns of FOCUS 1.2")
    text = "for csv: BillingAccountId, the identifier of your account at the provider"
    parser.add_argument("--billing-account", default="", metavar="ID", help=text)
    return parser


def _run(options: argparse.Namespace, environment: Mapping[str, str], now: datetime) -> str:
    if options.agent and not options.namespace:
        raise ReportRefused("--agent needs --namespace: agents of several namespaces can have one name")
    if options.compare and (options.by or options.agents):
        raise ReportRefused("--compare is by day and model, so it takes no --by and no --agents")
    if options.provider and not options.compare:
        raise ReportRefused("--provider needs --compare")
    zone = _zone(options.time_zone)
    export = _export(options.compare, zone) if options.compare else None
    agents = read_agents((name, _read(name)) for name in options.agents)
    question = _question(options, zone, export, now)
    with _open(options, environment) as store:
        report = build_report(store, question, agents)
    if export is None:
        return _write(report, options)
    formats = {"table": cost_compare.to_table, "json": cost_compare.to_json, "csv": cost_compare.to_csv}
    return formats[options.format](cost_compare.compare(report, export, options.provider or export.provider))


def _write(report: CostReport, options: argparse.Namespace) -> str:
    if options.format == "csv":
        return cost_formats.to_csv(report, options.billing_account)
    return cost_formats.to_json(report) if options.format == "json" else cost_formats.to_table(report)


def _question(options: argparse.Namespace, zone: ZoneInfo, export: ProviderExport | None, now: datetime) -> Question:
    by = tuple(dict.fromkeys(options.by.split(","))) if options.by else _BY
    if export is not None:
        first, following = cost_compare.period_of(export.days)
        since, until, by = midnight(first, zone), midnight(following, zone), cost_compare.BY
    else:
        since, until = midnight(now.astimezone(zone).date().replace(day=1), zone), now
        if options.format == "csv":
            by = tuple(dict.fromkeys([*by, *cost_formats.NEEDED_BY_CSV]))
    since = _time(options.since, zone) if options.since else since
    until = _time(options.until, zone) if options.until else until
    if since >= until:
        raise ReportRefused(f"the report ends before it begins: {since.isoformat()} is not before {until.isoformat()}")
    return Question(by, since, until, zone, options.namespace, options.agent)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ReportRefused(f"{name!r} is not the name of a time zone, such as Europe/Berlin") from None


def _time(text: str, zone: ZoneInfo) -> datetime:
    try:
        time = (
            midnight(date.fromisoformat(text), zone) if len(text) == len("2026-03-02") else datetime.fromisoformat(text)
        )
    except ValueError:
        raise ReportRefused(f"{text!r} is neither a day (2026-03-02) nor a time (2026-03-02T09:00:00Z)") from None
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ReportRefused(f"{text!r} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    return time if time.tzinfo else time.replace(tzinfo=zone)


def _export(name: str, zone: ZoneInfo) -> ProviderExport:
    try:
        export = read_export(_read(name).decode())
    except (ExportInvalid, UnicodeDecodeError) as error:
        raise ExportInvalid(f"{name}: {error}") from None
    if export.is_utc and zone.key != "UTC":
        raise ReportRefused(f"the days of {name} are days in UTC, so --time-zone must be UTC")
    return export


def _read(name: str) -> bytes:
    """Return the content of a file, or of standard input for `-`."""
    try:
        if name == "-":
            found = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                found = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ReportRefused(f"{name}: {error.strerror}") from None
    if len(found) > _MOST_BYTES:
        raise ReportRefused(f"{name} is longer than {_MOST_BYTES} bytes")
    return found


@contextmanager
def _open(options: argparse.Namespace, environment: Mapping[str, str]) -> Iterator[CostSource]:
    """Open the store of the options, else the one of the collector in whose container this runs."""
    if sum(map(bool, (options.sqlite, options.postgres, options.url))) > 1:
        raise ReportRefused("name one source: --sqlite, --postgres or --url")
    if options.url:
        yield Remote(options.url, options.token)
        return
    dsn = options.postgres or ("" if options.sqlite else environment.get("INTERLOCK_POSTGRES", ""))
    if dsn:
        from interlock_audit.postgres import open_postgres  # noqa: PLC0415 - only its users need its driver

        store = open_postgres(dsn, is_read_only=True, seconds=_STATEMENT_SECONDS)
    else:
        store = open_sqlite(options.sqlite or Path(environment.get("INTERLOCK_SQLITE", SQLITE_FILE)), is_read_only=True)
    try:
        yield store
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
