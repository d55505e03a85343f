"""The wasm lab: what a gene may do, what it is held to, and that the tuner and the patch queue improve it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from support.bench import Bench
from support.commons_users import MORE, User
from support.extras import extra
from support.labs import TinyLab

from nightlab.commons.capability import Compatibility, GeneHost
from nightlab.commons.fields import GeneNeeds
from nightlab.commons.genes import MAGIC, check_gene, check_genes, read_gene
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.record import Rejected
from nightlab.core.events import FindingVerified
from nightlab.core.program.canonical import fingerprint
from nightlab.core.source import code_lines, same_program
from nightlab.core.types import NightlabError
from nightlab.proposers import change_constants, find_constants
from nightlab.session.create import SHIPPED, make_lab
from nightlab.session.session import detect_sandbox
from nightlab.storage.git import Repo

extra("wasmtime", "wasm")

GENE = (SHIPPED / "wasm" / "gene.wat").read_text()
SAYS = re.search(r"  \(@custom.*?\n\n", GENE, re.DOTALL)[0]  # type: ignore[index]  # its custom sections
NEVER_LEARNS = '(memory 1) (func (export "predict") (param i32) (result f32) {})'


@pytest.fixture(scope="module")
def score() -> Any:
    spec = importlib.util.spec_from_file_location("score", SHIPPED / "wasm" / "score.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def in_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHIPPED / "wasm")


def compiled(body: str, says: str = SAYS) -> bytes:
    import wasmtime

    return bytes(wasmtime.wat2wasm(f"(module {says} {body})"))


def answering(instructions: str) -> bytes:
    return compiled(NEVER_LEARNS.format(instructions))


@pytest.mark.integration
def test_it_works_by_hand(tmp_path: Path) -> None:
    folder = make_lab(tmp_path / "wasm", "wasm")
    done = subprocess.run([sys.executable, "score.py"], cwd=folder, capture_output=True, text=True, check=True)
    found = dict(re.findall(r"METRIC (\w+)=([\d.]+)", done.stdout))
    assert float(found["bits_per_byte"]) < 8 and float(found["fuel_per_byte"]) > 0 and "held_out" not in found


def test_the_price_is_that_of_the_predictions(score: Any) -> None:
    even = answering("f32.const 0.5")
    costs, _ = score.predicted(even, b"any text")
    assert costs == [1.0] * 64
    sure, _ = score.predicted(answering("f32.const 0"), b"\xf0")
    assert sure == [20.0] * 4 + [-score.log2(1 - score.LEAST)] * 4
    no_number, _ = score.predicted(answering("f32.const nan"), b"\xf0")
    assert no_number == [20.0] * 8
    bits, after, _ = score.score(even, b"x" * 1000, b"more")
    assert after == 8.0 and 8.0 < bits < 9.0


def test_a_text_learned_by_heart_is_paid_for(score: Any) -> None:
    text = score.shuffled("text.txt", 1)
    plain = compiled(NEVER_LEARNS.format("f32.const 0.5"))
    heavy = compiled(NEVER_LEARNS.format("f32.const 0.5") + '(data (i32.const 0) "{}")'.format("a" * 10_000))
    light, more = score.score(plain, text)[0], score.score(heavy, text)[0]
    assert more - light == pytest.approx(80_000 / len(text), rel=0.01)
    talkative = compiled(NEVER_LEARNS.format("f32.const 0.5"), SAYS + '(@custom "note" "{}")'.format("a" * 10_000))
    assert score.score(talkative, text)[0] == light


def test_the_same_bits_and_the_same_fuel_each_time(score: Any) -> None:
    import wasmtime

    gene, text = bytes(wasmtime.wat2wasm(GENE)), score.shuffled("held_out.txt", 7)
    assert score.score(gene, text) == score.score(gene, text)
    assert score.shuffled("held_out.txt", 7) != score.shuffled("held_out.txt", 8)
    assert sorted(text) == sorted(score.shuffled("held_out.txt", 8))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('(import "wasi_snapshot_preview1" "fd_write" (func)) (memory 1)', "it imports something"),
        ("(memory 1)", "exports no function predict"),
        ('(memory (export "predict") 1)', "exports no function predict"),
        ('(func (export "predict") (result f32) f32.const 0)', "incompatible import type"),
        (NEVER_LEARNS.format("unreachable"), "unreachable"),
        (NEVER_LEARNS.format("(loop $for_ever (br $for_ever)) f32.const 0"), "all fuel consumed"),
        (NEVER_LEARNS.format("f32.const 0.5") + "(func $go (loop $e (br $e))) (start $go)", "all fuel consumed"),
        (
            '(func $deeper (export "predict") (param i32) (result f32) (call $deeper (i32.const 0)))',
            "call stack exhausted",
        ),
        (NEVER_LEARNS.replace("(memory 1)", "(memory 1000)").format("f32.const 0"), "exceeds memory limits"),
    ],
)
def test_what_a_gene_can_not_do(score: Any, body: str, why: str) -> None:
    import wasmtime

    with pytest.raises((score.Refused, wasmtime.WasmtimeError, wasmtime.Trap), match=why):
        score.predicted(compiled(body), b"some text")


def test_memory_ends_at_the_limit(score: Any) -> None:
    grown = "(f32.div (f32.convert_i32_s (memory.grow (i32.const 64))) (f32.const -2))"  # -1: refused, that is 0.5
    costs, _ = score.predicted(answering(grown), b"t")
    assert costs == [1.0] * 8
    import wasmtime

    said, two_pages = SAYS.replace("4194304", "65536"), NEVER_LEARNS.replace("(memory 1)", "(memory 2)")
    with pytest.raises(wasmtime.WasmtimeError, match="exceeds memory limits"):
        score.predicted(compiled(two_pages.format("f32.const 0.5"), said), b"t")


def test_two_memories_are_refused_because_one_is_declared(score: Any) -> None:
    twice = NEVER_LEARNS.replace("(memory 1)", "(memory 1) (memory 64)").format("f32.const 0.5")
    with pytest.raises(score.Refused, match="2 memories"):
        score.predicted(compiled(twice), b"t")


@pytest.mark.parametrize(
    ("said", "instead", "why"),
    [
        ("nightlab.metering", "nightlab.other", "KeyError"),
        ("12000", "20001", "it declares 20001 fuel"),
        ("12000", "true", "it declares True fuel"),
        ("12000", "-1", "it declares -1 fuel"),
        ("4194304", "4194305", "4194305 bytes"),
        ('version\\" \\"1', 'version\\" \\"2', "not 1"),
        ("{", "[", "custom sections"),
        ("{", "[" * 20_000, "custom sections"),
    ],
)
def test_what_a_gene_must_declare(score: Any, said: str, instead: str, why: str) -> None:
    says = SAYS.replace(said, instead) if said != 'version\\" \\"1' else SAYS.replace('"1"', '"2"')
    assert says != SAYS
    with pytest.raises(score.Refused, match=why):
        score.predicted(compiled(NEVER_LEARNS.format("f32.const 0"), says), b"text")


@pytest.mark.integration
def test_a_trial_of_it_is_sealed_and_says_why_there_is_no_metric(tmp_path: Path) -> None:
    folder = make_lab(tmp_path / "wasm", "wasm")
    bench = Bench(TinyLab(folder), (folder / "lab.toml").read_text(), detect_sandbox(), startup=10, evaluation=30)

    def run(genome: str) -> Any:
        bench.commit = bench.engine.repo.commit_files(bench.commit, {"gene.wat": genome}, "a genome")
        return bench.run()

    good = run(GENE)
    assert good.outcome == "measured" and good.metric < 8 and good.secondary["fuel_per_byte"] > 0
    bad = run("(module")
    assert (bad.outcome, bad.metric) == ("crashed", None) and "no metric: expected" in bad.detail


@pytest.mark.integration
def test_the_tuner_and_the_patch_queue_improve_it(tmp_path: Path) -> None:
    lab = TinyLab(make_lab(tmp_path / "wasm", "wasm"))
    _, session = lab.run(experiments=4)
    baseline, *others = session.ledger.experiments()
    kept = {e.candidate.proposer for e in others if e.kept}
    assert kept == {"tuner", "patches"}
    best = session.champion()
    assert best.measurement.metric < baseline.measurement.metric - 0.5
    assert baseline.measurement.held_out is not None
    session.close()


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., User]:
    """Somebody with the wasm lab, one idea or none, and no tuner."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)

    def make(name: str, better: str = "", memory: str = "4MB") -> User:
        lab = TinyLab(make_lab(tmp_path / name, "wasm"))
        shutil.rmtree(lab.folder / "ideas")
        contract = (lab.folder / "lab.toml").read_text().replace('memory = "4MB"', f'memory = "{memory}"')
        cut = contract.index('[[proposers]]\nkind = "tuner"'), contract.index("[stop]")
        lab.commit(lab_toml=contract[: cut[0]] + contract[cut[1] :] + MORE.format(remote=remote))
        if better:
            repo = Repo(lab.folder)
            head = repo.resolve()
            (lab.folder / "ideas").mkdir()
            patch = repo.diff(head, repo.commit_files(head, {"gene.wat": better}, "x"))
            (lab.folder / "ideas" / "1.patch").write_text(patch)
        return User(name, lab, tmp_path / f"at-{name}", monkeypatch)

    return make


