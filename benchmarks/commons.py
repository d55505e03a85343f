"""A commons of five labs, in real processes: python benchmarks/commons.py [--ideas 40]

Each lab has a home, a key and a session of its own (``nightlab run``), and exchanges through a bare folder
(``nightlab sync``, every second). One finds a planted gain and shares it as soon as it is kept; two others verify and
adopt it; one lies, is refuted and shut out; one joins late. Meanwhile the remote goes away for a while, and a share
and two syncs are killed, by SIGKILL, between what they write and the ref that makes it count. In the end all must have
the same records, whole; it is said how long the find took to be adopted by each. It fails where any of this does not
happen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Any

from machine import heading, table

from nightlab.commons.exchange import Commons
from nightlab.commons.finding import finding_body, task_of
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import author_key, open_commons
from nightlab.commons.record import Finding, Verification, author_of
from nightlab.commons.trust import Trust
from nightlab.core.events import FindingVerified
from nightlab.core.types import Experiment, NightlabError
from nightlab.session.session import open_session
from nightlab.storage.git import Repo
from nightlab.storage.ledger import find_ledger

PROGRAM = [sys.executable, "-c", "from nightlab.cli.main import main; main()"]
PLANTED, LIES = "A = 2.0", 3
EVERY = 1.0  # seconds between two syncs of one lab
GIT = f"""\
#!/bin/sh
# git, but it kills the nightlab that is named in a file, once, at the instant when what was written would count.
case "$PWD $*" in
*/nightlab/commons*" update-ref "*)
    if grep -qaf "$HOME/kill" /proc/$PPID/cmdline 2> /dev/null; then rm "$HOME/kill"; kill -9 $PPID; exit; fi ;;
esac
exec {shutil.which("git")} "$@"
"""

GENOME = "A = 4.0  # the one that matters\n\n\n\n\n\nB = 8.0\n\n\n\n\n\nC = 1.0\n\n\n\n\n\nD = 1.0\n"
MEASURE = """\
import os
import random

from genome import A, B, C, D

luck = random.Random(f"{os.environ['NIGHTLAB_SEED']} {A} {B} {C} {D}").gauss(0, 0.02)
print(f"METRIC loss={(A - 1) ** 2 + 0.1 * (B - 8) ** 2 + (C - 1) ** 2 + (D - 1) ** 2 + luck:.6f}")
"""
CONTRACT = """\
name = "tiny"
genome = ["genome.py"]
command = "python measure.py"

[metric]
name = "loss"

[budget]
amount = 20

[judge]
sigma = 0.02
upkeep = 0
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"

[commons]
remote = "../commons.git"
share = 0.3
verifications = true
"""


class Lab:
    """A lab of somebody's own, and what they run in it."""

    def __init__(self, where: Path, name: str, ideas: int, draw: random.Random) -> None:
        self.name, self.folder, self.home = name, where / name, where / f"home-{name}"
        self.folder.mkdir()
        (self.home / "bin").mkdir(parents=True)
        (self.home / "bin" / "git").write_text(GIT)
        (self.home / "bin" / "git").chmod(0o755)
        for path, text in (("lab.toml", CONTRACT), ("genome.py", GENOME), ("measure.py", MEASURE)):
            (self.folder / path).write_text(text)
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=self.folder, check=True)
        self.commit("the lab")
        self.repo = Repo(self.folder)
        for n in range(ideas):  # none of which helps
            constant, value = draw.choice(("B", "C", "D")), round(draw.uniform(1.5, 4.0), 3)
            old = {"B": "B = 8.0"}.get(constant, f"{constant} = 1.0")
            self.idea(f"{n:03d}", old, f"{constant} = {value}")
        self.night: subprocess.Popen[bytes] | None = None

    def know(self, authors: Sequence[str]) -> None:
        """Name these authors in the contract."""
        named = f"[commons]\nknown = {json.dumps(authors)}"
        (self.folder / "lab.toml").write_text(CONTRACT.replace("[commons]", named))
        self.commit("whom we know")

    def commit(self, words: str) -> None:
        for args in (["add", "*.toml", "*.py"], ["commit", "-q", "-m", words]):
            who = ("-c", "user.name=me", "-c", "user.email=me@here")
            subprocess.run(["git", *who, *args], cwd=self.folder, check=True)

    def idea(self, name: str, old: str, new: str) -> None:
        sides = (text.splitlines(keepends=True) for text in (GENOME, GENOME.replace(old, new)))
        patch = "diff --git a/genome.py b/genome.py\n" + "".join(unified_diff(*sides, "a/genome.py", "b/genome.py"))
        (self.folder / "ideas").mkdir(exist_ok=True)
        (self.folder / "ideas" / f"{name}.patch").write_text(f"Hypothesis: {new}\n{patch}")

    @property
    def env(self) -> dict[str, str]:
        own = {"HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "200"}
        return {
            **os.environ,
            **own,
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CONFIG_HOME": str(self.home / "conf"),
        }

    @contextmanager
    def here(self) -> Iterator[None]:
        """Be this user, for what is done in this process."""
        before = dict(os.environ)
        os.environ.update(self.env)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*PROGRAM, *args], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def do(self, *args: str) -> tuple[int, str]:
        process = self.start(*args)
        out, _ = process.communicate()
        return process.returncode, out.decode(errors="replace")

    def run(self) -> None:
        self.night = self.start("run")
        threading.Thread(target=self.night.communicate, daemon=True).start()

    def awake(self) -> bool:
        """True; a night that had nothing left to try, and ended, is started again: there may be something by now."""
        if self.night is None or self.night.poll() is not None:
            self.run()
        return True

    def experiments(self) -> list[Experiment]:
        try:
            ledger = find_ledger(self.folder, None)
        except NightlabError:
            return []
        found = ledger.experiments()
        ledger.close()
        return found

    def adopted(self) -> float | None:
        """When a genome with the planted gain was kept here; None as long as it was not."""
        for e in self.experiments():
            if e.kept and PLANTED in (self.repo.read(e.candidate.commit, "genome.py") or ""):
                return e.judged_at
        return None

    def verified(self) -> list[dict[str, Any]]:
        ledger = find_ledger(self.folder, None)
        notes = ledger.events(FindingVerified)
        ledger.close()
        return notes


