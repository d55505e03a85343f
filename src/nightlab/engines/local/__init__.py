"""One candidate, one run, and what was measured. The only code that starts a candidate.

The orchestrator's side: ``box`` lays a trial out in its ``folder`` (``layout``, ``caches``, ``slots``), starts its
supervisor and holds on to it (``running``), and makes a measurement of what is left (``reading``, ``text``).

The supervisor's side, a process per trial: ``supervisor`` leads it through its phases. ``launch`` starts its processes,
``clock`` holds it to the budget, ``vitals`` to its limits, ``condition`` looks at the machine meanwhile, and ``ended``
has the words for its end.
"""
