"""A script as a command that proposes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from nightlab.proposers import NoProposal, Proposal

PYTHON = sys.executable
EDIT = "text = open('genome.py').read(); open('genome.py', 'w').write(text.replace('A = 4.0', 'A = 2.0'))\n"
GOOD = EDIT + "print('HYPOTHESIS: a smaller A', flush=True)\n"


def failure(turn: Callable[[], Proposal]) -> str:
    with pytest.raises(NoProposal) as failed:
        turn()
    return str(failed.value)


def part(script: str = "agent.py", name: str = "researcher") -> str:
    return f'\n[[proposers]]\nkind = "command"\ncommand = "{PYTHON} {script}"\nname = "{name}"\n'
