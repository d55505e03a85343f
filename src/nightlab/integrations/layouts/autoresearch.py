"""karpathy/autoresearch: ``prepare.py`` frozen, ``train.py`` the genome."""

from __future__ import annotations

import re

from nightlab.core.layouts import Problem, Reading


def read(problem: Problem) -> Reading | None:
    """The contract of the original's three files."""
    if not (problem.has("prepare.py") and problem.has("train.py")):
        return None
    found = re.search(r"^TIME_BUDGET\s*=\s*(\d+(?:\.\d+)?)", problem.text("prepare.py"), re.MULTILINE)
    # Its program gives no start signal and keeps its own time; its rule ends a run that takes twice that time, with
    # compiling and evaluation in it. Data and tokenizer are in the cache.
    budget = {"amount": 2 * float(found[1])} if found else {}
    # Its attention kernels for CUDA come out of the Hugging Face cache, through the package `kernels`.
    kernels = re.findall(r"[\"']([\w.-]+/flash-att(?:n|ention)[\w.-]*)[\"']", problem.text("train.py"))
    folders = [f"~/.cache/huggingface/hub/models--{name.replace('/', '--')}" for name in dict.fromkeys(kernels)]
    contract = {
        "name": "autoresearch",
        "genome": ["train.py"],
        "command": "python train.py",
        "prepare": "python prepare.py",
        "warm": ["torch", "torch._dynamo"],
        "metric": {"name": "val_bpb", "unit": "bits per byte"},
        "budget": budget,
        "data": {"open": ["~/.cache/autoresearch", *folders]},
    }
    return Reading(contract, "the layout of autoresearch: prepare.py frozen, train.py the genome")
