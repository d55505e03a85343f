"""A separate program: posts what it finds on its standard input, as JSON, to the address in ``NIGHTLAB_WEBHOOK``.

Its exit status is 0 when it was accepted. It is a process, so that a name server that hangs or a server that answers a
byte a minute can be ended: who starts it has the clock. The address may hold a secret, and is never printed.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

TIMEOUT = 10.0  # seconds of silence


class _Stay(urllib.request.HTTPRedirectHandler):
    """What was given an address goes nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def webhook_main() -> int:
    address = os.environ["NIGHTLAB_WEBHOOK"]
    if not address.startswith(("http://", "https://")):
        print("the address is neither http:// nor https://")
        return 2
    headers = {"Content-Type": "application/json", "User-Agent": "nightlab"}
    request = urllib.request.Request(address, sys.stdin.buffer.read(), headers, method="POST")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT):
            return 0
    except urllib.error.HTTPError as error:
        print(f"it answers {error.code}")
    except (OSError, ValueError) as error:
        print(f"it can't be reached: {getattr(error, 'reason', error)}")
    return 1


if __name__ == "__main__":
    sys.exit(webhook_main())