BETTER = GENE.replace("$ORDERS i32 (i32.const 2)", "$ORDERS i32 (i32.const 4)")


@pytest.mark.parametrize(
    ("optional", "memory", "level", "reasons"),
    [
        ("", "4MB", "compatible", ()),
        pytest.param(
            ', \\"optional\\": [\\"clock\\"]',
            "4MB",
            "partly",
            ("gene.wat: it would use the host function clock",),
            marks=pytest.mark.machine,
        ),
        ("", "3MB", "not", ("gene.wat: it needs 4,194,304 bytes of memory, the limit is 3,145,728",)),
    ],
)
@pytest.mark.integration
def test_a_gene_travels_where_what_it_asks_for_is_there(
    user: Callable[..., User], optional: str, memory: str, level: str, reasons: tuple[str, ...]
) -> None:
    """One finds a better gene, the other measures it in its own box and adopts it: only its text has travelled."""
    one, two = user("one", BETTER.replace("[]}", f"[]{optional}}}")), user("two", memory=memory)
    found = one.run(experiments=1)
    one.share(found)
    one.sync()
    two.here()
    two.sync()
    session = two.run(experiments=1)
    peers = PeerStore(session, two.commons)
    (entry,) = [entry for entry in peers.entries.values() if entry.author == one.author]
    assert peers.fit(entry, entry.signed.record) == Compatibility(level, reasons)
    champion = session.champion()
    if level == "not":
        assert champion.number == 0 and session.ledger.events(FindingVerified) == [], "nothing of it was run"
        _, told = peers.fitting()
        assert [why for _, _, why in told] == list(reasons)
        return
    assert (champion.number, champion.candidate.proposer) == (1, "transplant")
    assert session.genome(champion.candidate.commit) == found.genome(found.champion().candidate.commit)
    assert session.ledger.events(FindingVerified)[0].verdict == "confirmed"


