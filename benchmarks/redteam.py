"""`nightlab redteam` on the shipped labs: python benchmarks/redteam.py [--only speed …]

Each lab as `nightlab new` makes it. Beside `prompt` its stand-in for a model runs. A lab whose packages or data are
missing is named with what it says. Exits with 1 if an attack would be kept. ``--only`` picks labs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import heading, table

from nightlab.session.create import SHIPPED, make_lab

LONGEST = 90  # characters of what is said of an attack


def attack(lab: str, place: Path) -> tuple[dict, float]:
    """What `nightlab redteam --json` says of a lab, or why it says nothing, and the seconds that it took."""
    folder, begun = make_lab(place / lab, lab), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nightlab", "redteam", "--json"], cwd=folder, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout) if done.returncode in (0, 3) else {"failed": done.stderr.strip()[:LONGEST]}
    return told, time.perf_counter() - begun


def main() -> None:
    labs = sorted(path.parent.name for path in SHIPPED.glob("*/lab.toml"))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", default=labs, choices=labs, metavar="LAB")
    heading("nightlab redteam on the shipped labs")
    rows, said, kept = [], [], 0
    with tempfile.TemporaryDirectory() as place:
        for lab in options.parse_args().only:
            model = [sys.executable, str(SHIPPED / "prompt" / "stand_in.py")]
            stand_in = subprocess.Popen(model, stdout=subprocess.DEVNULL) if lab == "prompt" else None
            try:
                told, seconds = attack(lab, Path(place))
            finally:
                if stand_in:
                    stand_in.terminate()
                    stand_in.wait()
            if "failed" in told:
                rows.append((lab, "-", told["failed"], f"{seconds:.0f}"))
                continue
            kept += len(told["kept"])
            rows.append((lab, len(told["attacks"]), ", ".join(told["kept"]) or "none", f"{seconds:.0f}"))
            said += [(lab, each["attack"], each["verdict"].splitlines()[0][:LONGEST]) for each in told["attacks"]]
    table(("lab", "attacks", "kept", "seconds"), rows)
    table(("lab", "attack", "said"), said)
    sys.exit(bool(kept))


if __name__ == "__main__":
    main()
