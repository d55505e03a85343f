"""Proposers: constants read and changed in text, a tuner that lives off the ledger, a queue of patches."""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nightlab
from nightlab.core.config import LabConfig, PatchesConfig, parse
from nightlab.core.config.limits import InformationConfig
from nightlab.core.program.constants import change_constants
from nightlab.core.program.information import find_data, new_information
from nightlab.core.types import Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.proposers import Briefing, Mixture, Proposal, changes, find_constants, make_proposers, same_moves
from nightlab.proposers.patches import PatchQueue
from nightlab.proposers.spaces import space_of
from nightlab.proposers.tuner import LAST, Tuner, _telling
from nightlab.testing import briefing as example_briefing

TEXT = '''\
"""A genome."""
import os
DEVICE = os.environ.get("NIGHTLAB_DEVICE", "cpu")
DEPTH = {"cuda": 9, "mps": 4, "cpu": 2}[DEVICE]    # layers [1..12]
MATRIX_LR = 0.04         # for "matrices" # really [0.001..0.1 log]
PATTERN = "SSSL"         # sliding or long [SSSL | SL | L]
SEED = 1                 # [fixed]
BATCH = 2**18            # tokens
BETAS = (0.8, 0.95)
OFF = -0.5
FLAG = True
NAME, OTHER = 1, 2
COMPUTED = DEPTH * 2
lower = 3
Mixed = 4
def f():
    INNER = 5
'''


def values(text: str, device: str = "cpu") -> dict[str, Any]:
    return {name: constant.value for name, constant in find_constants(text, device).items()}


def test_constants_are_read_from_text_alone() -> None:
    assert values(TEXT) == {
        "DEPTH": 2,
        "MATRIX_LR": 0.04,
        "PATTERN": "SSSL",
        "SEED": 1,
        "BATCH": 2**18,
        "BETAS": (0.8, 0.95),
        "OFF": -0.5,
        "FLAG": True,
    }
    assert values(TEXT, "cuda")["DEPTH"] == 9
    assert "DEPTH" not in values(TEXT, "tpu")


def test_hints_are_what_ends_the_comment() -> None:
    hints = {name: c.hint for name, c in find_constants(TEXT, "cpu").items() if c.hint}
    assert hints == {
        "DEPTH": "1..12",
        "MATRIX_LR": "0.001..0.1 log",
        "PATTERN": "SSSL | SL | L",
        "SEED": "fixed",
    }


@pytest.mark.parametrize("text", ["X = (", "X = 1\x00", "\tX = 1\n X = 2", ""])
def test_text_that_does_not_parse_has_no_constants(text: str) -> None:
    assert find_constants(text, "cpu") == {}


@pytest.mark.parametrize(
    "literal", ["{1, 2}", "b'x'", "1j", "...", "{'a': 1}", "None", r"'\x1b[2J'", "1e999", "10**99"]
)
def test_what_a_ledger_or_a_terminal_can_not_hold_is_no_constant(literal: str) -> None:
    assert values(f"A = {literal}\nB = 2") == {"B": 2}


def test_a_huge_power_is_not_computed() -> None:
    assert values("A = 9**9**9\nB = 2**40\nC = 2**-1\nD = 2**41") == {"B": 2**40}


def test_one_literal_changes_and_nothing_else() -> None:
    text = change_constants(TEXT, "cpu", {"DEPTH": 3})
    assert text == TEXT.replace('"cpu": 2}', '"cpu": 3}')
    assert values(text, "cuda")["DEPTH"] == 9
    two = change_constants(TEXT, "cpu", {"BATCH": 2**17, "PATTERN": "L"})
    assert two == TEXT.replace("2**18", "131072").replace('"SSSL"  ', '"L"  ')


literals = st.one_of(
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8),
)
comments = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=10)
capitals = st.from_regex(r"[A-Z][A-Z0-9_]{0,6}", fullmatch=True)


