"""JSON in the one form in which the API server writes an object. No I/O.

The API server compares the data of a ControllerRevision as text. Where the stored text is not the one that its own
encoder, Go's, writes, it refuses each change of the metadata: no annotation can be set, and the garbage collector
cannot take the owner away, so that an Agent whose objects are orphaned is never gone.
"""

import json
import re
from typing import Any, Final

_WRITTEN_OTHERWISE: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
"""What Go escapes, since a browser might read the text, and halves of characters, which it replaces."""


def to_go_json(value: Any) -> str:
    """Return JSON as Go's encoder writes it: sorted by code points, without spaces, and HTML's own characters escaped.

    Doubles are written as Python does.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _WRITTEN_OTHERWISE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"  # noqa: PLR2004 - halves of characters
