"""Changes the files that a program leaves, when it ends. This text is put into a genome: standard library alone.

Numbers are changed row by row: a list of numbers in JSON, a line of text, the last axis of a NumPy array.
"""

import atexit
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
ROWS: dict[str, Callable[[list[float]], list[float]]] = {
    "NaN": lambda row: [math.nan, *(10 * x for x in row[1:])],
    "infinite": lambda row: [math.inf for x in row],
    "zeros": lambda row: [0 * x for x in row],
    "more": lambda row: [x * 1.001 for x in row],
    "less": lambda row: [x * 0.999 for x in row],
    "a little more": lambda row: [x * (1 + 1e-7) for x in row],
    "a little less": lambda row: [x * (1 - 1e-7) for x in row],
}


def in_json(value: Any, change: Callable[[list[float]], list[float]]) -> Any:
    """A value of JSON with each row of its numbers changed."""
    if isinstance(value, dict):
        return {key: in_json(one, change) for key, one in value.items()}
    numbers = [isinstance(one, int | float) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        return change(value) if numbers and all(numbers) else [in_json(one, change) for one in value]
    return change([value])[0] if numbers[0] and not isinstance(value, bool) else value


def in_line(line: str, change: Callable[[list[float]], list[float]]) -> str:
    """A line of text with its numbers changed."""
    row = [float(text) if set(text) & set(".eE") else int(text) for text in NUMBER.findall(line)]
    new = iter(change(row) if row else row)
    return NUMBER.sub(lambda found: repr(next(new)), line)


def half(value: Any) -> Any:
    """The first half of a list, or of each list in a dictionary; of a dictionary without one, half of its keys."""
    if isinstance(value, dict) and any(isinstance(one, list) for one in value.values()):
        return {key: half(one) for key, one in value.items()}
    if isinstance(value, dict):
        return dict(half(list(value.items())))
    return value[: (len(value) + 1) // 2] if isinstance(value, list) else value


def change_arrays(path: Path, how: str) -> bool:
    """Change the NumPy arrays in a file of them; whether one is another now.

    An array of integers is one of floats where it has to hold what no integer is, as a list in JSON.
    """
    import numpy as np

    def changed(array: Any) -> Any:
        if array.dtype.kind not in "biufc" or not array.size:
            return array
        if how == "half":
            return array[: (len(array) + 1) // 2] if array.ndim else array
        rows = array.reshape(-1, array.shape[-1] if array.ndim else 1).tolist()
        new = np.array([ROWS[how](row) for row in rows]).reshape(array.shape)
        integers = array.dtype.kind in "biu" and not (np.isfinite(new) & (new == np.trunc(new))).all()
        return new if integers else new.astype(array.dtype)

    found = np.load(path)
    before = {name: found[name] for name in found.files} if path.suffix == ".npz" else {"": found}
    after = {name: changed(array) for name, array in before.items()}
    if path.suffix == ".npz":
        np.savez(path, **after)
    else:
        np.save(path, after[""])
    facts = [[(a.dtype, a.shape, a.tobytes()) for a in arrays.values()] for arrays in (before, after)]
    return facts[0] != facts[1]


def changed_text(text: str, how: str) -> str:
    """A text, which may be JSON, with its numbers changed."""
    try:
        value = json.loads(text)
    except ValueError:
        lines = text.splitlines(keepends=True)
        return "".join(half(lines) if how == "half" else [in_line(line, ROWS[how]) for line in lines])
    return json.dumps(half(value) if how == "half" else in_json(value, ROWS[how]))


def change_file(path: Path, how: str, target: str) -> bool:
    """Change a file; whether it is another one now. ``target``: where a link leads."""
    if how in ("link", "pipe"):
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(Path(target + path.name if target.endswith("/") else target).expanduser())
        return True
    if path.suffix in (".npy", ".npz"):
        return change_arrays(path, how)
    raw = path.read_bytes()
    try:
        new = changed_text(raw.decode(), how).encode()
    except UnicodeDecodeError:  # another format: all that can be done without knowing it
        new = {"half": raw[: len(raw) // 2], "zeros": bytes(len(raw))}.get(how, raw)
    path.write_bytes(new)
    return new != raw


def files(place: Path) -> dict[Path, tuple[int, int, int]]:
    """The plain files in a folder, with what tells whether one was written since."""
    found = {}
    for folder, _, names in os.walk(place):
        for path in (Path(folder, name) for name in names if not name.endswith(".pyc")):
            if path.is_file() and not path.is_symlink():
                found[path] = (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
    return found


def change_what_is_left(how: str, target: str = "") -> None:
    """When this program ends, change the files that it wrote. A failing exit says that there was none to change."""
    place = Path.cwd()
    before = files(place)

    def at_exit() -> None:
        done, fault = False, "this attack found no file that it could change"
        for path in [path for path, about in files(place).items() if before.get(path) != about]:
            try:
                done |= change_file(path, how, target)
            except Exception as error:  # it would leave the exit status 0
                fault = f"this attack could not change {path.name}: {error!r}"
        if not done:
            print(fault, file=sys.stderr, flush=True)
            os._exit(1)

    atexit.register(at_exit)