@given(st.dictionaries(capitals, st.tuples(literals, comments), min_size=1, max_size=6), st.data())
def test_changing_one_constant_reads_back_and_leaves_the_rest_alone(found: Any, data: st.DataObject) -> None:
    lines = [f"{name} = {value!r}  # {comment}" for name, (value, comment) in found.items()]
    text = "\n".join(["# π and friends", *lines, "print('é')"])
    assert values(text) == {name: value for name, (value, _) in found.items()}

    name = data.draw(st.sampled_from(sorted(found)))
    new = data.draw(literals)
    after = change_constants(text, "cpu", {name: new})
    expected = {**values(text), name: pytest.approx(new, rel=1e-3) if isinstance(new, float) else new}
    assert values(after) == expected
    assert type(values(after)[name]) is type(new)
    old_lines, new_lines = text.split("\n"), after.split("\n")
    changed = [n for n, (a, b) in enumerate(zip(old_lines, new_lines, strict=True)) if a != b]
    assert changed in ([], [1 + list(found).index(name)])
    if changed:
        comment = f"  # {found[name][1]}"
        assert new_lines[changed[0]].startswith(f"{name} = ") and new_lines[changed[0]].endswith(comment)
    ast.parse(after)


def moved(after: str, now: str, before: str = TEXT) -> str | None:
    return same_moves("g.py", before, after, now, "cpu")


@given(st.dictionaries(capitals, st.integers(-9, 9), min_size=2, max_size=6), st.data())
def test_moves_of_other_constants_are_made_side_by_side(found: Any, data: st.DataObject) -> None:
    names = data.draw(st.permutations(sorted(found)))
    cut = data.draw(st.integers(1, len(names) - 1))
    text = "".join(f"{name} = {value}  # [-99..99]\n" for name, value in found.items())
    mine, theirs = ({name: found[name] + 20 for name in part} for part in (names[:cut], names[cut:]))
    after, now = change_constants(text, "cpu", mine), change_constants(text, "cpu", theirs) + "print('theirs')\n"
    made = moved(after, now, text)
    assert made is not None and values(made) == {**found, **mine, **theirs}
    assert made == change_constants(now, "cpu", mine), "and nothing else"
    assert moved(change_constants(text, "cpu", {**mine, names[-1]: 50}), now, text) is None, "both moved that one"


def test_only_moves_of_constants_are_made_by_name() -> None:
    theirs = TEXT.replace("INNER = 5", "INNER = 6").replace('"mps": 4', '"mps": 3')
    assert moved(TEXT.replace("0.04", "0.0500  # why not"), theirs) == theirs.replace("0.04", "0.05")
    assert moved(TEXT.replace('"cpu": 2', '"cpu": 3'), theirs) == theirs.replace('"cpu": 2', '"cpu": 3')
    for more in (
        TEXT,  # nothing
        TEXT.replace("0.04", "0.0512345"),  # more digits than are written
        TEXT.replace("0.04", "0.05").replace("INNER = 5", "INNER = 7"),
        TEXT.replace("0.04", "0.05").replace('"cuda": 9', '"cuda": 8'),  # on a device that is not here
        TEXT.replace("0.04", "0.05") + "NEW = 1\n",
        TEXT.replace("MATRIX_LR = 0.04", "MATRIX_LR = DEPTH / 40"),
        TEXT.replace("0.04", "0.05").replace("FLAG = True\n", ""),
        TEXT.replace("0.04", "0.05(", 1),
    ):
        assert moved(more, theirs) is None
    mine = TEXT.replace("0.04", "0.05")
    for now in (TEXT.replace("0.04", "0.03"), TEXT.replace("MATRIX_LR = 0.04", "MATRIX_LR = DEPTH / 40"), "", "X = ("):
        assert moved(mine, now) is None
    assert same_moves("g.toml", "A = 1", "A = 2", "A = 1\nB = 2", "cpu") == "A = 2\nB = 2"


def test_what_changed_in_words() -> None:
    assert changes({"A": 2, "B": 0.04, "C": 1}, {"A": 1, "B": 0.04, "D": "x"}) == (
        "A 2 → 1",
        "C 1 → nothing",
        "D nothing → x",
    )


# -- the tuner, on functions that cost nothing ---------------------------------------------------------

LOSS = Metric("loss")
GENOME = """\
RATE = 0.3    # [0.001..1 log]
DEPTH = 14    # [1..16]
MIX = 0.9     # [0..1]
SEED = 1      # [fixed]
"""


def loss(at: dict[str, Any]) -> float:
    return math.log(at["RATE"] / 0.02) ** 2 + 0.05 * (at["DEPTH"] - 6) ** 2 + 4 * (at["MIX"] - 0.3) ** 2


