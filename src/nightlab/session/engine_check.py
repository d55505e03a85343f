"""Whether an engine other than this machine can run a lab's trials."""

from __future__ import annotations

from nightlab.core.config import LabConfig
from nightlab.core.text import counted
from nightlab.core.types import NightlabError, Platform
from nightlab.engines.remote import common_platform, connect_cluster, plugged_engine
from nightlab.session.check import Check
from nightlab.session.preflight import trusted
from nightlab.storage.git import Repo


def check_engine_for(on: str, repo: Repo, lab: LabConfig) -> tuple[list[Check], Platform | None]:
    """Whether the engine that ``--engine`` names answers, and the platform of its trials; None when it does not."""
    try:
        if engine := plugged_engine(on, None, repo.lab, lab, None):
            found, slots = engine.platform, len(engine.slots(None))
            room = Check(f"it runs {counted(slots, 'trial')} at once on {found}", slots > 0, "it has no slot")
            return [trusted("engine", on), room], found
        nodes = connect_cluster(on, None, repo.lab).describe_nodes(None)
    except NightlabError as error:
        return [Check(str(error), False, error.hint)], None
    found = common_platform(nodes)
    return [
        Check(f"{counted(len(nodes), 'node')} of {on} {'answers' if len(nodes) == 1 else 'answer'}: {found}", True)
    ], found
