"""A client that sends tasks to an agent without a pause, and prints a line for each answer.

One thread for each region (and one for tasks that name none) sends short tasks, another one long tasks, one after the
other. A line is JSON: region, version (of the agent that answered), status, seconds (of the task), and the answer if
it is no success.

Arguments: the URL, then the regions, `-` for none.

Environment variables:
    TASK: what each task says besides its seconds, as JSON.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from itertools import count

SHORT, LONG = 0.2, 4.0
TIMEOUT = 60
OK = 200
TASK = json.loads(os.environ.get("TASK", "{}"))
_lock = threading.Lock()


def send(url: str, region: str, seconds: float) -> dict[str, object]:
    """Send one task; return what came of it."""
    headers = {"Content-Type": "application/json"} | ({"X-Region": region} if region != "-" else {})
    request = urllib.request.Request(url, json.dumps({"seconds": seconds} | TASK).encode(), headers)  # noqa: S310
    began = time.monotonic()
    said = {"region": region, "seconds": seconds, "began": round(began, 2)}
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - the URL is the test's
            body = answer.read().decode()
            return said | {"status": answer.status, "version": json.loads(body)["version"]}
    except urllib.error.HTTPError as error:
        return said | {"status": error.code, "answer": error.read().decode()[:500], "took": time.monotonic() - began}
    except (OSError, ValueError) as error:
        return said | {"status": 0, "answer": repr(error)[:500], "took": time.monotonic() - began}


def probe(url: str, region: str, seconds: float) -> None:
    """Send tasks of one length, one after the other, for as long as the process lives."""
    for number in count():
        line = json.dumps(send(url, region, seconds) | {"number": number})
        with _lock:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        time.sleep(0.05)


url, *regions = sys.argv[1:]
# Network plugins refuse what a pod sends in its first second, until they know its address.
while send(url, regions[0], 0)["status"] != OK:
    time.sleep(0.1)
for region in regions:
    for seconds in (SHORT, LONG):
        threading.Thread(target=probe, args=(url, region, seconds)).start()
