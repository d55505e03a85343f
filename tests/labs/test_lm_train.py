"""The language-model lab's genome without its data: loss in chunks, and rows that fit into a GPU's memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from support.extras import extra

pytestmark = [pytest.mark.xdist_group("lm")]  # one worker imports PyTorch

torch = extra("torch", "lm")
TRAIN = Path(__file__).resolve().parents[2] / "src" / "nightlab" / "labs" / "lm" / "train.py"
GB = 2**30


def load(device: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """train.py as it is on a device, with nothing of the lab beside it."""
    stand_in = SimpleNamespace(DEVICE=device, MAX_CONTEXT=64, SEED=1, VOCABULARY=300)
    monkeypatch.setitem(sys.modules, "prepare", stand_in)
    spec = importlib.util.spec_from_file_location(f"train_on_{device}", TRAIN)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    threads = torch.get_num_threads()
    yield load("cpu", monkeypatch)
    torch.set_num_threads(threads)


def whole(x: object, weight: object, targets: object, cap: float) -> object:
    """The loss as it is defined, with all logits at once."""
    return torch.nn.functional.cross_entropy(cap * torch.tanh((x @ weight.mT).float() / cap), targets)


@pytest.mark.parametrize(
    ("chunk", "kind", "error"), [(7, "float32", 1e-6), (64, "float32", 1e-6), (7, "bfloat16", 2e-2)]
)
def test_the_loss_in_chunks_is_the_loss_with_its_gradients(
    train: ModuleType, chunk: int, kind: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "CHUNK", chunk)
    chance = torch.Generator().manual_seed(1)
    x = torch.randn(40, 16, generator=chance).to(getattr(torch, kind))
    weight, targets = torch.randn(300, 16, generator=chance), torch.randint(300, (40,), generator=chance)
    both = []
    for loss_of in (lambda *a: whole(*a, train.SOFTCAP), train.CappedCrossEntropy.apply):
        one, other = x.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = loss_of(one, other if loss_of is train.CappedCrossEntropy.apply else other.to(x.dtype), targets)
        (loss * 0.5).backward()
        both.append((loss.detach(), one.grad.float(), other.grad))
    for right, found in zip(*both, strict=True):
        assert found.dtype == torch.float32 and (found - right).norm() <= error * right.norm()


def test_no_tensor_of_all_logits_is_made(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            self.size = max(self.size, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    monkeypatch.setattr(train, "CHUNK", 8)
    x, weight = torch.randn(512, 16, requires_grad=True), torch.randn(300, 16, requires_grad=True)
    with Largest() as seen:
        train.CappedCrossEntropy.apply(x, weight, torch.zeros(512, dtype=torch.int64)).backward()
    assert seen.size <= max(x.numel(), weight.numel())


@pytest.mark.machine  # PyTorch imports its compiler: seconds
def test_a_compiler_can_trace_the_loss(train: ModuleType) -> None:
    model = train.GPT()
    model.prepare_length(64)
    tokens = torch.randint(300, (2, 64))
    traced = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    assert traced(tokens, tokens).item() == pytest.approx(model(tokens, tokens).item(), abs=1e-5)
    traced(tokens, tokens).backward()
    assert model.unembedding.weight.grad.norm() > 0


def test_as_many_rows_as_fit_with_the_same_tokens_in_a_step(train: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert train.largest_batch(128, 1000, lambda rows: True) == 128
    assert train.largest_batch(128, 40.5, lambda rows: True) == 32
    assert train.largest_batch(128, 128, lambda rows: rows <= 8) == 8, "tried out, where the estimate is too large"
    assert train.largest_batch(12, 5, lambda rows: True) == 4 and train.largest_batch(7, 5, lambda rows: True) == 1
    assert train.largest_batch(128, -3, lambda rows: True) == 1, "one row is tried whatever the estimate says"
    with pytest.raises(SystemExit):
        train.largest_batch(128, 128, lambda rows: False)
    assert "not even one row fits" in capsys.readouterr().out


class Card:
    """A GPU with this much free memory, in which a model's pass takes what rows_that_fit supposes, and a part more."""

    def __init__(self, free: float, row: float) -> None:
        self.free, self.row, self.peak, self.tried = free, row, 0.0, []

    def mem_get_info(self) -> tuple[float, float]:
        return self.free - self.peak, self.free

    def empty_cache(self) -> None:
        self.peak = 0.0

    def loss_of(self, tokens: object, targets: object) -> object:
        self.tried.append(len(tokens))
        self.peak = len(tokens) * self.row
        if self.peak > self.free:
            raise torch.OutOfMemoryError
        return torch.zeros((), requires_grad=True)