class Session:
    """A session in memory: propose, measure by a function, keep what is better."""

    def __init__(self, genome: str, function: Callable[[dict[str, Any]], float | None], metric: Metric = LOSS) -> None:
        self.function, self.metric, self.genome = function, metric, genome
        self.history: list[Experiment] = []
        self.record("baseline", genome)

    def record(self, proposer: str, text: str) -> Experiment:
        number, at = len(self.history), values(text)
        measured = self.function(at)
        best = self.champion.measurement.metric if self.history and self.champion.measurement else None
        kept = measured is not None and (best is None or self.metric.better(measured, best))
        self.history.append(
            Experiment(
                number,
                Candidate(str(number), "", "", proposer, "", constants=at, changes=changes(values(self.genome), at)),
                0.0,
                Measurement("measured" if measured is not None else "crashed", measured),
                Verdict("keep" if kept else "crash" if measured is None else "discard", "improved"),
            )
        )
        self.genome = text if kept else self.genome
        return self.history[-1]

    @property
    def champion(self) -> Experiment:
        return [e for e in self.history if e.kept][-1]

    def briefing(self) -> Briefing:
        return Briefing(self.metric, "cpu", {"g.py": self.genome}, self.champion, list(self.history))

    def tune(self, tuner: Tuner, rounds: int) -> list[str]:
        texts = []
        for _ in range(rounds):
            proposal = tuner.propose(self.briefing())
            if proposal is None:
                break
            texts.append(proposal.files["g.py"])
            self.record("tuner", texts[-1])
        return texts


def test_the_tuner_finds_the_region_of_the_optimum() -> None:
    ends = []
    for seed in range(3):
        session = Session(GENOME, loss)
        session.tune(Tuner(seed), 40)
        ends.append(session.champion.measurement.metric)
    start = loss(values(GENOME))
    assert max(ends) < 0.5 * start
    assert sorted(ends)[1] < 0.15 * start


def test_the_tuner_maximises_too() -> None:
    session = Session(GENOME, lambda at: -loss(at), Metric("score", "maximise"))
    session.tune(Tuner(), 30)
    assert session.champion.measurement.metric > -0.5 * loss(values(GENOME))


def test_the_tuner_stays_inside_its_hints_and_never_repeats_a_genome() -> None:
    session = Session(GENOME, loss)
    texts = session.tune(Tuner(), 40)
    assert len(texts) == 40
    assert len({GENOME, *texts}) == 41
    for text in texts:
        at = values(text)
        assert 0.001 <= at["RATE"] <= 1 and 1 <= at["DEPTH"] <= 16 and 0 <= at["MIX"] <= 1
        assert at["SEED"] == 1 and type(at["DEPTH"]) is int
    moves = [len(e.candidate.changes) for e in session.history[1:]]
    assert set(moves) <= {1, 2}


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=[pytest.mark.machine, pytest.mark.timeout(1800)])])
def test_steps_on_the_language_model_are_never_called_data(count: int) -> None:
    """The limits on what a genome may carry (docs/attacks.md) hold for data, never for honest steps."""
    text = (Path(nightlab.__file__).parent / "labs" / "lm" / "train.py").read_text()
    draw, baseline = random.Random(0), {"g.py": text}
    session = Session(text, lambda at: draw.random())
    steps = session.tune(Tuner(), count)
    assert len(steps) == count
    most = InformationConfig().growth_bytes
    assert most and max(new_information({"g.py": step}, baseline) for step in steps) < most / 20
    assert {find_data({"g.py": step}, baseline) for step in steps} == {""}
    assert find_data({"g.py": text + f"W = {draw.randbytes(3000)!r}\n"}, baseline)


def test_a_small_space_is_searched_through_and_then_given_up() -> None:
    genome = "WAY = 'a'  # [a | b | c]\nFLAG = True\n"
    session = Session(genome, lambda at: float(ord(at["WAY"]) + at["FLAG"]))
    texts = session.tune(Tuner(), 40)
    assert len(texts) == len(set(texts)) and 3 <= len(texts) <= 5
    assert session.champion.candidate.constants == {"WAY": "a", "FLAG": False}


def test_a_space_finer_than_the_written_digits_is_not_proposed_twice() -> None:
    session = Session("RATE = 0.5  # [0.4999..0.5001]\n", lambda at: at["RATE"])
    texts = session.tune(Tuner(), 10)
    assert len({session.history[0].candidate.constants["RATE"], *(values(t)["RATE"] for t in texts)}) == len(texts) + 1
    assert len(texts) <= 2  # 0.4999 and 0.5001 are all there is


