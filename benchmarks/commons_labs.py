"""A commons of many labs in real processes: python benchmarks/commons.py --labs 32

Half of the labs exchange over one bare remote, half over gossip on this machine's loopback; a quarter of all lie. One
finds a planted gain. Then the remote goes away for a while, and until the third round the halves are parted: then two
labs of the remote gossip too, and bring the find over. At the end all sync with the remote. Some sessions are killed,
three labs come late, and two leave, after a last sync with the remote. A round is a turn of each lab: sync, some
experiments, sync; as many turns as ``--at-once`` says run at the same time. All that stayed must end with the same
records.
"""

from __future__ import annotations

import random
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from commons import PLANTED, Lab, author, commons_of, consistent, findings, lie, trust_of, until
from machine import table

STEP = 10  # experiments of a turn
ROUNDS = 6  # at most
LATE, LEAVING, BRIDGES = 3, 2, 2
KILLED = 0.15  # part of the sessions that are killed once


class Member:
    """A lab among many: how it exchanges, and what happened to it."""

    def __init__(self, lab: Lab, *, gossips: bool, liar: bool) -> None:
        self.lab, self.gossips, self.liar = lab, gossips, liar
        self.away = self.killed = self.turns = 0
        self.daemon: subprocess.Popen[bytes] | None = None

    def sync(self) -> None:
        bundle = ["--bundle", str(self.lab.home / "own.bundle")] if self.gossips else []
        code, said = self.lab.do("sync", *bundle)
        assert code == 0 or "nothing is lost" in said, said
        self.away += code == 1

    def gossip(self, endpoint: str, known: str) -> None:
        self.daemon = self.lab.start(
            "gossip", "--listen", endpoint, *(["--connect", known] if known != endpoint else [])
        )
        threading.Thread(target=self.daemon.communicate, daemon=True).start()

    def turn(self, kill_after: float) -> None:
        """One turn of the lab; its session is killed after some seconds, if it still runs then, and started again."""
        self.sync()
        self.turns += 1
        for after in (kill_after, 0.0) if kill_after else (0.0,):
            session = self.lab.start("run", "--experiments", str(STEP * self.turns))
            try:
                out, _ = session.communicate(timeout=after or None)
                assert session.returncode == 0, out.decode(errors="replace")
            except subprocess.TimeoutExpired:
                session.kill()
                session.communicate()
                self.killed += 1
        self.sync()

    def leave(self) -> None:
        if self.daemon:
            self.daemon.terminate()  # an interrupt is ignored by what a shell runs in the background
            self.daemon.wait()


