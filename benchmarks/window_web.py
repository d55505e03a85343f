"""What the window costs, in ledgers of several lengths: python benchmarks/window_web.py

Fills ledgers with 100 to 100,000 experiments that descend from each other, serves each with the real command, and opens
it in chromium. First paint and time until the experiments stand there are the browser's own marks; the latency is from
the ledger's transaction to the changed page, the server polls twice a second.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from machine import heading, table
from orchestrator import CONSTANTS, CONTRACT, GENOME, MEASURED, Story, fill
from pictures import ARGUMENTS, command

from nightlab.core.types import Candidate, Measurement, Verdict
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.storage.ledger import Ledger

LENGTHS = 100, 1_000, 10_000, 100_000
UPDATES = 7
CHUNK = 10_000  # experiments whose words the page fetches at once
BRANCH = 0.1  # of the experiments, made on an earlier champion


def story(experiments: int, base: Candidate) -> Story:
    """A night: one in ten is kept, one in thirty crashes, and most are made on the champion."""
    draw = random.Random(2)
    line, bar = [base.commit], 1.0
    for n in range(experiments):
        one = base if n == 0 else _candidate(n, line[-1] if draw.random() > BRANCH else draw.choice(line[-8:]), draw)
        yield "proposed", {"number": n, "candidate": asdict(one)}
        value = bar if n == 0 else bar + draw.gauss(0.004, 0.003)
        measured: dict[str, Any] = {**MEASURED, "metric": value}
        verdict = Verdict("discard", "regressed", f"{value - bar:.4f} worse")
        if n and draw.random() < 1 / 30:
            measured |= {"metric": None, "outcome": "crashed", "detail": "out of memory"}
            verdict = Verdict("crash", "crashed", "out of memory")
        elif n == 0 or value < bar:
            bar, line = value, [*line[-8:], one.commit]
            verdict = Verdict("keep", "improved", "", bar)
        yield "judged", {"number": n, "measurement": measured, "verdict": asdict(verdict)}


def _candidate(n: int, parent: str, draw: random.Random) -> Candidate:
    name = draw.choice(list(CONSTANTS))
    words = f"{name} {CONSTANTS[name]:.4g} → {draw.uniform(0.001, 10):.4g}"
    commit = f"{draw.getrandbits(160):040x}"
    who = draw.choice(["tuner", "tuner", "patches", "agent"])
    return Candidate(commit, parent, commit[::-1], who, f"tune {words}, for reason {n}", 12, {}, (words,))


def make(folder: Path, experiments: int) -> Session:
    folder.mkdir()
    (folder / "lab.toml").write_text(CONTRACT)
    (folder / "genome.py").write_text(GENOME)
    who = ["-c", "user.name=nightlab", "-c", "user.email=nightlab@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "lab"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    session = Session.create(Repo(folder), "t")
    fill(session.ledger, story(experiments, session.baseline_candidate()))
    session.ledger._db.execute("PRAGMA synchronous = FULL")
    return session


def look(play: Any, folder: Path, ledger: Ledger) -> list[str]:
    server = subprocess.Popen(command("serve", "--port", "0"), cwd=folder, stdout=subprocess.PIPE, text=True)
    browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        urllib.request.urlopen(f"{found[0]}page/main.js").read()
        process = psutil.Process(server.pid)
        before = sum(process.cpu_times()[:2])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(found[0])
        page.locator("#rows .row").first.wait_for(timeout=120_000)
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        stands = page.evaluate("performance.getEntriesByName('painted')[0].startTime")
        while page.evaluate(WORDS) < -(-ledger.next_number() // CHUNK):
            page.wait_for_timeout(200)
        work = sum(process.cpu_times()[:2]) - before
        sizes = page.evaluate(
            "performance.getEntriesByType('resource').map(e => [e.name.includes('/page/'), e.encodedBodySize])"
        )
        code, told = (sum(size for page_, size in sizes if page_ == which) for which in (True, False))
        frames = page.evaluate(SCROLL)
        latency = statistics.median(update(page, ledger) for _ in range(UPDATES))
        memory = process.memory_info().rss / 2**20
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
        return [
            f"{painted:.0f} ms", f"{stands:.0f} ms", f"{work:.2f} s", f"{latency * 1000:.0f} ms", f"{frames:.0f} ms",
            f"{code / 1000:.0f} kB", f"{told / 1000:,.0f} kB", f"{memory:.0f} MB", f"{heap:.0f} MB",
        ]  # fmt: skip
    finally:
        browser.close()
        server.terminate()
        server.wait()


WORDS = "performance.getEntriesByType('resource').filter(e => e.name.includes('/api/words')).length"
SCROLL = """async () => {
  const box = document.querySelector('#rows');
  const frames = [];
  let last = performance.now();
  for (let i = 0; i < 60; i++) {
    box.scrollTop += 300;
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames.sort((a, b) => a - b)[57];
}"""


def update(page: Any, ledger: Ledger) -> float:
    """Seconds from an event in the ledger to the page that shows what it changed."""
    began, number = time.monotonic(), ledger.next_number()
    ledger.propose(Candidate(f"{number:040x}", "0" * 40, f"{number}", "tuner", f"update {number}"))
    page.locator("#count", has_text=f"{number + 1:,} experiment").wait_for(timeout=60_000)
    took = time.monotonic() - began
    ledger.judge(number, Measurement("measured", 2.0), Verdict("discard", "regressed"))
    return took


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    from playwright.sync_api import sync_playwright

    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        for length in asked.parse_args().lengths:
            session = make(Path(folder) / str(length), length)
            rows.append([f"{length:,}", *look(play, session.repo.lab, session.ledger)])
            session.close()
            print(rows[-1], file=sys.stderr, flush=True)
    heading("The window in a browser")
    print(f"load of the machine meanwhile: {os.getloadavg()[1]:.1f}\n")
    heads = [
        "experiments",
        "first paint",
        "all there",
        "server's CPU",
        "update",
        "scrolling, 95 %",
        "code",
        "data",
        "server",
        "page",
    ]
    table(heads, rows)


if __name__ == "__main__":
    main()
