"""Runs a candidate as a trial on this machine and measures it. Only this package starts candidates.

The orchestrator's side: ``engine`` prepares a trial's folder (``layout``, ``caches``), starts its supervisor, holds a
handle to it (``handles``), and makes a measurement of the results (``read_result``, ``metric_text``).

The supervisor's side, one process per trial: ``supervisor`` runs the phases. ``launch`` starts the processes, ``clock``
enforces the budget, ``resource_sampler`` the limits, ``machine_monitor`` watches for disturbances, and ``outcome`` has
the texts for how a trial ended.
"""