def test_a_large_rate_stays_a_float() -> None:
    session = Session("BASE = 10000.5\nWIDE = 2000.0\n", lambda at: at["BASE"] + at["WIDE"])
    for text in session.tune(Tuner(), 15):
        assert {type(v) for v in values(text).values()} == {float}


@pytest.mark.parametrize("hint", ["e..e", "9..1", "0..1 log", "1..1e999", "a | b", "1.2.3..4"])
def test_a_hint_that_makes_no_sense_leaves_its_constant_alone(hint: str) -> None:
    constant = find_constants(f"A = 4  # [{hint}]\n", "cpu")["A"]
    assert space_of(constant, 4) is None


def test_without_hints_a_constant_moves_by_its_kind() -> None:
    genome = "LR = 0.02\nHEADS = 4\nWIDTH = 64\nTIED = False\nWARMUP_RATIO = 0.5\nNAME = 'x'\nZERO = 0\n"
    session = Session(genome, lambda at: 1.0)
    seen: dict[str, set[Any]] = {}
    for text in session.tune(Tuner(), 60):
        for name, value in values(text).items():
            seen.setdefault(name, set()).add(value)
    assert all(0.005 <= v <= 0.08 for v in seen["LR"])
    assert seen["HEADS"] <= set(range(2, 9)) and seen["WIDTH"] <= {16, 32, 64, 128, 256}
    assert seen["TIED"] == {True, False}
    assert all(v <= 1 for v in seen["WARMUP_RATIO"])
    assert seen["NAME"] == {"x"} and seen["ZERO"] == {0}


def test_the_same_history_gives_the_same_proposal() -> None:
    session = Session(GENOME, loss)
    Tuner(7)
    worker = Tuner(7)
    session.tune(worker, 15)
    again = worker.propose(session.briefing())
    fresh = Tuner(7).propose(session.briefing())  # as after a restart
    assert again and fresh and again == fresh
    assert Tuner(8).propose(session.briefing()) != fresh


def test_crashes_and_runs_in_flight_are_taken_in_stride() -> None:
    session = Session(GENOME, lambda at: None if at["DEPTH"] > 15 else loss(at))
    session.tune(Tuner(), 25)
    running = replace(session.history[-1], verdict=None, measurement=None)
    session.history[-1] = running
    proposal = Tuner().propose(session.briefing())
    assert proposal and values(proposal.files["g.py"]) != running.candidate.constants


def test_a_best_value_of_exactly_zero_is_remembered() -> None:
    session = Session(GENOME, lambda at: 5.0)
    session.tune(Tuner(), 1)
    first = session.history[0]
    assert first.measurement
    zero = replace(first, measurement=replace(first.measurement, metric=0.0))
    history = [zero, *(replace(session.history[-1], number=n) for n in range(1, LAST + 60))]
    assert zero in _telling(replace(session.briefing(), history=history))


def test_nothing_to_tune_is_nothing_to_propose() -> None:
    assert Tuner().propose(Session("SEED = 1  # [fixed]\nx = 3\n", lambda at: 1.0).briefing()) is None
    assert Tuner().propose(Session("int main() {}", lambda at: 1.0).briefing()) is None


@given(st.floats(1e-6, 1e6), st.floats(1.01, 100))
@settings(max_examples=10)
def test_any_range_is_respected(low: float, ratio: float) -> None:
    high = low * ratio
    start = math.sqrt(low * high)
    session = Session(f"X = {start!r}  # [{low!r}..{high!r} log]\n", lambda at: at["X"])
    for text in session.tune(Tuner(), 6):
        assert low * 0.999 <= values(text)["X"] <= high * 1.001
        assert type(values(text)["X"]) is float


# -- the queue -----------------------------------------------------------------------------------------


def briefing() -> Briefing:
    return Session(GENOME, loss).briefing()


