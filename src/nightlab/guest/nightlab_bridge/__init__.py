"""Runs other systems' evaluators unchanged, with the candidate in another process that answers in plain values.

``serve`` is the candidate's side. ``runner`` runs an evaluator, with a stand-in module in the candidate's place, whose
functions are answered by ``serve``; the other modules each know one system's evaluators. Standard library only, but
for arrays, which need NumPy on both sides.
"""