class Syncing(threading.Thread):
    """Syncs a lab now and then."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.lab, self.stop = lab, False
        self.done = self.away = self.killed = 0
        self.start()

    def run(self) -> None:
        while not self.stop:
            code, said = self.lab.do("sync")
            assert code in (0, -signal.SIGKILL) or "nothing is lost" in said, said
            self.away += code == 1
            self.done += code == 0
            self.killed += code == -signal.SIGKILL
            time.sleep(EVERY)


def lie(liar: Lab) -> None:
    """Publish failures as the best ever, each in its author's own good form."""
    with liar.here():
        session = open_session(liar.folder)
        task, bodies = task_of(session), []
        for number in range(1, LIES + 1):
            body, patch = finding_body(session, session.ledger.experiment(number), task, ())
            body |= {"status": "keep", "runs": [{"seed": 1, "value": 1e-4}], "against": [{"seed": 1, "value": 59.0}]}
            bodies.append((body, patch))
        open_commons().publish(author_key(make=True), bodies)
        session.close()


def until(what: str, holds: Callable[[], Any], seconds: float = 600) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise SystemExit(f"it never happened: {what}")
        time.sleep(0.1)
    return found


def commons_of(lab: Lab) -> Commons:
    with lab.here():
        return open_commons()


def author(lab: Lab) -> str:
    with lab.here():
        return author_of(author_key(make=True))


def findings(where: Lab, whose: Lab) -> dict[str, Finding]:
    """A lab's findings that count in the copy of the commons of another."""
    chain = commons_of(where).entries().get(author(whose), [])
    return {entry.id: entry.signed.record for entry in chain if isinstance(entry.signed.record, Finding)}


def trust_of(lab: Lab) -> dict[str, Trust]:
    """A lab's trust in each author of whom it knows anything."""
    with lab.here(), closing(open_session(lab.folder)) as session:
        return PeerStore(session, open_commons()).trust


def trusted(lab: Lab, whom: str) -> tuple[float, bool]:
    known = trust_of(lab).get(whom, Trust())
    return known.value, known.quarantined


