"""Does a session claim what is not there? python benchmarks/nulls.py [--experiments 60] [--seconds 3] [--planted]

A session of the language-model lab in which every candidate is the baseline in other words (a constant, a function,
an assertion that nothing uses): whatever it keeps is luck, and whatever it confirms is false. With --planted the
lab's own ideas are put between the null changes: which of them does the session find, and which nulls does it believe?
Each runs as ``nightlab run`` would, with the default rule; the trials are real.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import heading, table

from nightlab.analysis.confirm import Confirmer
from nightlab.core.config import StopRules
from nightlab.core.events import Rechecked
from nightlab.engines.local.prepare import run_prepare
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.ui.terminal.lines import LineObserver

REAL = 8  # of the lab's own ideas, in their order


def null_change(text: str, number: int) -> str:
    """The program with something added that nothing uses, each time at another place."""
    body = ast.parse(text).body
    line = body[(7 * number) % (len(body) - 12) + 10].lineno - 1
    added = [
        f"NOTHING_{number} = {number}\n",
        f"def nothing_{number}():\n    return {number}\n\n\n",
        f"assert {number} == {number}\n",
    ]
    lines = text.splitlines(keepends=True)
    while line and lines[line - 1].startswith(("@", "#")):
        line -= 1  # above a decorator, and above what a comment belongs to
    return "".join([*lines[:line], added[number % 3], *lines[line:]])


def plant(folder: Path, experiments: int, seconds: float, planted: bool, luck: int) -> None:
    """Make the lab: a queue of null changes, with real ideas in every third place if asked for."""
    make_lab(folder, "lm")
    contract = (folder / "lab.toml").read_text()
    queue = '[[proposers]]\nkind = "patches"\nfolder = "ideas"\n'
    judge = "[judge]\nconfirm = 0\n\n"
    contract = contract[: contract.index("[[proposers]]")].replace("amount = 10\n", f"amount = {seconds:g}\n")
    (folder / "lab.toml").write_text(contract + judge + queue)
    frozen = (folder / "prepare.py").read_text()
    mine = f"SEED = {luck} + int("
    (folder / "prepare.py").write_text(frozen.replace("SEED = int(", mine))
    ideas = sorted((folder / "ideas").glob("*.patch"))
    real = {3 * n + 3: idea.read_text() for n, idea in enumerate(ideas[:REAL])} if planted else {}
    for idea in ideas:
        idea.unlink()
    repo, text = Repo(folder), (folder / "train.py").read_text()
    head = repo.resolve() or ""
    for number in range(1, experiments + 1):
        patch = real.get(number)
        if patch is None:
            made = repo.commit_files(head, {"train.py": null_change(text, number)}, "null")
            patch = f"Hypothesis: null change {number}\n\n{repo.diff(head, made)}"
        (folder / "ideas" / f"{number:03d}.patch").write_text(patch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=3, help="of CPU time that a trial trains")
    parser.add_argument("--seeds", type=int, default=4, help="fresh pairs for what is claimed")
    parser.add_argument("--luck", type=int, default=0, help="another number, another session's luck")
    parser.add_argument("--planted", action="store_true", help="put real ideas between the null changes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "lab"
        plant(folder, options.experiments, options.seconds, options.planted, options.luck)
        repo = Repo(folder)
        subprocess.run(["git", "-C", folder, "commit", "-qam", "nulls"], check=True)
        session = Session.create(repo, "nulls", device="cpu", allow=PROTECTIONS)
        run_prepare(repo, session.lab, session.base, session.folder)
        view, begun = LineObserver(), time.time()
        scheduler = Scheduler(session, view)
        ExperimentLoop(session, StopRules(experiments=options.experiments), scheduler).run()
        report(session, Confirmer(scheduler), options.seeds, time.time() - begun)


def report(session: Session, claims: Confirmer, seeds: int, seconds: float) -> None:
    experiments = session.ledger.experiments()[1:]
    kept = [e for e in experiments if e.kept]
    evidence = claims.confirm(seeds)
    worths = claims.ablate(2)
    heading(f"\n{len(experiments)} experiments in {seconds / 60:.0f} min, {len(session.ledger.trials())} trials")
    noise = claims.scheduler.replicates.noise()
    print(f"noise: sigma {noise.sigma:.4g} from {noise.replicates} replicates")
    selftests = session.ledger.events(Rechecked)
    print(f"self-tests: {sum(n['would'] == 'keep' for n in selftests)} of {len(selftests)} would have been kept")
    null = [e for e in experiments if e.candidate.hypothesis.startswith("null")]
    print(f"null changes kept by the search: {sum(e.kept for e in null)} of {len(null)}")
    for each in (e for e in experiments if e not in null):
        print(f"real idea #{each.number} {'kept' if each.kept else 'not kept'}: {each.candidate.hypothesis[:70]}")
    if evidence is None:
        print("the champion is the baseline: nothing to confirm")
    else:
        said = "CONFIRMED" if evidence.shown else "not confirmed"
        print(f"champion: {said}, gain {evidence.gain.mean:.5f} ({evidence.gain.low:.5f} to {evidence.gain.high:.5f})")
    rows = []
    for worth in worths:
        gain = worth.gain
        words = f"{gain.mean:+.5f} ({gain.low:+.5f} to {gain.high:+.5f})" if gain else worth.why
        rows.append((f"#{worth.experiment.number}", worth.experiment.candidate.hypothesis[:50], words,
                     "yes" if gain and gain.low > 0 else "no"))  # fmt: skip
    table(("kept change", "what", "worth, 95 % interval", "shown"), rows)
    believed = [w for w in worths if w.gain and w.gain.low > 0 and w.experiment in null]
    print(f"null changes that were kept and shown to be worth something: {len(believed)} of {len(kept)} kept")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
