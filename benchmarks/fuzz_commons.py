"""Whether anything that a stranger sends crashes a peer: python benchmarks/fuzz_commons.py [--seconds 600]

Guided by coverage (``pip install atheris``), from valid inputs, in two parts that share the time. ``pure``: records,
links of a chain, gossip's words, modules of WebAssembly, and what a peer makes of a record that it accepts. ``git``: a
remote's refs, bundles, and patches on a lab, through real repositories. Half of the mutations change what JSON says and
then hash and sign it again, for else nothing gets past the signature. It ends at the first input that is neither taken
nor refused with a reason, and keeps it; else it prints what was tried.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]
with atheris.instrument_imports(include=["nightlab.commons", "nightlab.storage.git", "rfc8785"]):
    import rfc8785  # noqa: F401  # that it is instrumented

    from nightlab.commons import genes, gossip
    from nightlab.commons.canonical import canonical_json
    from nightlab.commons.capability import GeneHost, TrialResources, check_requirements, compare_tasks
    from nightlab.commons.checked_copy import PATCH_FILE, RECORD_FILE, check_link
    from nightlab.commons.exchange import Commons
    from nightlab.commons.queue import novelty, word_set
    from nightlab.commons.record import Finding, Rejected, Task, author_of, encode_record, parse_record
    from nightlab.commons.trust import compare, priority
    from nightlab.storage.git import Chains, OutOfScope, PatchConflict, Repo, Unreachable
    from nightlab.storage.git.record_chains import Link

from fuzz_mutations import mutate, resign  # noqa: E402
from machine import table  # noqa: E402
from support.commons_examples import PATCH, examples, finding, key, stated, task  # noqa: E402

GENE = Path(genes.__file__).parent.parent / "labs" / "wasm" / "gene.wat"
GENOME = "A = 4.0  # [0.25..8 log]\nB = 8  # [1..16]\n"
WHO = "nightlab <nightlab@localhost> 946684800 +0000"
HERE = TrialResources(
    "cpu", 4096.0, None, {"numpy": "2.1"}, GeneHost(memory_bytes=2**22, fuel=20_000, domain="text.predict")
)
LONGEST = 70_000  # bytes of an input: a little more than a record may have


# -- what is tried -------------------------------------------------------------------------------------


def try_record(raw: bytes) -> None:
    signed = parse_record(raw)
    assert (
        encode_record(signed) == raw
        and hashlib.sha256(canonical_json(json.loads(raw)["record"])).hexdigest() == signed.id
    )
    record = signed.record
    if isinstance(record, Finding):
        here = Task.model_validate(task())
        fits = [check_requirements(record.requires, HERE), compare_tasks(record, here)]
        assert all(isinstance(reason, str) for fit in fits for reason in fit.reasons)
        new = novelty(record, [word_set(["A 4 → 2"], "smaller")])
        assert 0 <= priority(record.claimed, 0.01, 0.5, new) <= 1, "no claim outweighs distrust"
        assert compare(record.claimed, 0.0, 0.01, [len(record.runs), 1]) in ("confirmed", "refuted", "inconclusive")


def try_link(raw: bytes) -> None:
    """One commit after a known first one."""
    said = wrapped(raw, before=str, message=str)
    first = examples()[0]
    link = Link("1", None, first.id, {RECORD_FILE: encode_record(first), PATCH_FILE: PATCH.encode()})
    last = check_link(author_of(key()), link, None)
    check_link(author_of(key()), Link("2", said["before"], said["message"], said["files"]), last)


def try_words(raw: bytes) -> None:
    class Payload:
        def to_bytes(self) -> bytes:
            return raw

    for author, commit in gossip._parse_heads(Payload()).items():
        assert re.fullmatch("[0-9a-f]{64}", author) and (commit is None or re.fullmatch("[0-9a-f]{40}", commit))


def try_gene(raw: bytes) -> None:
    try:
        genes.check_gene(genes.read_gene(raw, "a gene"), GeneHost())
    finally:
        genes.check_genes({}, {"gene.wat": text(raw)}, {"gene.wat": GENE.read_text()}, GeneHost())


class Unfit(Exception):
    """An input that is no input of its kind: it says nothing about who would read it."""


def text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unfit from None


def wrapped(raw: bytes, **kinds: type) -> dict[str, Any]:
    """A record among what this file puts around it, with the bytes of its files."""
    try:
        said = json.loads(raw)
        assert all(isinstance(said[name], kind) for name, kind in kinds.items())
        files = {str(name): str(content).encode() for name, content in said["files"].items()}
        json.dumps(said, ensure_ascii=False).encode()
        return {**said, "files": files | {RECORD_FILE: canonical_json(said["record"])}}
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError):
        raise Unfit from None


class Places:
    """A hostile remote that an honest author uses too, one's own copy, and a lab. As a transport, a hostile peer."""

    def __init__(self, top: Path) -> None:
        self.top, self.remote, self.honest = top, top / "remote", author_of(key(1))
        self.bundle, self.hostile = top / "a.bundle", [author_of(key(n)) for n in (0, 7)]
        honest = Commons(top / "honest")
        body = {
            name: value for name, value in finding(1).model_dump(exclude_unset=True).items() if name not in stated("")
        }
        honest.publish(key(1), [({"kind": "finding", "at": "2026-11-21T06:00:00Z", **body}, PATCH.encode())])
        Chains(self.remote)
        honest.push(str(self.remote), self.honest)
        honest.chains.pack(self.bundle)
        self.inbox = list[gossip.PeerDigest | gossip.DigestRequest | gossip.BundleReceived]()
        self.good = self.bundle.read_bytes()
        self.mine = Commons(top / "mine")
        self.mine.pull(str(self.remote))
        lab = top / "lab"
        lab.mkdir()
        (lab / "genome.py").write_text(GENOME)
        for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
            subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *args], cwd=lab, check=True)
        self.lab = Repo(lab)
        self.head, self.all = self.lab.resolve() or "", set(top.iterdir())

    def put(self, kind: str, content: bytes) -> str:
        """Write an object as git has it, whatever is in it."""
        raw = f"{kind} {len(content)}\0".encode() + content
        name = hashlib.sha1(raw).hexdigest()
        path = self.remote / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(raw, 1))
        return name

    def pull(self, remote: Path) -> None:
        """Nothing that was accepted is lost, whatever comes; then forget what the fuzzed author had accepted."""
        try:
            self.mine.pull(str(remote))
        finally:
            again = Commons(self.top / "mine")
            assert self.honest in again.entries()
            for ref in (self.top / "mine" / "refs").rglob("*"):
                if ref.name in self.hostile:
                    ref.unlink()
            self.mine = Commons(self.top / "mine")

    def try_ref(self, raw: bytes) -> None:
        said = wrapped(raw, tree=list, lines=list, type=str)
        blobs = {name: self.put("blob", content) for name, content in said["files"].items()}
        tree = b"".join(
            f"{mode} {name}\0".encode() + bytes.fromhex(blobs.get(of, "0" * 40))
            for mode, name, of in (
                map(str, [*entry, "", "", ""][:3]) for entry in said["tree"] if isinstance(entry, list)
            )
        )
        lines = "\n".join(map(str, said["lines"])).replace("TREE", self.put("tree", tree))
        commit = self.put(said["type"], lines.encode())
        ref = self.remote / "refs" / "nightlab" / self.hostile[bool(said.get("other"))]
        ref.write_text(f"{commit}\n")
        try:
            self.pull(self.remote)
        finally:
            ref.unlink()

    def try_bundle(self, raw: bytes) -> None:
        """As a file, and as a peer's answer, after words of that peer's."""
        self.bundle.write_bytes(raw)
        heads = {author: hashlib.sha1(raw).hexdigest() for author in (*self.hostile, self.honest)}
        answers = list[bytes]()
        self.inbox += [
            gossip.PeerDigest("it", heads),
            gossip.DigestRequest(dict.fromkeys(heads), answers.append),
            gossip.BundleReceived(raw),
        ]
        gossip.Gossip(self.mine, self).step()
        assert answers[0].startswith(b"# v"), "whoever asks is answered"
        self.pull(self.bundle)

    def announce(self, heads: gossip.Heads) -> None:
        assert heads.keys() >= {self.honest}

    def ask(self, peer: str, wants: gossip.Wants, most: int) -> None:
        assert wants

    def messages(self) -> Iterator[gossip.PeerDigest | gossip.DigestRequest | gossip.BundleReceived]:
        while self.inbox:
            yield self.inbox.pop(0)

    def try_patch(self, raw: bytes) -> None:
        commit = self.lab.commit_patch(self.head, text(raw), "x")
        changed = self.lab.check_scope(self.head, commit, ("genome.py",))
        assert set(changed) <= {"genome.py"} and set(self.lab.files(commit)) <= {"genome.py"}
        assert (self.lab.lab / "genome.py").read_text() == GENOME and set(self.top.iterdir()) == self.all