NEEDS = {"domain": "text.predict", "memory_bytes": 4194304, "fuel": 12000, "imports": [], "optional": []}


@pytest.mark.parametrize(
    ("old", "new", "said", "why"),
    [
        ("4194304", "8388608", NEEDS, "gene.wat requires memory_bytes 8388608, its record states 4194304"),
        ("[]", '[\\"fd_write\\"]', NEEDS, "gene.wat requires imports ['fd_write'], its record states []"),
        ("12000", "12001", None, "gene.wat requires fuel 12001, its record states nothing"),
        ("nightlab.metering", "other.metering", NEEDS, "gene.wat is not a portable gene: nightlab.metering"),
    ],
)
@pytest.mark.integration
def test_a_gene_that_asks_for_more_than_its_record_says_is_not_run(
    user: Callable[..., User], old: str, new: str, said: dict[str, Any] | None, why: str
) -> None:
    liar, two = user("liar"), user("two")
    session = liar.here().lab.session()
    changed = GENE.replace(old, new, 1)
    assert changed != GENE
    patch = session.repo.diff(session.base, session.repo.commit_files(session.base, {"gene.wat": changed}, "x"))
    needs = {"devices": ["cpu"], "memory_mb": 1.0, "gpu_memory_mb": 0.0, "dtypes": [], "libraries": {}}
    against = [{"seed": 1, "value": 4.0}]
    liar.claim(
        session, "", 1.0, patch=patch, against=against, requires=needs | ({"genes": {"gene.wat": said}} if said else {})
    )
    liar.sync()
    two.here()
    two.sync()
    session = two.run(experiments=1)
    assert session.champion().number == 0 and session.ledger.events(FindingVerified) == []
    (refused,) = two.commons.rejections()
    assert (refused.author, refused.category) == (liar.author, "wrong requirements") and why in refused.detail


