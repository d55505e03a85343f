"""Trials on other machines: what is sent to a node, what runs there, and the supported clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightlab.core import plugins
from nightlab.core.config import LabConfig
from nightlab.core.types import NightlabError
from nightlab.engines.base import EngineContext
from nightlab.engines.plugged import PluggedEngine
from nightlab.engines.remote.engine import Cluster, ClusterEngine, common_platform

__all__ = ["Cluster", "ClusterEngine", "NightlabError", "common_platform", "connect_cluster", "plugged_engine"]


def connect_cluster(on: str, slots: int | None, lab: Path) -> Cluster:
    """The cluster with this name or address. ``lab``: for Slurm, a folder on a disk shared by its nodes.

    Raises NightlabError when it is unknown, its software is not installed, or it does not answer.
    """
    name = "local-ray" if ":" in on else on  # an address is Ray's
    if name == "local" or name not in plugins.BUILT_IN["engine"]:
        known = "local-ray, auto, ray://HOST:PORT, HOST:PORT, slurm, or an engine of a package (nightlab plugins)"
        raise NightlabError(f"unknown cluster {on!r}", f"use {known}")
    made: Any = plugins.make("engine", name, {}, EngineContext(on, slots, lab))
    return made  # type: ignore[no-any-return]


def plugged_engine(
    on: str, slots: int | None, lab: Path, contract: LabConfig, device: str | None
) -> PluggedEngine | None:
    """The engine of another package that ``on`` names; None where it names a cluster.

    Raises NightlabError when the plug-in can't be loaded, or what it makes is no engine.
    """
    if not plugins.is_plugin("engine", on):
        return None
    made = plugins.make("engine", on, {}, EngineContext(on, slots, lab, contract, device), "--engine")
    return PluggedEngine(on, made)
