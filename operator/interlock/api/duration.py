"""Durations as Kubernetes writes them: the subset of Go's syntax that GEP-2257 allows."""

import re
from datetime import timedelta

_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}", re.ASCII)
_PART = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: str) -> timedelta:
    """Return the time that `text` says, such as `168h`, `90m` or `1h30m`.

    Raises:
        ValueError: if `text` is not a duration; there are no days, signs or fractions.

    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration: write 168h, 90m or 1h30m (7 days are 168h)')
    return timedelta(milliseconds=sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)))


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back; parts of a millisecond are cut off.

    Raises:
        ValueError: if `duration` is negative or has more hours than five digits hold.

    """
    rest = duration // timedelta(milliseconds=1)
    parts = []
    for unit, size in _MILLISECONDS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    text = "".join(parts) or "0s"
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{duration} is negative or too long to be written as a duration")
    return text
