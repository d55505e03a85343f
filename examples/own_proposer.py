"""A proposer of your own: anything with a name that turns a briefing into a proposal."""

import re

import tiny_lab

import nightlab


class Halving(nightlab.Proposer):
    """Halves A for as long as that is kept."""

    name = "halving"

    def propose(self, briefing: nightlab.Briefing) -> nightlab.Proposal | None:
        last = briefing.history[-1]
        if last.number and not last.kept:
            return None  # it has nothing left to propose
        text = briefing.genome["genome.py"]
        value = float(re.search(r"A = ([\d.]+)", text)[1])
        changed = text.replace(f"A = {value}", f"A = {value / 2}")
        return nightlab.Proposal(self.name, f"A {value} -> {value / 2}", files={"genome.py": changed})


with tiny_lab.make().session("halving", proposers=[Halving()], allow_missing="all") as session:
    result = session.run(confirm=0)
    for experiment in session.experiments():
        print(experiment.number, experiment.verdict.status, experiment.candidate.hypothesis)
    print(result.reason)