@pytest.mark.parametrize("more", [1.0, 2.5])
def test_the_batch_is_found_on_cards_from_8_gb_on(
    train: ModuleType, more: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """``more``: how much more memory a row takes than was supposed."""
    model, found = train.GPT(), []
    for name, value in {"DEVICE_BATCH": 0, "CONTEXT": 2048, "DEPTH": 9, "CHUNK": 2**13}.items():
        monkeypatch.setattr(train, name, value)
    model.width = 640
    for size in (8, 16, 24, 48, 80, 140):
        card = Card(0.94 * size * GB, more * 32 * 2048 * 10 * 640)
        monkeypatch.setattr(torch.cuda, "mem_get_info", card.mem_get_info)
        monkeypatch.setattr(torch.cuda, "empty_cache", card.empty_cache)
        rows = train.device_batch(model, card.loss_of, 128)
        assert 128 % rows == 0 and rows * card.row + train.EVALUATOR_BYTES < card.free
        assert f"{rows} of 128 rows in one pass fit into the {0.94 * size:.1f} GB" in capsys.readouterr().out
        assert len(card.tried) <= 3, "each size that is tried has to be compiled"
        found.append(rows)
    assert found == sorted(found) and found[-1] == 128 and found[0] >= 2


def test_a_loss_that_is_no_number_ends_the_run(train: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert train.value_of(torch.tensor(2.5), 3) == 2.5
    for bad in (float("nan"), float("inf"), 100.0):
        with pytest.raises(SystemExit):
            train.value_of(torch.tensor(bad), 3)
        assert "at step 3. Lower a learning rate" in capsys.readouterr().out


class Played:
    """The lab's prepare.py for a training of so many steps, whose batches come from nowhere; what happened in order."""

    def __init__(self, steps: int) -> None:
        self.steps, self.happened, self.tokens, self.batch = steps, list[str](), 0, 2

    def progress(self) -> float:
        return self.tokens / (self.steps * 128)

    def __next__(self) -> tuple[object, object]:
        self.happened.append(f"batch {self.tokens // 128}")
        self.tokens += 128
        return torch.zeros(2, 64, dtype=torch.int64), torch.zeros(2, 64, dtype=torch.int64)

    def prepare(self) -> SimpleNamespace:
        budget = SimpleNamespace(progress=self.progress, end=1.0, start=lambda: None, report=lambda loss: None)
        return SimpleNamespace(
            answer=lambda load: None,
            train_loader=lambda batch, length: self,
            Budget=lambda batches: budget,
            checkpoint=dict,
            finish=lambda model: self.happened.append("end"),
            save=lambda state: None,
            hand_over=lambda model: None,
        )


@pytest.mark.parametrize("bad", [None, 1])
def test_the_loss_is_read_while_the_device_works_on_the_next_step(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, bad: int | None
) -> None:
    """``bad``: the step from which the loss is no number."""
    played, read = Played(4), train.value_of

    def value_of(loss: object, step: int) -> float:
        played.happened.append(f"loss {step}")
        return read(torch.tensor(float("nan")) if step == bad else loss, step)

    monkeypatch.setattr(train, "value_of", value_of)
    monkeypatch.setattr(train, "prepare", played.prepare())
    monkeypatch.setattr(train, "state_of", lambda *state: {})
    for name, value in {"CONTEXT": 64, "TOTAL_BATCH": 128, "DEVICE_BATCH": 2, "MAX_CONTEXT": 64}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(train.gc, "freeze", lambda: None)
    whole = ["batch 0", "batch 1", "loss 1", "batch 2", "loss 2", "batch 3", "loss 3", "loss 4", "end"]
    if bad is None:
        train.main()
        assert played.happened == whole
        return
    with pytest.raises(SystemExit):
        train.main()
    assert played.happened == whole[:3], "no more than one step is made with it"
    assert "the training loss is nan at step 1. Lower a learning rate" in capsys.readouterr().out


def test_without_triton_a_gpu_is_used_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "triton" else found(name, *a))
    there = load("cuda", monkeypatch)

    def function() -> None: ...

    assert not there.FUSED and there.compiled(function) is function
