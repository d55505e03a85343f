"""Ask for each trial, run it where you like, and tell what it yielded: a session without its loop."""

import tiny_lab

with tiny_lab.make().session("by-hand", allow_missing="all") as session:
    for _ in range(4):
        trial = session.ask()
        if trial is None:  # the proposers have nothing left
            break
        print(trial.id, trial.experiment.candidate.hypothesis, "with seed", trial.seed)
        measurement = session.measure(trial)  # in the sealed box, as the loop would
        experiment = session.tell(trial, measurement)
        print("  ", measurement.metric, experiment.verdict.status, experiment.verdict.detail)

    # Or measure it yourself: trial.folder holds the files. The ledger says that this number was told, not measured.
    trial = session.ask()
    a, b = (trial.experiment.candidate.constants[name] for name in "AB")
    experiment = session.tell(trial, (a - 1) ** 2 + 0.1 * (b - 3) ** 2)
    print(experiment.measurement.metric, experiment.measurement.detail)
    print("the champion is experiment", session.champion.number)