def test_what_a_patch_leaves_as_it_was_needs_no_word_of_its_author() -> None:
    said, host = {"gene.wat": GeneNeeds.model_validate(NEEDS)}, GeneHost(memory_bytes=2**22, fuel=20_000)
    mine = {"gene.wat": GENE.replace("12000", "15000")}
    theirs = {"gene.wat": mine["gene.wat"].replace("0.1", "0.2")}
    assert check_genes(said, theirs, mine, host) == Compatibility("compatible")
    assert check_genes({}, theirs, mine, host) == Compatibility("compatible")
    with pytest.raises(Rejected, match="fuel 15000, its record states 12000"):
        check_genes(said, theirs, None, host)
    assert check_genes(said, theirs, mine, GeneHost(memory_bytes=2**22, fuel=14_000)).reasons == (
        "it needs 15,000 fuel, the limit is 14,000",
    )
    assert check_genes({}, {"train.py": "(module)"}, None, host) == Compatibility("compatible"), "no gene at all"


@pytest.mark.integration
def test_every_idea_applies_and_has_a_metric(tmp_path: Path, score: Any) -> None:
    import wasmtime

    text = score.shuffled("held_out.txt", 1)
    for patch in sorted((SHIPPED / "wasm" / "ideas").glob("*.patch")):
        folder = make_lab(tmp_path / patch.stem, "wasm")
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
        genome = (folder / "gene.wat").read_text()
        assert score.score(bytes(wasmtime.wat2wasm(genome)), text)[0] < 8
        assert find_constants(genome, "cpu").keys() >= {"ORDERS", "BITS", "RATE"}


# -- constants in WebAssembly's text format ---------------------------------------------------------------


def test_its_constants_are_found_with_their_hints() -> None:
    found = find_constants(GENE, "cpu")
    assert {name: (c.value, c.hint) for name, c in found.items()} == {
        "ORDERS": (2, "1..7"),
        "BITS": (14, "10..18"),
        "RATE": (0.1, "0.01..2 log"),
    }


def test_comments_and_layout_make_no_other_program() -> None:
    other = GENE.replace("    ;; From -1", "  (; a ;) ;; From -2").replace("\n  (func", "\n(func")
    assert other != GENE and same_program("gene.wat", GENE, other)
    assert fingerprint({"gene.wat": GENE}, "cpu") == fingerprint({"gene.wat": other}, "cpu")
    assert code_lines("gene.wat", GENE) == code_lines("gene.wat", other) < len(GENE.splitlines())
    for changed in (GENE.replace("0.1", "0.2"), GENE.replace("text.predict", "text.;;predict"), GENE + "(;"):
        assert not same_program("gene.wat", GENE, changed)
    assert not same_program("gene.txt", GENE, other)