def play(where: Path, ideas: int, seed: int) -> None:
    draw, remote = random.Random(seed), where / "commons.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", "-b", "main", remote], check=True)
    finder, one, two, liar = (Lab(where, name, ideas, draw) for name in ("finder", "one", "two", "liar"))
    finder.idea("002-planted", "A = 4.0", PLANTED)
    liar.do("run", "--experiments", str(LIES + 1))
    lie(liar)
    syncing = {lab.name: Syncing(lab) for lab in (finder, one, two, liar)}
    for lab in (one, two, finder):
        lab.run()
    found = until("the find", finder.adopted)
    remote.rename(where / "away.git")
    print("the finder kept the planted gain; the remote is away; the finder's share is killed in the middle of writing")
    (finder.home / "kill").write_text("share")
    code, said = finder.do("share", "--yes")
    assert code == -signal.SIGKILL and not (finder.home / "kill").exists(), said
    assert not findings(finder, finder), "nothing of it counts"
    code, said = finder.do("share", "--yes")
    assert code == 0, said
    until("all miss the remote", lambda: all(sync.away for sync in syncing.values()))
    for lab in (one, two):
        (lab.home / "kill").write_text("sync")
    (where / "away.git").rename(remote)
    back = time.time()
    print("it is back, with what was shared meanwhile; the first syncs of 'one' and 'two' are killed likewise")
    for lab in (one, two):
        until(f"{lab.name} adopts", lambda lab=lab: lab.awake() and lab.adopted())
        assert syncing[lab.name].killed == 1
    late = Lab(where, "late", ideas, draw)
    syncing["late"], joined = Syncing(late), time.time()
    until("the late one hears of it", lambda: commons_of(late).entries())
    late.run()
    until("the late one adopts", lambda: late.awake() and late.adopted())
    for lab in (one, two, late):
        until(f"{lab.name} quarantines the liar", lambda lab=lab: lab.awake() and trusted(lab, author(liar))[1])
    labs = [finder, one, two, liar, late]
    for lab in labs:
        syncing[lab.name].stop = True
        syncing[lab.name].join()
        if lab.night:
            lab.night.terminate()
            lab.night.wait()
    for _ in range(2):
        for lab in labs:
            code, said = lab.do("sync")
            assert code == 0, said
    rows = []
    for lab in labs:
        ours, at = lab.verified(), lab.adopted()
        since = "found it" if lab is finder else "-" if at is None else f"{at - found:.1f} s"
        again = f"{at - max(back, joined if lab is late else 0):.1f} s" if at and lab is not finder else "-"
        value, shut = trusted(lab, author(liar)) if lab is not liar else (0.0, False)
        spent = sum(note.author == author(liar) for note in ours)
        trust = "-" if lab is liar else f"{value:.2f}{', quarantined' * shut}"
        sync = syncing[lab.name]
        rows.append([lab.name, len(lab.experiments()), since, again, trust, spent, sync.done, sync.away, sync.killed])
    columns = ("lab", "experiments", "adopted after the find", "after it could be had", "trust in the liar")
    table((*columns, "trials spent on the liar", "syncs", "remote away", "killed"), rows)
    both = max(at for lab in (one, two) if (at := lab.adopted()))
    print(f"from the find to its adoption by both who were there: {both - found:.1f} s")
    consistent(labs)
    believed(labs)


def believed(labs: list[Lab]) -> None:
    """Each has said what it measured: that the find holds, and that the lies don't."""
    finder, one, two, liar, late = labs
    truth = {name for name, record in findings(finder, finder).items() if "A 4 → 2" in record.changes}
    lies = findings(finder, liar).keys()
    assert truth and len(lies) == LIES
    for lab in (one, two, late):
        chain = commons_of(finder).entries()[author(lab)]
        said = {r.target: r for entry in chain if isinstance(r := entry.signed.record, Verification)}
        assert any(r.verdict == "confirmed" and r.adopted for target, r in said.items() if target in truth), "it holds"
        assert any(r.verdict == "refuted" for target, r in said.items() if target in lies), "they don't"
        assert not any(r.verdict == "confirmed" or r.adopted for target, r in said.items() if target in lies)
    print("the find was confirmed and adopted, and the liar refuted, by each of the three others, in signed records")


def consistent(labs: list[Lab]) -> None:
    """All have the same records, each of which reads back, and git finds no fault."""
    heads = [commons_of(lab).chains.heads() for lab in labs]
    assert all(each == heads[0] for each in heads), "the copies differ"
    records = [entry.signed.record for chain in commons_of(labs[0]).entries().values() for entry in chain]
    for lab in labs:
        subprocess.run(["git", "fsck", "--strict"], cwd=commons_of(lab).folder, check=True, capture_output=True)
    verdicts = [record.verdict for record in records if isinstance(record, Verification)]
    findings = sum(isinstance(record, Finding) for record in records)
    said = ", ".join(f"{verdicts.count(v)} {v}" for v in ("confirmed", "refuted", "inconclusive"))
    print(f"all {len(labs)} copies hold the same {len(records)} records: {findings} findings; verifications: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ideas", type=int, default=40, help="that do nothing, in each lab's queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labs", type=int, default=5, help="more than five: benchmarks/commons_labs.py")
    parser.add_argument("--at-once", type=int, default=6, help="turns of labs at once, with more than five")
    parser.add_argument("--known", action="store_true", help="the honest ones of many labs have named each other")
    asked = parser.parse_args()
    if asked.known and asked.labs <= 5:
        parser.error("--known is of more than five labs: --labs 32")
    heading(f"A commons of {asked.labs} labs")
    with tempfile.TemporaryDirectory(prefix="nightlab-commons-", ignore_cleanup_errors=True) as folder:
        if asked.labs > 5:
            from commons_labs import play as play_many

            play_many(Path(folder), asked.labs, asked.ideas, asked.seed, asked.at_once, asked.known)
            return
        play(Path(folder), asked.ideas, asked.seed)


if __name__ == "__main__":
    main()
