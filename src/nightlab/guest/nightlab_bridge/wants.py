"""What an evaluator that failed wanted and a trial does not have, as far as its exception shows."""

from __future__ import annotations

import re

# What a message says, and what that means in a trial.
SIGNS = (
    (
        r"\b(docker|podman|singularity|apptainer)\b",
        "it starts a container, and nightlab runs none: install and call what is in it",
    ),
    (
        r"\bCUDA (?:GPUs|driver|error|enabled|device)|NVIDIA driver|\bno (?:NVIDIA|CUDA|GPU)\b",
        "it needs a GPU that this trial does not have, or a build of its package for it: nightlab run --device cuda, "
        "where there is one",
    ),
    (
        r"gaierror|Name or service not known|Network is unreachable|Temporary failure in name|URLError|"
        r"(?:API|Http|HTTP)?Connect(?:ion)?(?:Refused)?Error|Max retries exceeded",
        "a trial has no network: bring what it loads as data, and leave out what asks a service",
    ),
    (r"\bapi[_ ]?key\b", "a trial is given no keys, and has no network to use them: leave out what asks a service"),
)


def failure(error: BaseException) -> str:
    """Why an evaluator failed, in words: its exception, and what it wanted."""
    if isinstance(error, ModuleNotFoundError):
        hint = "install it where nightlab is installed"
        return f"the evaluator needs the package {error.name!r}, which is not installed: {hint}"
    import traceback  # only here: most evaluators do not fail

    said = f"the evaluator failed: {type(error).__name__}: {error}"[:400]
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1].filename.rsplit("/", 1)[-1] if frames else ""
    if isinstance(error, KeyError) and last in ("os.py", "<frozen os>"):
        wants = f"the evaluator wants the variable {error} of the environment, and a trial is given no keys or settings"
        return f"{wants}: if it is no secret, name it in `environment` of lab.toml"
    if isinstance(error, FileNotFoundError) and last == "subprocess.py":
        said = f"the evaluator starts the program {error.filename!r}, which is not installed"
    return said + meaning(said)


def meaning(said: str) -> str:
    """What a message of an evaluator means in a trial, after a separator; empty if it shows nothing."""
    return next((f" ({words})" for sign, words in SIGNS if re.search(sign, said, re.IGNORECASE)), "")