# -- from what -----------------------------------------------------------------------------------------


def corpus(part: str, places: Places | None) -> list[bytes]:
    """Valid inputs of every kind."""
    chain = [json.loads(encode_record(signed)) for signed in examples()]
    genes_of = {
        "gene.wat": {"domain": "text.predict", "memory_bytes": 4194304, "fuel": 12000, "imports": [], "optional": []}
    }
    gene = json.loads(json.dumps(chain[0]))
    gene["record"]["requires"]["genes"] = genes_of
    resign(gene, random.Random(0))
    if part == "pure":
        second = chain[1]
        links = [{"files": {}, "record": second, "before": "1", "message": second["id"]}]
        said = {author_of(key(n)): commit for n, commit in ((1, None), (2, "a" * 40))}
        module = genes._from_text(GENE.read_bytes(), "gene.wat")
        found = [b"r" + canonical_json(each) for each in [*chain, gene]] + [
            b"l" + canonical_json(each) for each in links
        ]
        return [*found, b"w" + json.dumps(said).encode(), b"g" + module, b"g" + module[:300], b"g(module)"]
    assert places
    ref = {
        "record": chain[0],
        "files": {PATCH_FILE: PATCH},
        "tree": [["100644", PATCH_FILE, PATCH_FILE], ["100644", RECORD_FILE, RECORD_FILE]],
        "lines": ["tree TREE", f"author {WHO}", f"committer {WHO}", "", f"{chain[0]['id']}\n"],
        "type": "commit",
        "other": 0,
    }
    told = {**ref, "record": chain[1], "files": {}, "tree": ref["tree"][1:]}
    return [
        b"f" + canonical_json(ref),
        b"f" + canonical_json(told),
        b"b" + places.good,
        b"p" + PATCH.encode(),
        b"p" + PATCH[:90].encode(),
    ]


