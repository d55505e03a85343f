"""Finds the facts of programs in a separate process, so that no genome can hold up the session that reads it.

Run as a file: reads the session's context and then requests from standard input, each a line of JSON, and writes
each answer as one.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path

CPU_SECONDS = 10.0  # for one genome, before the system ends the process; one look at it takes a tenth
MEMORY = 2 * 2**30  # bytes of address space


def main() -> None:
    """Answer requests until the input ends."""
    from nightlab.core.program.constants import same_moves
    from nightlab.core.program.facts import SessionContext, program_facts

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))
    given = json.loads(sys.stdin.buffer.readline() or "{}")
    context = SessionContext(**{**given, "outside": frozenset(given.get("outside", ()))})
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends a process that does not catch it
        asked = json.loads(line)
        found = same_moves(**asked) if "now" in asked else asdict(program_facts(**asked, context=context))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    main()
