"""Whether any bytes crash who reads them as a record: python benchmarks/fuzz_commons.py [--seconds 600]

Guided by coverage, from one record of each kind (``pip install atheris``). It ends at the first input that is neither a
record nor rejected with a reason, which is a fault; else it prints how many were tried.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nightlab.commons"]):
    from nightlab.commons.record import LARGEST, Rejected, canonical, parse

VECTORS = Path(__file__).parent.parent / "tests" / "vectors" / "commons.json"


def read(raw: bytes) -> None:
    """Read the bytes as they are, and, where they are JSON, in the canonical form that comes further."""
    forms = [raw]
    with contextlib.suppress(ValueError, RecursionError):  # no JSON, or none with a canonical form
        forms.append(canonical(json.loads(raw)))
    for form in forms:
        try:
            parse(form)
        except Rejected as error:
            assert str(error) and len(str(error)) < 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for n, vector in enumerate(json.loads(VECTORS.read_text())):
            (Path(folder) / str(n)).write_text(vector["bytes"])
        limits = [
            f"-max_total_time={asked.seconds}",
            f"-max_len={LARGEST + 100}",
            "-timeout=10",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, folder], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
