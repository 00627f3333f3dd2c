"""Ask the agent: each argument is one question, which is sent as one task."""

import sys
import urllib.error
import urllib.request

URL = "http://guard-stock"  # the Service of the agent `stock` in this namespace

for question in sys.argv[1:]:
    try:
        with urllib.request.urlopen(URL, question.encode()) as reply:
            print(reply.read().decode(), end="")
    except urllib.error.HTTPError as refused:
        print(refused.status, refused.read().decode())
    except OSError as error:
        print("not reached:", error)
