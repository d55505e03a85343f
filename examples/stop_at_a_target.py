"""A callback that ends a session when it is good enough, and one that counts what was not tried."""

import tiny_lab

import nightlab

TARGET = 5.0


def good_enough(session: nightlab.Session, experiment: nightlab.Experiment) -> None:
    """Called after each verdict."""
    print(experiment.number, experiment.verdict.status, experiment.measurement.metric)
    if session.champion.bar < TARGET:
        session.stop()


class Refusals(nightlab.Callback):
    """Hears of everything that it has a method for."""

    count = 0

    def refused(self, hypothesis: str, reason: str) -> None:
        self.count += 1


refusals = Refusals()
with tiny_lab.make().session("target", allow_missing="all") as session:
    result = session.run(experiments=30, callbacks=[good_enough, refusals])
    print(f"{result.reason}; stopped: {result.stopped}; {refusals.count} proposals were not tried")
