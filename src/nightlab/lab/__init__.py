"""The contract of a lab: ``lab.toml``, and what is inferred where there is none."""

from nightlab.lab.amounts import allowed, megabytes
from nightlab.lab.contract import BudgetPart, CommonsPart, Event, Lab, Notify, SearchPart, Stop
from nightlab.lab.proposers import Agent, Editor, Model, Patches, Program, Recombine
from nightlab.lab.reading import CONTRACT, STRATEGY, detect, from_files, load, parse, to_toml

__all__ = [
    "CONTRACT",
    "STRATEGY",
    "Agent",
    "BudgetPart",
    "CommonsPart",
    "Editor",
    "Event",
    "Lab",
    "Model",
    "Notify",
    "Patches",
    "Program",
    "Recombine",
    "SearchPart",
    "Stop",
    "allowed",
    "detect",
    "from_files",
    "load",
    "megabytes",
    "parse",
    "to_toml",
]
