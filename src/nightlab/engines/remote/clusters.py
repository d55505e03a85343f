"""The clusters that are built in, as the registry of plug-ins makes them: each imports its own software."""

from __future__ import annotations

from nightlab.engines.base import EngineContext
from nightlab.engines.remote.engine import Cluster
from nightlab.storage.ledger import make_state_folder


def slurm(config: object, context: EngineContext) -> Cluster:
    from nightlab.engines.remote.slurm_cluster import SlurmCluster

    return SlurmCluster(make_state_folder(context.lab) / "slurm", context.slots)


def ray(config: object, context: EngineContext) -> Cluster:
    from nightlab.engines.remote.ray_cluster import RayCluster

    return RayCluster(context.on, context.slots)