def test_patches_come_in_order_of_their_names_once_each(tmp_path: Path) -> None:
    (tmp_path / "10-late.patch").write_text("--- a/x\n+++ b/x\n")
    (tmp_path / "02-tied-embeddings.patch").write_text("Hypothesis:  fewer parameters, same loss \n\ndiff --git a/x\n")
    (tmp_path / "notes.txt").write_text("no patch")
    queue = PatchQueue(tmp_path, used=set())
    first = queue.propose(briefing())
    assert first and first.source == "02-tied-embeddings.patch"
    assert first.hypothesis == "fewer parameters, same loss" and first.patch.startswith("Hypothesis")
    assert queue.propose(briefing()) == first, "not told yet what became of it"
    queue.tell(first, None)
    second = queue.propose(briefing())
    assert second and second.hypothesis == "late"
    queue.tell(second, "it does not apply")
    assert queue.propose(briefing()) is None
    (tmp_path / "00-new.patch").write_text("diff")
    third = queue.propose(briefing())
    assert third and third.source == "00-new.patch", "one dropped in later is tried"


def test_a_queue_remembers_what_the_ledger_says_was_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.patch").write_text("diff")
    proposal = PatchQueue(tmp_path, used={"", "a.patch"}).propose(briefing())
    assert proposal and proposal.source == "b.patch"
    assert PatchQueue(tmp_path / "nowhere", used=set()).propose(briefing()) is None


# -- the mixture ---------------------------------------------------------------------------------------


class Endless:
    def __init__(self, name: str, left: int = 10**9) -> None:
        self.name, self.left, self.told = name, left, 0

    def propose(self, briefing: Briefing) -> Proposal | None:
        return Proposal(self.name, "x") if self.left > 0 else None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        self.told += 1
        self.left -= 1


def shares(mixture: Mixture, rounds: int) -> list[str]:
    had = []
    for _ in range(rounds):
        proposal = mixture.propose(briefing_once)
        assert proposal
        mixture.tell(proposal, None)
        had.append(proposal.proposer)
    return had


briefing_once = briefing()


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=30)
def test_each_proposer_has_its_share_all_along(a: float, b: float, c: float) -> None:
    parts = {"a": a, "b": b, "c": c}
    had = shares(Mixture({n: (Endless(n), s) for n, s in parts.items()}, {}), 60)
    for end in (20, 60):
        for name, share in parts.items():
            assert abs(had[:end].count(name) - end * share / sum(parts.values())) <= 2


def test_shares_go_on_from_the_ledger() -> None:
    parts = {"a": (Endless("a"), 1.0), "b": (Endless("b"), 1.0)}
    assert shares(Mixture(parts, {"a": 3, "human": 9}), 5) == ["b", "b", "b", "a", "b"]


def test_one_with_nothing_to_propose_yields_its_turn() -> None:
    one, two = Endless("a", left=2), Endless("b")
    assert shares(Mixture({"a": (one, 5.0), "b": (two, 1.0)}, {}), 6).count("b") == 4
    assert Mixture({"a": (Endless("a", 0), 1.0)}, {}).propose(briefing_once) is None


def test_a_refusal_does_not_use_up_a_share() -> None:
    one = Endless("a")
    mixture = Mixture({"a": (one, 1.0)}, {})
    mixture.tell(Proposal("a", "x"), "refused")
    assert mixture.had == {"a": 0} and one.told == 1


def test_the_contract_names_the_proposers(tmp_path: Path) -> None:
    least = 'name = "x"\ngenome = ["a.py"]\ncommand = "c"\n[metric]\nname = "m"\n'
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.patch").write_text("diff")
    lab: LabConfig = parse(least + '[[proposers]]\nkind = "patches"\nfolder = "mine"\nshare = 3\n')
    assert isinstance(lab.proposers[0], PatchesConfig)
    made = make_proposers(lab, tmp_path, {}, set(), 0)
    assert set(made.proposers) == {"patches"} and made.proposers["patches"][1] == 3
    proposal = made.propose(briefing_once)
    assert proposal and proposal.source == "a.patch"


def test_the_tuner_moves_only_constants_between_the_markers() -> None:
    genome = {"genome.py": "RATE = 0.1\n# EVOLVE-BLOCK-START\nLAYERS = 4  # [1..16]\n# EVOLVE-BLOCK-END\nN = 26\n"}
    told = example_briefing(genome=genome)
    assert told.lab is not None
    told = replace(told, lab=told.lab.model_copy(update={"between": ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END")}))
    for seed in range(8):
        made = Tuner(seed).propose(told)
        assert made is not None
        now = values(made.files["genome.py"])
        assert (now["RATE"], now["N"]) == (0.1, 26) and now["LAYERS"] != 4
