"""Records: submitted as a signed folder, replayed by a referee in a lab of the referee's own."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.labs import GENOME, MEASURE, TinyLab
from support.tiers import by_default

from nightlab.analysis.records import FORMS, _threshold, holds
from nightlab.commons.places import author_key
from nightlab.commons.record import genome_id
from nightlab.commons.submission import Gain, Submission, read_statement, sign_statement, write_statement
from nightlab.core.types import Measurement, Metric, NightlabError
from nightlab.storage.ledger import Ledger


def test_a_referee_measures_what_was_submitted_and_refuses_what_is_not(
    make_lab: Any, nightlab: Any, tmp_path: Path
) -> None:
    lab = make_lab(measure=MEASURE + "print('METRIC val_bpb=1.5')\n")
    lab.idea("better", GENOME.replace("A = 4.0", "A = 2.0"), "closer to one")
    assert nightlab("run", "-n", "1", cwd=lab).code == 0
    folder = tmp_path / "record"
    done = nightlab("submit", "--seeds", "2", "--form", "parameter-golf", "--out", str(folder), cwd=lab)
    assert done.code == 0, done.err
    assert "p = 0 over a margin of 0.005" in done.out
    facts = json.loads((folder / "submission.json").read_text())
    assert (facts["loss"], facts["val_bpb"], facts["blurb"]) == (3.5, 1.5, "closer to one")
    assert facts["bytes_code"] == len(GENOME) and (facts["github_id"], facts["bytes_total"]) == (None, None)
    assert "leaves to you: github_id, val_loss, bytes_total." in (folder / "README.md").read_text()
    assert (folder / "genome.py").read_text() == GENOME.replace("A = 4.0", "A = 2.0")
    assert sorted(path.name.split("-")[0] for path in (folder / "logs").iterdir()) == ["record"] * 2 + ["this"] * 2
    assert "| 1000001 | 11.500000 | 3.500000 |" in (folder / "README.md").read_text()

    subprocess.run(["git", "clone", "-q", lab.folder, tmp_path / "theirs"], check=True)
    done = nightlab("referee", str(folder), "--seeds", "2", cwd=tmp_path / "theirs")
    assert done.code == 0, done.err
    assert "measured here: 8 (8 to 8), p = 0" in done.out
    (statement,) = folder.glob("referee-*.json")
    found = json.loads(statement.read_text())
    assert found["statement"]["target"] == json.loads((folder / "nightlab.json").read_text())["id"]
    assert [run["value"] for run in found["statement"]["runs"]] == [3.5, 3.5]

    signed = read_statement(folder / "nightlab.json")
    assert isinstance(signed.statement, Submission)
    files = {**signed.statement.candidate.files, "measure.py": "print('METRIC loss=0')\n"}
    genome = signed.statement.candidate.model_copy(update={"files": files, "id": genome_id(files)})
    (tmp_path / "cheat").mkdir()
    cheat = sign_statement(signed.statement.model_copy(update={"candidate": genome}), author_key())
    write_statement(tmp_path / "cheat" / "nightlab.json", cheat)
    done = nightlab("referee", str(tmp_path / "cheat"), cwd=tmp_path / "theirs")
    assert done.code == 1
    assert "candidate can't be replayed here: measure.py is not part of the genome" in done.err
    lab.commit(measure_py="print('METRIC loss=1')\n")
    done = nightlab("referee", str(folder), cwd=lab)
    assert done.code == 1
    assert "another task than this lab: frozen_sha256 differ" in done.err
    text = (folder / "nightlab.json").read_text()
    (folder / "nightlab.json").write_text(text.replace("A = 2.0", "A = 1.0"))
    done = nightlab("referee", str(folder), cwd=lab)
    assert done.code == 1
    assert "it was changed after it was signed" in done.err


def measured(values: list[float], other: float | None = None) -> list[Measurement]:
    return [Measurement("measured", value, secondary={"val_loss": other} if other else {}) for value in values]


def test_a_limit_is_tested_on_the_metric_or_one_beside_it() -> None:
    form, session = FORMS["modded-nanogpt"], SimpleNamespace(metric=Metric("val_loss"))
    # t = 0.01 / (0.01 / sqrt(3)) = 1.732 of 2 degrees of freedom: p = 0.1127
    found = _threshold(session, measured([3.26, 3.27, 3.28]), form, 1)
    assert found and (found.mean, found.limit, found.p) == (pytest.approx(3.27), 3.28, pytest.approx(0.1127, abs=1e-4))
    again = _threshold(session, measured([3.26, 3.27, 3.28]), form, 2)
    assert again and again.p == pytest.approx(2 * found.p), "a second look"
    timed = SimpleNamespace(metric=Metric("seconds"))
    beside = _threshold(timed, measured([170.0, 171.0], 3.27), form, 1)
    assert beside and (beside.mean, beside.p) == (3.27, 0.0)
    with pytest.raises(NightlabError, match=r"mean val_loss of at most 3.28, and 2 of 2 runs measured none"):
        _threshold(timed, measured([170.0, 171.0]), form, 1)
    assert _threshold(timed, measured([170.0]), FORMS["plain"], 1) is None
    faster = Gain(mean=1, low=0.5, high=1.5, p=0.001)
    assert not holds(SimpleNamespace(gain=faster, threshold=found), "modded-nanogpt")
    assert holds(SimpleNamespace(gain=faster, threshold=beside), "modded-nanogpt")


@pytest.mark.parametrize("form", by_default("nanochat", of=("nanochat", "modded-nanogpt")))
def test_a_submission_and_its_replay_that_are_killed_go_on(
    make_lab: Any, nightlab: Any, killed: Any, tmp_path: Path, form: Any
) -> None:
    def ended(place: TinyLab) -> set[str]:
        """The runs beside the record that have ended."""
        found = set[str]()
        for path in place.folder.glob(".nightlab/*/ledger.db"):
            with closing(Ledger(path, read_only=True)) as ledger:
                found |= {trial.id for trial, one in ledger.trials(purpose="confirm") if one and one.measured}
        return found

    lab = make_lab(measure=f"{MEASURE}print('METRIC val_loss=3.27')\n")  # a record in time: the metric is another
    lab.idea("better", GENOME.replace("A = 4.0", "A = 2.0"), "closer to one")
    assert nightlab("run", "-n", "1", cwd=lab).code == 0
    subprocess.run(["git", "clone", "-q", lab.folder, tmp_path / "theirs"], check=True)
    folder = tmp_path / "record"
    theirs = TinyLab(tmp_path / "theirs")
    for place, command in (
        (lab, ("submit", "--form", form, "--seeds", "3", "--out", str(folder))),
        (theirs, ("referee", str(folder), "--seeds", "3")),
    ):
        killed(*command, cwd=place, until=lambda place=place: len(ended(place)) >= 2)
        before = ended(place)
        done = nightlab(*command, "--json", cwd=place)
        assert done.code == 0, done.err
        assert before <= ended(place) and len(ended(place)) == 6, "what had ended did not run again"
        assert len(done.json["statement"]["runs"]) == 3
        assert done.json["statement"]["gain"]["p"] == 0.0
        limit = done.json["statement"]["threshold"]
        if form == "modded-nanogpt":
            assert limit == {"name": "val_loss", "limit": 3.28, "mean": pytest.approx(3.27), "p": 0.0}
        else:
            assert limit is None
    assert FORMS[form].source in (folder / "README.md").read_text()
