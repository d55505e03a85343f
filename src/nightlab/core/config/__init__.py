"""The contract of a lab: ``lab.toml``, and what is inferred where there is none."""

from nightlab.core.config.load import CONTRACT, STRATEGY, detect, from_files, load, parse, to_toml
from nightlab.core.config.proposers import Agent, Editor, Model, Patches, Program, Recombine
from nightlab.core.config.schema import BudgetPart, CommonsPart, Event, Lab, Notify, SearchPart, Stop
from nightlab.core.config.units import allowed, megabytes

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
