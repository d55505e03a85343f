"""Trials on other machines: what is sent to a node, what runs there, and the supported clusters."""

from __future__ import annotations

from pathlib import Path

from nightlab.core.types import NightlabError
from nightlab.engines.remote.engine import Cluster, ClusterEngine, common_platform
from nightlab.storage.ledger import make_state_folder

SLURM = "slurm"

__all__ = ["Cluster", "ClusterEngine", "NightlabError", "common_platform", "connect_cluster"]


def connect_cluster(on: str, slots: int | None, lab: Path) -> Cluster:
    """The cluster with this name or address. ``lab``: for Slurm, a folder on a disk shared by its nodes.

    Raises NightlabError when it is unknown, its software is not installed, or it does not answer.
    """
    if on == SLURM:
        from nightlab.engines.remote.slurm_cluster import SlurmCluster

        return SlurmCluster(make_state_folder(lab) / SLURM, slots)
    if on in ("local-ray", "auto") or ":" in on:
        from nightlab.engines.remote.ray_cluster import RayCluster

        return RayCluster(on, slots)
    raise NightlabError(f"unknown cluster {on!r}", "use local-ray, auto, ray://HOST:PORT, HOST:PORT, or slurm")
