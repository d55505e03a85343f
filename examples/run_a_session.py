"""Run a session in a lab that ships, and say what it found."""

import tempfile
from pathlib import Path

import nightlab

lab = nightlab.Lab.new(Path(tempfile.mkdtemp()) / "faster", template="sql")

for check in lab.check(allow_missing="all"):
    if not check.ok:
        print(f"{check.what} ({check.hint})")

# Without a sandbox on this machine the session runs all the same, and the report says so.
with lab.session("demo", allow_missing="all") as session:
    result = session.run(experiments=2, confirm=0, callbacks=[nightlab.LineObserver()])
    print(result.reason)
    print(f"the champion is experiment {result.champion.number}: {result.champion.candidate.hypothesis}")

    # The search picks what measured best, luck included. On fresh seeds it has to show again.
    evidence = session.confirm(seeds=2)
    if evidence:
        gain = evidence.gain
        print(f"{gain.mean:.1f} {session.metric.unit} less, interval {gain.low:.1f} to {gain.high:.1f}")
    print("the report:", session.report())
