"""What one lab's copy of the commons costs as the number of authors grows: python benchmarks/commons_scale.py

Makes bare remotes with one finding of each author, and measures in fresh processes: the first sync, a sync when ten
labs have shared a record since, what git says to the remote and hears from it then, what gossip announces, and what it
takes another process to know all records.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commons import PROGRAM  # noqa: F401 (the benchmark's own folder is importable)
from machine import heading, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.commons_examples import PATCH, body, finding, git

from nightlab.commons.checked_copy import PATCH_FILE, RECORD_FILE
from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import Gossip
from nightlab.commons.record import Signed, author_of, encode_record, sign
from nightlab.storage.git.record_chains import PLACE, WHO

NEW = 10
GIT = """\
#!/bin/sh
GIT_TRACE_PACKET="$PACKETS" exec {git} "$@"
"""


def key(number: int) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def published(signed: Signed, patch: str = PATCH) -> bytes:
    """A finding at the end of its author's chain, as git fast-import reads it."""
    lines = f"commit {PLACE}/{signed.record.author}\ncommitter {WHO}\n".encode()
    lines += b"data %d\n%s\n" % (len(signed.id) + 1, signed.id.encode())
    for name, content in ((RECORD_FILE, encode_record(signed)), (PATCH_FILE, patch.encode())):
        lines += f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n"
    return lines


def fill(remote: Path, numbers: range) -> None:
    """One finding of each of these authors, by git fast-import."""
    lines = list[bytes]()
    for number in numbers:
        own = key(number + 1)
        record = finding(runs=[{"seed": 1, "value": 2.0 + number / 1e6}]).model_copy(update={"author": author_of(own)})
        lines.append(published(sign(record, own)))
    git(remote, "fast-import", "--quiet", stdin=b"".join(lines) + b"done\n")


def share(others: Path, remote: Path, numbers: range) -> None:
    """Labs that share a record each, one after another."""
    commons = Commons(others)
    for number in numbers:
        commons.publish(key(number + 1), [body(2.0 + number / 1e6)])
        commons.push(str(remote), author_of(key(number + 1)))


def exchanged(copy: Path, remote: Path) -> int:
    """Bytes of what git says and hears in a sync, without the packs of objects."""
    with tempfile.TemporaryDirectory() as place:
        wrapper, packets = Path(place) / "git", Path(place) / "packets"
        wrapper.write_text(GIT.format(git=shutil.which("git")))
        wrapper.chmod(0o755)
        shutil.copytree(copy, Path(place) / "copy")
        env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "PACKETS": str(packets)}
        measured("sync", Path(place) / "copy", remote, env)
        lines = packets.read_text(errors="replace").splitlines()
        said = [line.split("packet:", 1)[1].split(None, 1)[1] for line in lines if "packet:" in line]
        ours = [line for line, raw in zip(said, lines, strict=False) if "upload-pack" not in raw]
        return sum(len(line) + 4 for line in ours)


class Counting:
    """A transport that counts what it is told to send."""

    def __init__(self) -> None:
        self.sent = list[int]()

    def announce(self, heads: Any) -> None:
        self.sent.append(len(json.dumps(dict(heads))))

    def ask(self, peer: str, wants: Any, most: int) -> None: ...

    def messages(self) -> Any:
        return iter(())


def child(what: str, folder: Path, remote: Path) -> None:
    """One measurement, in this process; printed as JSON."""
    started, facts = time.process_time(), dict[str, float]()
    commons = Commons(folder)
    if what == "sync":
        while commons.pull(str(remote)).waiting:
            pass
    elif what == "read":
        commons.entries()
    else:
        transport = Counting()
        gossip = Gossip(commons, transport)
        gossip.step()
        facts["announced"] = max(transport.sent)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts |= {
        "cpu": time.process_time() - started + children.ru_utime + children.ru_stime,
        "rss": int(peak.split()[1]) / 1024,  # ru_maxrss would count the parent's before exec
    }
    print(json.dumps(facts))


def measured(what: str, folder: Path, remote: Path, env: dict[str, str] | None = None) -> dict[str, float]:
    asked = [sys.executable, __file__, "--child", what, str(folder), str(remote)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env=env)
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=int, nargs="+", default=[100, 1000, 9990])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], Path(asked.child[1]), Path(asked.child[2]))
        return
    heading("The commons at one lab, by the number of authors")
    rows = []
    for authors in asked.authors:
        with tempfile.TemporaryDirectory(prefix="nightlab-scale-") as place:
            remote, copy = Path(place) / "remote.git", Path(place) / "copy"
            subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)
            fill(remote, range(authors))
            first, others = measured("sync", copy, remote), Path(place) / "others"
            shutil.copytree(copy, others)
            share(others, remote, range(authors, authors + 1))
            measured("sync", copy, remote)
            share(others, remote, range(authors + 1, authors + 1 + NEW))
            said = exchanged(copy, remote)
            second = measured("sync", copy, remote)
            read, gossip = measured("read", copy, remote), measured("gossip", copy, remote)
            disk = sum(file.stat().st_size for file in copy.rglob("*") if file.is_file())
            rows.append([
                f"{authors:,}", f"{first['cpu']:.1f} s", f"{second['cpu']:.2f} s", f"{second['rss']:.0f} MB",
                f"{said / 1e3:,.0f} kB",
                f"{gossip['announced'] / 1e3:.0f} kB", f"{read['cpu']:.2f} s", f"{read['rss']:.0f} MB",
                f"{disk / 1e6:.1f} MB",
            ])  # fmt: skip
    columns = ("authors", "first sync, CPU", f"sync of {NEW} new, CPU", "memory", "exchanged")
    table((*columns, "gossip announcement", "reading all, CPU", "memory then", "disk"), rows)


if __name__ == "__main__":
    main()
