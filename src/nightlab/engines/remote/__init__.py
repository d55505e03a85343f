"""Trials on other machines: what travels to a node, what runs there, and the clusters that nodes belong to."""

from __future__ import annotations

from pathlib import Path

from nightlab.core.types import NightlabError
from nightlab.engines.remote.engine import Cluster, ClusterEngine, common
from nightlab.storage.ledger import make_state_folder

SLURM = "slurm"

__all__ = ["Cluster", "ClusterEngine", "NightlabError", "cluster", "common"]


def cluster(on: str, slots: int | None, lab: Path) -> Cluster:
    """The cluster of that name or address, for a lab that lies on a disk which the nodes of a Slurm cluster share.

    Raises NightlabError when it is none, its software is not installed, or it does not answer.
    """
    if on == SLURM:
        from nightlab.engines.remote.slurm_cluster import SlurmCluster

        return SlurmCluster(make_state_folder(lab) / SLURM, slots)
    if on in ("local-ray", "auto") or ":" in on:
        from nightlab.engines.remote.ray_cluster import RayCluster

        return RayCluster(on, slots)
    raise NightlabError(f"{on!r} is no cluster", "local-ray, auto, ray://HOST:PORT, HOST:PORT, or slurm")
