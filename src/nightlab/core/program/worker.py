"""Finds the facts of programs in a process of its own, so that no genome can hold up the session that reads it.

Run as a file: reads a request per line of JSON from standard input, and writes each answer as one.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path

CPU_SECONDS = 20.0  # for one genome, before the system ends the process
MEMORY = 2 * 2**30  # bytes of address space


def main() -> None:
    """Answer requests until the input ends."""
    from nightlab.core.program.facts import program_facts

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))
    outside: frozenset[str] = frozenset()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "outside" in asked:
            outside = frozenset(asked["outside"])
            continue
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends a process that does not catch it
        found = asdict(program_facts(**asked, outside=outside))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    main()