def endpoints(many: int) -> list[str]:
    """Free ports of this machine's loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    found = [f"tcp/127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return found


def one_round(members: Sequence[Member], draw: random.Random, at_once: int) -> None:
    """A turn of each, in a random order."""
    order = draw.sample(members, len(members))
    kills = [draw.uniform(2, 6) if draw.random() < KILLED else 0.0 for _ in order]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(Member.turn, order, kills))


def play(where: Path, labs: int, ideas: int, seed: int, at_once: int, known: bool) -> None:
    draw, remote = random.Random(seed), where / "commons.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", "-b", "main", remote], check=True)
    made = (Lab(where, f"lab{n:02d}", ideas, draw) for n in range(labs))
    members = [Member(lab, gossips=n % 2 == 1, liar=n >= labs - labs // 4) for n, lab in enumerate(made)]
    liars, honest = [m for m in members if m.liar], [m for m in members if not m.liar]
    finder = honest[0]
    if known:
        names = [author(each.lab) for each in honest]
        for each in honest:
            each.lab.know(names)
    finder.lab.idea("002-planted", "A = 4.0", PLANTED)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda m: m.lab.do("run", "--experiments", "4"), liars))
    for each in liars:
        lie(each.lab)
    bridges = [m for m in honest[1:] if not m.gossips][:BRIDGES]
    late, known = honest[-LATE:], endpoints(labs)
    gossiping = [m for m in members if m.gossips and m not in late]
    for each in gossiping:
        each.gossip(known[members.index(each)], known[members.index(gossiping[0])])
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(Member.sync, liars))
    finder.turn(0)
    found = until("the find", finder.lab.adopted)
    finder.lab.do("share", "--yes")
    finder.sync()
    print(f"{len(honest)} honest labs, {len(liars)} liars; the planted gain was found and shared; the remote goes away")
    remote.rename(where / "away.git")
    there = [m for m in honest[1:] if m not in late]
    one_round(there[: len(there) // 3], draw, at_once)
    (where / "away.git").rename(remote)
    one_round(there[len(there) // 3 :], draw, at_once)
    print(
        f"round 1 is over, after {time.time() - found:.0f} s; the remote is back; the two halves are still parted",
        flush=True,
    )
    gone: list[Member] = []
    for number in range(2, ROUNDS + 1):
        if number == 3:
            for each in (*bridges, *(m for m in late if m.gossips)):
                each.gossip(known[members.index(each)], known[members.index(gossiping[0])])
            gone = [m for m in there if m not in bridges and m is not gossiping[0]][:LEAVING]
            for each in gone:  # otherwise their records never reach the remote
                each.lab.do("sync")
                each.leave()
            there = [*(m for m in there if m not in gone), *late]
        waiting = [m for m in there if m.lab.adopted() is None]
        if not waiting and number > 3:
            break
        one_round(waiting, draw, at_once)
        adopted = sum(m.lab.adopted() is not None for m in there)
        print(f"round {number}: {adopted} of {len(there)} have it, after {time.time() - found:.0f} s", flush=True)
    finish([m for m in members if m not in gone], finder, liars, found, late, at_once)


def finish(
    staying: list[Member], finder: Member, liars: list[Member], found: float, late: Sequence[Member], at_once: int
) -> None:
    """All that stayed end with the same records; what it took is told."""

    def same() -> bool:
        with ThreadPoolExecutor(at_once) as pool:  # those of the gossip half too, now that nothing is parted any more
            list(pool.map(lambda each: each.lab.do("sync"), staying))
        heads = [commons_of(each.lab).chains.heads() for each in staying]
        return all(each == heads[0] for each in heads)

    started = time.monotonic()
    until("all have the same records", same, 900)
    print(f"the last records were with all after {time.monotonic() - started:.0f} s")
    for each in staying:
        each.leave()
    names, rows = {author(each.lab) for each in liars}, []
    lies = {name for each in liars for name in findings(finder.lab, each.lab)}
    after, tried = list[float](), 0
    for words, some in (
        ("remote", [m for m in staying if not (m.gossips or m.liar or m in late or m is finder)]),
        ("gossip", [m for m in staying if m.gossips and not m.liar and m not in late]),
        ("late", [m for m in late if m in staying]),
    ):
        times = [at - found for m in some if (at := m.lab.adopted()) is not None]
        notes = [note for m in some for note in m.lab.verified()]
        adopted = {name for note in notes if note.adopted for name in (note.target, *note.along, *note.beside)}
        assert not adopted & lies, "nobody adopts a lie, not in a combination either"
        shut = [name in names and trust.quarantined for m in some for name, trust in trust_of(m.lab).items()]
        spent = sum(note.target in lies for note in notes)
        after, tried = after + times, tried + spent
        rows.append([
            words, len(some), len(times), f"{statistics.median(times):.0f} s" if times else "-",
            f"{max(times):.0f} s" if times else "-", f"{spent / len(some):.1f}", f"{sum(shut) / len(some):.1f}",
            sum(m.killed for m in some), sum(m.away for m in some),
        ])  # fmt: skip
    columns = ("labs", "number", "adopted it", "median after the find", "last", "trials on lies each")
    table((*columns, "liars shut out each", "sessions killed", "syncs without remote"), rows)
    consistent([each.lab for each in staying])
    print(
        f"from the find to its adoption: median {statistics.median(after):.0f} s, last {max(after):.0f} s, by "
        f"{len(after)} labs; lies adopted: none, of {tried} measured; {time.time() - found:.0f} s in all"
    )
