"""A champion handed over to a larger training harness: its changes as a patch, and a note on what carried over.

The note says only what the ledger holds: gains on fresh seeds, what each change is worth, and transfer to other
budgets, sizes and data. The harness has other files, so a person carries the changes over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nightlab.analysis.confirm import lineage
from nightlab.core.text import one_line
from nightlab.core.types import Evidence, Experiment, Metric, NightlabError, PairedGain
from nightlab.session.session import Session

# Constants of the language-model labs (ours and autoresearch's) and the option of nanochat's scripts/base_train.py that
# sets the same, as of November 2026.
NANOCHAT = {
    "DEPTH": "--depth",
    "ASPECT_RATIO": "--aspect-ratio",
    "HEAD_DIM": "--head-dim",
    "CONTEXT": "--max-seq-len",
    "MAX_SEQ_LEN": "--max-seq-len",
    "WINDOWS": "--window-pattern",
    "WINDOW_PATTERN": "--window-pattern",
    "TOTAL_BATCH": "--total-batch-size",
    "TOTAL_BATCH_SIZE": "--total-batch-size",
    "DEVICE_BATCH": "--device-batch-size",
    "DEVICE_BATCH_SIZE": "--device-batch-size",
    "MATRIX_LR": "--matrix-lr",
    "EMBEDDING_LR": "--embedding-lr",
    "UNEMBEDDING_LR": "--unembedding-lr",
    "SCALAR_LR": "--scalar-lr",
    "WEIGHT_DECAY": "--weight-decay",
    "WARMDOWN": "--warmdown-ratio",
    "WARMDOWN_RATIO": "--warmdown-ratio",
    "FINAL_LR": "--final-lr-frac",
    "FINAL_LR_FRAC": "--final-lr-frac",
}
HARNESSES: Mapping[str, Mapping[str, str]] = {"nanochat": NANOCHAT}
WORDS = 120  # characters of a hypothesis


def write_handover(session: Session, harness: str, folder: Path) -> Path:
    """Write ``changes.patch`` and ``NOTE.md`` into ``folder``; returns the folder.

    Raises NightlabError for an unknown harness, and where the champion is the baseline.
    """
    if harness not in HARNESSES:
        raise NightlabError(f"there is no harness {harness!r}", f"there are: {', '.join(HARNESSES)}")
    champion = session.champion()
    if not champion.number:
        raise NightlabError("the champion is still the baseline: there is nothing to carry over", "nightlab run")
    patch = session.repo.patch(session.base, champion.candidate.commit)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "changes.patch").write_bytes(patch.encode("utf-8", "surrogateescape"))
    (folder / "NOTE.md").write_text("\n".join(_note(session, harness, champion)) + "\n", encoding="utf-8")
    return folder


def _note(session: Session, harness: str, champion: Experiment) -> Iterator[str]:
    metric, baseline, look = session.metric, session.ledger.experiment(0), champion.look
    yield f"# {session.lab.name}, session {session.tag}, for {harness}\n"
    yield f"The champion is experiment {champion.number}; trials of {session.budget.record()} on {session.platform}."
    if look is None:
        yield "**Its gain was not confirmed on fresh seeds.** Do that first: `nightlab confirm`."
    else:
        shown = "" if look.shown else " The interval holds zero: **the gain is not shown.**"
        yield f"Gain on fresh seeds ({look.label}): {_gain(look.gain, metric)}.{shown}"
    yield "\n## What carried over\n"
    yield from _carried(session)
    yield "\n## The changes\n"
    yield from _changes(session)
    yield f"\n## Constants, and options of {harness}\n"
    yield from _options(baseline, champion, HARNESSES[harness])
    yield "\n## Limits\n"
    yield (
        f"`changes.patch` applies to this lab's genome ({', '.join(session.lab.genome)}), not to {harness}'s files: "
        "carry it over by hand. Values were tuned at this lab's size and budget. Take the changes that carried over "
        "first, one at a time, and measure each there."
    )


def _carried(session: Session) -> Iterator[str]:
    """The latest evidence of transfer in each setting, of each program in the champion's lineage."""
    found: dict[str, list[tuple[Experiment, Evidence]]] = {}
    for experiment in lineage(session):
        latest = {one.what: one for one in experiment.evidence if one.level == "transferred"}
        for setting, evidence in latest.items():
            found.setdefault(setting, []).append((experiment, evidence))
    if not found:
        yield "**No transfer was measured.** `nightlab transfer grid.toml` measures it (docs/transfer.md)."
        return
    yield "Gains over the baseline in the same setting. A program holds its change and those before it.\n"
    yield "| setting | program | gain | carried over |"
    yield "|---|---|---|---|"
    for setting, programs in found.items():
        for experiment, evidence in programs:
            gain = evidence.gain
            says = "yes" if gain.low > 0 else "no: it is worse there" if gain.high < 0 else "not shown"
            yield f"| {_cell(setting)} | #{experiment.number} | {_gain(gain, session.metric)} | {says} |"


def _changes(session: Session) -> Iterator[str]:
    yield "| experiment | hypothesis | changes | worth here, taken out alone |"
    yield "|---|---|---|---|"
    for experiment in lineage(session):
        worth = [one for one in experiment.evidence if one.against == experiment.number]
        said = _gain(worth[-1].gain, session.metric) if worth else "not measured: nightlab confirm --ablate"
        candidate = experiment.candidate
        changes = _cell("; ".join(candidate.changes)) or "code"
        yield f"| #{experiment.number} | {_cell(candidate.hypothesis)} | {changes} | {said} |"


def _options(baseline: Experiment, champion: Experiment, options: Mapping[str, str]) -> Iterator[str]:
    before, after = baseline.candidate.constants, champion.candidate.constants
    moved = [name for name in after if before.get(name) != after[name]]
    if not moved:
        yield "The champion changes no constant."
        return
    yield "| constant | baseline | champion | option |"
    yield "|---|---|---|---|"
    for name in moved:
        option = f"`{options[name]}`" if name in options else "none: change the code"
        yield f"| {_cell(name)} | {_cell(str(before.get(name, 'none')))} | {_cell(str(after[name]))} | {option} |"
    yield "\nOptions may be scaled by width and batch size there: carry over the ratio to the baseline, not the value."


def _gain(gain: PairedGain, metric: Metric) -> str:
    return f"{gain.mean:.4g} ({gain.low:.4g} to {gain.high:.4g}) {metric.unit or metric.name}, {gain.pairs} pairs"


def _cell(words: str) -> str:
    """Text of candidates, as one cell of a table."""
    return one_line(words, WORDS).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