def fuzz(part: str, seconds: int, keep: Path) -> None:
    """Fuzz one part, in this process, which ends with it."""
    top = Path(tempfile.mkdtemp(prefix="nightlab-fuzz-"))
    places = Places(top / "places") if part == "git" else None
    tries: dict[bytes, Callable[[bytes], None]]  # by the first byte of an input
    tries = {b"r": try_record, b"l": try_link, b"w": try_words, b"g": try_gene}
    if places:
        tries = {b"f": places.try_ref, b"b": places.try_bundle, b"p": places.try_patch}

    def one(raw: bytes) -> None:
        try:
            if raw[:1] in tries:
                tries[raw[:1]](raw[1:])
        except Unfit:
            pass
        except (Rejected, genes.NoGene, Unreachable, PatchConflict, OutOfScope) as error:
            assert str(error) and len(str(error)) < 2000

    seeds = top / "corpus"
    seeds.mkdir()
    for number, raw in enumerate(corpus(part, places)):
        (seeds / str(number)).write_bytes(raw)
    flags = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=60", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={keep}/", str(seeds)], one, custom_mutator=mutate)
    atheris.Fuzz()


def shares(seconds: int) -> None:
    """Fuzz both parts, one after the other, and say what came of it."""
    rows, keep = [], Path.cwd()
    for part in ("pure", "git"):
        command = [sys.executable, __file__, "--part", part, "--seconds", str(seconds // 2)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        edges = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)", done.stdout)
        runs = re.findall(r"number_of_executed_units: (\d+)|Done (\d+) runs", done.stdout)
        fault = "" if not done.returncode else "it crashed"
        rows.append(
            [part, *(f"{int(n):,}" for n in ("".join(runs[-1]), *edges[-1])), fault or 0]
            if runs and edges
            else [part, fault]
        )
        if fault:
            print(done.stdout[-6000:])
            raise SystemExit(f"{part}: {fault}; the input is in {keep}")
    table(("part", "inputs tried", "edges reached", "features", "kept as new", "crashes"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--part", choices=("pure", "git"), help="only this one, in this process")
    asked = parser.parse_args()
    if asked.part:
        fuzz(asked.part, asked.seconds, Path.cwd())
    else:
        shares(asked.seconds)


if __name__ == "__main__":
    main()