@given(orders=some.integers(-(2**31), 2**31 - 1), rate=some.floats(1e-6, 1e6))
def test_changing_a_constant_changes_nothing_else(orders: int, rate: float) -> None:
    changed = change_constants(GENE, "cpu", {"ORDERS": orders, "RATE": rate})
    found = find_constants(changed, "cpu")
    assert found["ORDERS"].value == orders and found["RATE"].value == pytest.approx(rate, rel=1e-3)
    assert change_constants(changed, "cpu", {"ORDERS": 2, "RATE": 0.1}) == GENE


@pytest.mark.parametrize(
    "line",
    [
        "(global $lower i32 (i32.const 1))",
        "(global $MUTABLE (mut i32) (i32.const 1))",
        "(global $MIXED i32 (f32.const 1))",
        "(global $HEX i32 (i32.const 0x10))",
        "(global $SUM i32 (i32.add (i32.const 1) (i32.const 2)))",
        "(global $DOTS f32 (f32.const 1.2.3))",
        "(global $HUGE i64 (i64.const 18446744073709551615))",
        "(global $ONE i32 (i32.const 1)) (global $TWO i32 (i32.const 2))",
        ";; (global $COMMENT i32 (i32.const 1))",
    ],
)
def test_what_is_no_constant(line: str) -> None:
    assert find_constants(f"(module\n{line}\n)", "cpu") == {}


# -- carried elsewhere ----------------------------------------------------------------------------------------


def test_it_says_what_it_needs_and_whether_that_is_here() -> None:
    gene = read_gene(GENE.encode(), "gene.wat")
    assert (gene.phenotype.domain, gene.metering.fuel) == ("text.predict", 12000)
    assert check_gene(gene, GeneHost(memory_bytes=4 * 2**20, fuel=12000, domain="text.predict")) == Compatibility(
        "compatible"
    )
    poor = check_gene(gene, GeneHost(memory_bytes=4 * 2**20 - 1, fuel=11999, domain="sort"))
    assert poor.level == "not" and [reason.split(", ")[0] for reason in poor.reasons] == [
        "it solves text.predict",
        "it needs 4,194,304 bytes of memory",
        "it needs 12,000 fuel",
    ]
    wants = '{\\"memory_bytes\\": 1, \\"imports\\": [\\"sha256\\"], \\"optional\\": [\\"log\\"]}'
    module = compiled("", re.sub(r"\{\\\"memory_bytes.*?\}", lambda _: wants, SAYS))
    gene = read_gene(module, "a.wasm")
    assert check_gene(gene, GeneHost(frozenset({"sha256", "log"}))).level == "compatible"
    assert check_gene(gene, GeneHost(frozenset({"sha256"}))) == Compatibility(
        "partly", ("it would use the host function log",)
    )
    assert "it needs the host function sha256" in check_gene(gene, GeneHost()).reasons
    assert check_gene(gene.model_copy(update={"version": 2}), GeneHost(frozenset({"sha256", "log"}))).level == "not"


@given(some.binary(max_size=60), some.integers(0, 400))
def test_no_bytes_do_harm(junk: bytes, at: int) -> None:
    module = compiled(NEVER_LEARNS.format("f32.const 0"))
    for raw in (junk, MAGIC + junk, module[:at], module[:at] + junk + module[at:]):
        try:
            read_gene(raw, "a file")
        except NightlabError as error:
            assert str(error).startswith("a file is not a portable gene")


def test_what_was_compiled_elsewhere_is_not_loaded() -> None:
    import wasmtime

    machine_code = bytes(wasmtime.Module(wasmtime.Engine(), compiled("")).serialize())
    with pytest.raises(NightlabError, match="precompiled modules are never loaded"):
        read_gene(machine_code, "gene.cwasm")


def test_the_command(nightlab: Any, tmp_path: Path) -> None:
    (tmp_path / "gene.wat").write_text(GENE)
    shown = nightlab("gene", "gene.wat", cwd=tmp_path)
    assert shown.code == 0 and "text.predict" in shown.out and "compatible" in shown.out
    poor = nightlab("gene", "gene.wat", "--memory", "1MB", "--json", cwd=tmp_path)
    assert poor.code == 3 and poor.json["fit"] == "not"
