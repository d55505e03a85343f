"""Time and memory of what the orchestrator reads from others: genomes up to 1 MB, patch queues, hypotheses, notes.

``python benchmarks/orchestrator_bounds.py`` prints a table and the machine. Genomes go through the reader that a
session uses: a separate process with limits, which refuses what takes too long.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nightlab.core.program.facts import SessionContext
from nightlab.core.text import one_line
from nightlab.loop.program_reader import ProgramReader
from nightlab.proposers.patches import PatchQueue
from nightlab.storage.git import OutOfScope, Repo
from nightlab.storage.ledger import Ledger, add_note, read_notes
from nightlab.testing import briefing

MB = 1_000_000
GENOMES: dict[str, tuple[str, Callable[[int], str]]] = {
    "small definitions": ("a.py", lambda size: "".join(f"def f{n}(x):\n    return x\n" for n in range(size // 26))),
    "constants": ("a.py", lambda size: "".join(f"C{n} = {n}\n" for n in range(size // 15))),
    "an f-string": ("a.py", lambda size: "x = f'" + "{a}" * (size // 3) + "'\n"),
    "a deep comparison": ("a.py", lambda size: "x = a" + " < b" * (size // 4) + "\n"),
    "WebAssembly comments": ("a.wat", lambda size: "(module)" + "(;" * (size // 2)),
}
SIZES = (26_000, 100_000, MB)
QUEUE = 10_000
WHO = ("-c", "user.name=x", "-c", "user.email=x@y")


def genome(name: str, size: int) -> str:
    path, make = GENOMES[name]
    text, before = make(size), {path: "(module)" if path.endswith("wat") else "X = 1\n"}
    reader = ProgramReader(lambda: SessionContext("cpu", (), before), lambda: None)
    try:
        found = reader.facts({path: text}, before, [path])
    except OutOfScope:
        return "refused: too much time or memory"
    finally:
        reader.close()
    return f"refused: {found.refusal.partition(':')[0]}" if found.refusal else "read"


def queue(count: int) -> str:
    """Ten turns of a queue of patches, each of which is applied."""
    with tempfile.TemporaryDirectory() as place:
        lab, text = Path(place), "".join(f"C{n} = {n}\n" for n in range(1000))
        (lab / "a.py").write_text(text)
        for command in (("init", "-q"), ("add", "-A"), (*WHO, "commit", "-q", "-m", "lab")):
            subprocess.run(["git", *command], cwd=lab, check=True)
        repo, folder = Repo(lab), lab / "ideas"
        head = repo.resolve() or ""
        patches = [
            repo.patch(head, repo.commit_files(head, {"a.py": text.replace(f"= {n}\n", "= -1\n")}, "x"))
            for n in range(10)
        ]
        folder.mkdir()
        for n in range(count):
            (folder / f"{n:05d}.patch").write_text(f"Hypothesis: an idea\n{patches[n % 10]}")
        begun = time.monotonic()
        ideas = PatchQueue(folder, set())
        for _ in range(10):
            if proposal := ideas.propose(briefing()):
                repo.commit_patch(head, proposal.patch, proposal.hypothesis)
                ideas.tell(proposal, None)
        return f"{(time.monotonic() - begun) / 10 * 1000:.0f} ms a turn, applied"


def note(size: int) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        Ledger(folder / "ledger.db").close()
        add_note(folder, "a word " * (size // 7))
        return f"cut to {len(read_notes(folder)[0]):,} characters"


def hypothesis(size: int) -> str:
    return f"cut to {len(one_line('an idea ' * (size // 8)))} characters"


OTHERS = {"a patch queue": queue, "a hypothesis": hypothesis, "a note": note}


def one(name: str, size: int) -> None:
    """One row's work in this process, and what it took."""
    begun = time.monotonic()
    came = genome(name, size) if name in GENOMES else OTHERS[name](size)
    seconds = time.monotonic() - begun
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, children = (resource.getrusage(each) for each in who)
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    print(json.dumps([came, seconds, cpu, own.ru_maxrss / 1024, children.ru_maxrss / 1024]))


def main() -> None:
    rows = [(name, size) for name in GENOMES for size in SIZES] + [("a patch queue", QUEUE), ("a hypothesis", MB)]
    rows.append(("a note", MB))
    print("| what | bytes, or files | came of it | seconds | CPU seconds | orchestrator, MB | reader, MB |")
    print("|---|---|---|---|---|---|---|")
    for name, size in rows:
        done = subprocess.run([sys.executable, __file__, name, str(size)], capture_output=True, text=True, check=True)
        came, seconds, cpu, own, reader = json.loads(done.stdout)
        print(f"| {name} | {size:,} | {came} | {seconds:.2f} | {cpu:.2f} | {own:.0f} | {reader:.0f} |", flush=True)
    load = os.getloadavg()[0]
    print(f"\n{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}")


if __name__ == "__main__":
    one(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main()
