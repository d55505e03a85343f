"""Benchmarks that print a summary of ``name: value`` lines, such as AutoKernel's: one of them is the score.

``python -P -m nightlab_bridge.command --score NAME [--passes NAME] SCRIPT PROGRAM``
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from nightlab_bridge.load import run_script
from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, finish, run

LINE = re.compile(r"^\s*([A-Za-z_]\w*):\s+(\S+)", re.MULTILINE)
NUMBER = re.compile(r"([+-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)[x%]?")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("script")
    parser.add_argument("program")
    parser.add_argument("--score", required=True)
    parser.add_argument("--passes", default="", help="a line that has to say PASS")
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.script)
        return summary(options.script, path)

    try:
        found = run(options.program, function, sealed=False, timeout=options.timeout)
        if options.passes and str(found.get(options.passes)).upper() not in ("PASS", "PASSED", "TRUE", "1"):
            raise Unmeasured(f"{options.script} says {options.passes}: {found.get(options.passes, 'nothing')}")
        metrics = {name: value for name, text in found.items() if (value := parse(text)) is not None}
        report(options.score, require_score(metrics.get(options.score), options.score), metrics)
    except Unmeasured as error:
        finish(error)


def summary(script: str, program: Path) -> dict[str, str]:
    """The ``name: value`` lines that the script prints, the last of each name."""
    output = program.parent.parent / "output"
    run_script(script)
    sys.stdout.flush()
    return dict(LINE.findall(output.read_text(encoding="utf-8", errors="replace")))


def parse(text: str) -> float | None:
    """The number that ``2.000x``, ``41.0%`` or ``1,024`` writes, without its unit; None for other texts."""
    found = NUMBER.fullmatch(text)
    return float(found[1].replace(",", "")) if found else None


if __name__ == "__main__":
    main()
