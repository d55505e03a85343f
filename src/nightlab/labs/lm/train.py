"""Pretrain a small GPT on one device, within a fixed budget. The genome: everything in this file may change.

    python train.py                       train, evaluate, print a summary (after python prepare.py)

The recipe is karpathy/autoresearch's: a GPT with rotary embeddings, value embeddings and sliding windows,
trained with Muon and AdamW. The defaults for CUDA are what its public session of 126 experiments found on an
H100 (branch exp/H100/mar8); those for MPS and CPU are the same recipe at a smaller scale.
"""

from __future__ import annotations

import gc
import math
import resource
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec

import prepare
import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import DEVICE, MAX_CONTEXT, SEED, VOCABULARY

# --- Constants. A tuner reads the bracket that ends a comment: a range, choices, or fixed ---------------

# Model
DEPTH = {"cuda": 9, "mps": 4, "cpu": 2}[DEVICE]  # transformer blocks
ASPECT_RATIO = 57  # width = DEPTH * ASPECT_RATIO, rounded up to whole heads
HEAD_DIM = {"cuda": 128, "mps": 64, "cpu": 32}[DEVICE]  # width of one head [16 | 32 | 64 | 128]
MLP_RATIO = 4  # hidden width of the MLP, over the model's [1..6]
CONTEXT = {"cuda": 2048, "mps": 512, "cpu": 256}[DEVICE]  # tokens in a training row
WINDOWS = {"cuda": "SSSSL", "mps": "SSSL", "cpu": "SSSL"}[DEVICE]  # by layer; the last is L [L | SL | SSSL]
SHORT_WINDOW = 8  # S attends to CONTEXT // SHORT_WINDOW tokens, L to CONTEXT [2 | 4 | 8 | 16]
ROPE_BASE = {"cuda": 200_000, "mps": 10_000, "cpu": 10_000}[DEVICE]  # rotary embeddings [100..1000000 log]
SOFTCAP = 15.0  # logits stay within +-SOFTCAP
GATE_CHANNELS = 32  # channels of a block's input that open the value embeddings' gates [8 | 16 | 32]
INIT_SCALE = 0.68  # scale of the blocks' initial weights
X0_INIT = 0.05  # how much of the embedding is added before each block, at first [0.0..0.5]

# Batch
TOTAL_BATCH = {"cuda": 2**18, "mps": 2**15, "cpu": 2**10}[DEVICE]  # tokens in one step
DEVICE_BATCH = {"cuda": 0, "mps": 16, "cpu": 64}[DEVICE]  # most rows in one pass; 0: as many as fit [fixed]
CHUNK = {"cuda": 2**13, "mps": 2**11, "cpu": 2**8}[DEVICE]  # tokens whose logits are in memory at a time [fixed]

# Optimisers
MATRIX_LR = 0.04  # Muon: matrices of the blocks [moves]
EMBEDDING_LR = 0.9  # AdamW: token and value embeddings, at width 768 [moves]
UNEMBEDDING_LR = 0.005  # AdamW: output layer, at width 768 [moves]
SCALAR_LR = 0.5  # AdamW: scalars of the residual stream [moves]
ADAM_BETAS = (0.8, 0.95)  # decay of AdamW's averages [fixed]
MUON_MOMENTUM = 0.95  # after its warm-up [0.8..0.99]
MUON_MOMENTUM_START = 0.85  # at the first step [0.5..0.95]
MUON_MOMENTUM_STEPS = {"cuda": 200, "mps": 50, "cpu": 10}[DEVICE]  # steps of its warm-up [0..500]
MUON_BETA2 = 0.95  # decay of NorMuon's second moment [0.8..0.999]
MUON_STEPS = 5  # iterations of orthogonalisation [2..5]
WEIGHT_DECAY = 0.15  # of the blocks, falling to zero [0.0..0.6, moves]
EMBEDDING_DECAY = 0.001  # of token embeddings
VALUE_DECAY = 0.003  # of value embeddings
UNEMBEDDING_DECAY = 0.01  # of the output layer

# Schedule, in parts of the budget
WARMUP = 0.0  # the learning rates rise from zero [0.0..0.2]
WARMDOWN = 0.75  # they fall linearly to FINAL_LR [0.1..1.0]
FINAL_LR = 0.05  # their last value, over the full one [0.0..0.3]

COMPILE_STEPS = {"cuda": 10, "mps": 0, "cpu": 0}[DEVICE]  # first steps, outside the budget [fixed]
EVALUATOR_BYTES = 3 * 2**30  # GPU memory that a trial's evaluator needs beside training [fixed]
PEAK_FLOPS = {"cuda": 989.5e12, "mps": 0.0, "cpu": 0.0}[DEVICE]  # bfloat16 on an H100 [fixed]

FUSED = DEVICE == "cuda" and find_spec("triton") is not None  # torch.compile writes its kernels with Triton
compiled = torch.compile(dynamic=False) if FUSED else lambda function: function


# --- Model ----------------------------------------------------------------------------------------------


def norm(x: torch.Tensor) -> torch.Tensor:
    """RMSNorm over the last dimension, without weights."""
    return F.rms_norm(x, (x.size(-1),))


def cast(x: torch.Tensor) -> torch.Tensor:
    """The residual stream and attention are bfloat16 on CUDA."""
    return x.bfloat16() if DEVICE == "cuda" else x


def rotary(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of rotary embeddings (Su et al. 2021), each of shape (length, HEAD_DIM / 2)."""
    frequencies = ROPE_BASE ** -torch.linspace(0, 1, HEAD_DIM // 2 + 1, device=DEVICE)[:-1]
    angles = torch.outer(torch.arange(length, device=DEVICE), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn pairs of channels of x, shape (batch, heads, length, HEAD_DIM), by their position's angle."""
    left, right = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([left * cos + right * sin, right * cos - left * sin], dim=-1)


def sliding_window(length: int, window: int):
    """What attention needs to see the last ``window`` tokens: a block mask for FlexAttention, else a mask."""
    if FUSED:
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(batch, head, query, key):
            return (key <= query) & (query - key < window)

        return create_block_mask(sees, None, None, length, length, device=DEVICE)
    distance = torch.arange(length, device=DEVICE)[:, None] - torch.arange(length, device=DEVICE)
    return (distance >= 0) & (distance < window)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask) -> torch.Tensor:
    """Attention over (batch, heads, length, HEAD_DIM); a mask of None is plain causal attention."""
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if FUSED:
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(q, k, v, block_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Attention(nn.Module):
    """Causal self-attention with normed queries and keys (Henry et al. 2020), and in every other layer value
    embeddings behind a gate (Zhou et al. 2024; the gate from modded-nanogpt)."""

    def __init__(self, width: int, valued: bool) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(min(GATE_CHANNELS, width), self.heads, bias=False) if valued else None

    def forward(self, x, values, cos, sin, mask) -> torch.Tensor:
        shape = (*x.shape[:2], self.heads, HEAD_DIM)
        q, k, v = (layer(x).view(shape) for layer in (self.q, self.k, self.v))
        if values is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., :GATE_CHANNELS]))
            v = v + gate[..., None] * values.view(shape)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        return self.out(attend(cast(q), cast(k), cast(v), mask).transpose(1, 2).reshape(x.shape))


class MLP(nn.Module):
    """Two layers around a squared ReLU (So et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.down = nn.Linear(MLP_RATIO * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, width: int, valued: bool) -> None:
        super().__init__()
        self.attention = Attention(width, valued)
        self.mlp = MLP(width)

    def forward(self, x, values, cos, sin, mask) -> torch.Tensor:
        x = x + self.attention(norm(x), values, cos, sin, mask)
        return x + self.mlp(norm(x))


class CappedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy in nats of x @ weight.T within +-SOFTCAP; x: (tokens, width), targets: (tokens,).

    The logits of all tokens would be the largest tensor by far. So they are made for CHUNK tokens at a time,
    with their gradient, and forgotten (as in Liger Kernel, Hsu et al. 2024).
    """

    @staticmethod
    def forward(ctx, x, weight, targets):
        loss = torch.zeros((), device=x.device)
        to_x, to_weight = [], torch.zeros_like(weight, dtype=torch.float32)
        kernel = weight.to(x.dtype)
        for part, wanted in zip(x.split(CHUNK), targets.split(CHUNK), strict=True):
            capped = (part @ kernel.mT).float().div_(SOFTCAP).tanh_()
            logits = SOFTCAP * capped
            total = logits.logsumexp(-1, keepdim=True)
            loss += (total - logits.gather(-1, wanted[:, None])).sum()
            gradient = logits.sub_(total).exp_()  # softmax, less one at the target, through the cap
            gradient.scatter_add_(-1, wanted[:, None], torch.full_like(total, -1.0))
            gradient = gradient.mul_(1 - capped.square()).div_(len(x)).to(x.dtype)
            to_x.append(gradient @ kernel)
            to_weight += gradient.mT @ part
        ctx.save_for_backward(torch.cat(to_x), to_weight)
        return loss / len(x)

    @staticmethod
    def backward(ctx, scale):
        to_x, to_weight = ctx.saved_tensors
        return to_x * scale, to_weight * scale, None


class GPT(nn.Module):
    """Tokens (batch, length) to float32 logits (batch, length, VOCABULARY), length up to MAX_CONTEXT."""

    def __init__(self) -> None:
        super().__init__()
        self.width = math.ceil(DEPTH * ASPECT_RATIO / HEAD_DIM) * HEAD_DIM
        valued = [layer % 2 == (DEPTH - 1) % 2 for layer in range(DEPTH)]  # every other one, and the last
        self.embedding = nn.Embedding(VOCABULARY, self.width)
        self.values = nn.ModuleDict(
            {str(layer): nn.Embedding(VOCABULARY, self.width) for layer in range(DEPTH) if valued[layer]}
        )
        self.blocks = nn.ModuleList(Block(self.width, valued[layer]) for layer in range(DEPTH))
        self.unembedding = nn.Linear(self.width, VOCABULARY, bias=False)
        self.residual_scale = nn.Parameter(torch.ones(DEPTH))
        self.x0_scale = nn.Parameter(torch.full((DEPTH,), X0_INIT))
        short = max(1, CONTEXT // SHORT_WINDOW)
        pattern = [WINDOWS[layer % len(WINDOWS)] for layer in range(DEPTH - 1)] + ["L"]
        self.windows = [short if kind == "S" else CONTEXT for kind in pattern]
        self.positions = {}  # by length: rotary tables, and a mask for each window
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Uniform weights of standard deviation INIT_SCALE / sqrt(width); what writes to the residual stream
        starts at zero, so each block starts as the identity."""
        bound = math.sqrt(3 / self.width)
        self.embedding.weight.normal_()
        self.unembedding.weight.normal_(std=0.001)
        for table in self.values.values():
            table.weight.uniform_(-bound, bound)
        for block in self.blocks:
            for layer in (block.attention.q, block.attention.k, block.attention.v, block.mlp.up):
                layer.weight.uniform_(-bound * INIT_SCALE, bound * INIT_SCALE)
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
            if block.attention.gate is not None:
                block.attention.gate.weight.zero_()

    def prepare_length(self, length: int) -> None:
        """Build the tables for rows of this length, ahead of the first such call."""
        masks = {w: None if w >= length else sliding_window(length, w) for w in set(self.windows)}
        self.positions[length] = (*rotary(length), masks)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, or with targets the mean cross-entropy in nats."""
        cos, sin, masks = self.positions[tokens.size(1)]
        with torch.autocast(DEVICE, torch.bfloat16) if DEVICE == "cuda" else nullcontext():
            x = x0 = cast(norm(self.embedding(tokens)))
            for layer, block in enumerate(self.blocks):
                x = cast(self.residual_scale[layer] * x + self.x0_scale[layer] * x0)
                values = cast(self.values[str(layer)](tokens)) if str(layer) in self.values else None
                x = block(x, values, cos, sin, masks[self.windows[layer]])
            x = cast(norm(x))
        if targets is not None:
            return CappedCrossEntropy.apply(x.flatten(0, 1), self.unembedding.weight, targets.flatten())
        logits = (x @ self.unembedding.weight.to(x.dtype).mT).float()
        return SOFTCAP * logits.div_(SOFTCAP).tanh_()  # in place: new memory costs more than the tanh

    def flops_per_token(self) -> float:
        """Of forward and backward: 6 for each weight that multiplies, and attention within its windows."""
        weights = sum(p.numel() for p in self.blocks.parameters()) + self.unembedding.weight.numel()
        return 6 * weights + sum(12 * self.width * min(window, CONTEXT) for window in self.windows)


# --- Optimisers -----------------------------------------------------------------------------------------

# Polar Express (Amsel et al. 2025): the best odd polynomials of degree five, one after another, that drive
# all singular values to one; for five iterations, with a safety factor of 1.02.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233002706),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@compiled
def orthogonalise(g: torch.Tensor) -> torch.Tensor:
    """The orthogonal factor of each matrix in g, shape (matrices, rows, columns), nearly."""
    x = cast(g)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for a, b, c in POLAR_EXPRESS[:MUON_STEPS]:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with NorMuon's evened-out rows (Li et al. 2025) and
    weight decay only where it agrees with the update (Chen et al. 2025). Matrices of a shape go together."""

    def __init__(self, matrices: list[nn.Parameter]) -> None:
        shapes = sorted({tuple(p.shape) for p in matrices})
        groups = [{"params": [p for p in matrices if tuple(p.shape) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": MATRIX_LR, "momentum": MUON_MOMENTUM, "weight_decay": WEIGHT_DECAY})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            p = torch.stack(group["params"])
            g = torch.stack([parameter.grad for parameter in group["params"]])
            rows, columns = p.shape[1:]
            along = -1 if rows >= columns else -2
            state = self.state[group["params"][0]]
            if not state:
                state["momentum"] = torch.zeros_like(g)
                state["second"] = torch.zeros_like(g.mean(along, keepdim=True))
            state["momentum"].lerp_(g, 1 - group["momentum"])
            update = orthogonalise(g.lerp(state["momentum"], group["momentum"]))  # Nesterov

            second = update.square().mean(along, keepdim=True)
            size = update.norm(dim=(-2, -1), keepdim=True)
            state["second"].lerp_(second, 1 - MUON_BETA2)
            update = update * state["second"].clamp_min(1e-10).rsqrt()
            update = update * (size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))

            decay = group["weight_decay"] * p * (update * p >= 0)
            p -= group["lr"] * max(1, rows / columns) ** 0.5 * (update + decay)
            torch._foreach_copy_(group["params"], list(p))


def optimisers(model: GPT) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest, whose learning rates go with 1 / sqrt(width)."""
    scale = (model.width / 768) ** -0.5
    adam = [
        {"params": model.embedding.parameters(), "lr": EMBEDDING_LR * scale, "weight_decay": EMBEDDING_DECAY},
        {"params": model.values.parameters(), "lr": EMBEDDING_LR * scale, "weight_decay": VALUE_DECAY},
        {
            "params": model.unembedding.parameters(),
            "lr": UNEMBEDDING_LR * scale,
            "weight_decay": UNEMBEDDING_DECAY,
        },
        {"params": [model.residual_scale], "lr": SCALAR_LR * 0.01},
        {"params": [model.x0_scale], "lr": SCALAR_LR, "betas": (0.96, 0.95)},
    ]
    adamw = torch.optim.AdamW(adam, betas=ADAM_BETAS, eps=1e-10, weight_decay=0.0, fused=True)
    both = [Muon(list(model.blocks.parameters())), adamw]
    for group in (group for optimiser in both for group in optimiser.param_groups):
        group["full_lr"] = group["lr"]
    return both


def schedule(both: list[torch.optim.Optimizer], progress: float, step: int) -> None:
    """Set learning rates, Muon's momentum and weight decay for this point of the budget."""
    rise = progress / WARMUP if progress < WARMUP else 1.0
    fall = min(1.0, (1 - progress) / WARMDOWN) if WARMDOWN else 1.0
    for group in (group for optimiser in both for group in optimiser.param_groups):
        group["lr"] = group["full_lr"] * rise * (FINAL_LR + (1 - FINAL_LR) * fall)
    warm = min(1.0, step / MUON_MOMENTUM_STEPS) if MUON_MOMENTUM_STEPS else 1.0
    for group in both[0].param_groups:
        group["momentum"] = MUON_MOMENTUM_START + (MUON_MOMENTUM - MUON_MOMENTUM_START) * warm
        group["weight_decay"] = WEIGHT_DECAY * (1 - progress)


# --- Constants that move, and checkpoints ---------------------------------------------------------------

moving = ("MATRIX_LR", "EMBEDDING_LR", "UNEMBEDDING_LR", "SCALAR_LR", "WEIGHT_DECAY")
courses = {name: values for name in moving if isinstance(values := globals().get(name), tuple)}


def move(progress: float) -> bool:
    """Constants that are tuples, of values for equally long parts of the budget, get the one for this point of it.

    Returns whether one changed."""
    before = [globals()[name] for name in courses]
    for name, values in courses.items():
        globals()[name] = values[min(int(progress * len(values) + 1e-9), len(values) - 1)]
    return before != [globals()[name] for name in courses]


move(0.0)


def state_of(model: GPT, both: list[torch.optim.Optimizer], batches, step: int) -> dict[str, torch.Tensor]:
    """All that training needs to go on."""
    found = {f"model {name}": value for name, value in model.state_dict().items()}
    for number, optimiser in enumerate(both):
        for index, state in optimiser.state_dict()["state"].items():
            found |= {f"optimiser {number} {index} {name}": value for name, value in state.items()}
    return found | {"place": torch.from_numpy(batches.place()), "step": torch.tensor(step)}


def go_on(state: dict[str, torch.Tensor], model: GPT, both: list[torch.optim.Optimizer], batches) -> int:
    """Go on from what ``state_of`` gave; returns the step."""
    model.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model ")})
    for number, optimiser in enumerate(both):
        had: dict[int, dict[str, torch.Tensor]] = {}
        for name in (name for name in state if name.startswith(f"optimiser {number} ")):
            _, _, index, what = name.split()
            had.setdefault(int(index), {})[what] = state[name]
        optimiser.load_state_dict({"state": had, "param_groups": optimiser.state_dict()["param_groups"]})
    batches.go_on(state["place"].numpy())
    return int(state["step"])


# --- Training -------------------------------------------------------------------------------------------


def largest_batch(rows: int, most: float, fits) -> int:
    """Rows in one pass: the most that divide ``rows``, so that a step has the same tokens, and that fit."""
    for batch in range(min(rows, max(1, int(most))), 0, -1):
        if rows % batch == 0 and fits(batch):
            return batch
    print("FAIL: not even one row fits into the free GPU memory beside the evaluator. Halve CONTEXT or DEPTH in")
    print("train.py, or end what else uses the card (see nvidia-smi).")
    sys.exit(1)


def rows_that_fit(model: GPT, free: float) -> float:
    """An estimate: ``free`` bytes less the evaluator, weights, gradients, moments and one chunk's logits, over what
    a row takes (24 bytes for each layer and channel of a token, measured on an H200; a third more for safety)."""
    fixed = EVALUATOR_BYTES + 16 * sum(p.numel() for p in model.parameters()) + 16 * CHUNK * VOCABULARY
    return (free - fixed) / (32 * CONTEXT * (DEPTH + 1) * model.width)


def device_batch(model: GPT, loss_of, rows: int) -> int:
    """DEVICE_BATCH, or as many rows as leave memory for the evaluator and the optimisers, tried out."""
    if DEVICE_BATCH:
        return largest_batch(rows, DEVICE_BATCH, lambda batch: True)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())

    def fits(batch: int) -> bool:
        tokens = torch.zeros(batch, CONTEXT, dtype=torch.int64, device=DEVICE)
        try:
            loss_of(tokens, tokens).backward()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return False
        finally:
            model.zero_grad(set_to_none=True)
        return torch.cuda.mem_get_info()[0] >= EVALUATOR_BYTES + 2 * weights

    free = torch.cuda.mem_get_info()[0]
    batch = largest_batch(rows, rows_that_fit(model, free), fits)
    print(f"{batch} of {rows} rows in one pass fit into the {free / 2**30:.1f} GB that are free, beside the evaluator")
    return batch


def value_of(loss: torch.Tensor, step: int) -> float:
    """A loss as a number: waits until the device has got there. Ends a run that diverged."""
    if not (value := loss.item()) < 100:  # also when it is not a number
        print(f"FAIL: the training loss is {value} at step {step}. Lower a learning rate.")
        sys.exit(1)
    return value


def load(state: dict[str, torch.Tensor]):
    """The trained model, in a process that answers the evaluator: from the state that ``hand_over`` saved."""
    torch.set_float32_matmul_precision("high")
    model = GPT().to(DEVICE)
    model.load_state_dict(state)
    model.prepare_length(MAX_CONTEXT)
    return compiled(model)


def main() -> None:
    prepare.answer(load)
    began = time.perf_counter()
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    model = GPT().to(DEVICE)
    for length in {CONTEXT, MAX_CONTEXT}:
        model.prepare_length(length)
    both = optimisers(model)
    loss_of = compiled(model)
    rows = max(1, TOTAL_BATCH // CONTEXT)
    if DEVICE == "cuda" and not FUSED:
        print("torch.compile needs Triton, which is missing: training is several times slower (pip install triton)")
    batch = device_batch(model, loss_of, rows)
    micro_batches = rows // batch
    batches = prepare.train_loader(batch, CONTEXT)
    budget = prepare.Budget(batches)
    parameters = sum(p.numel() for p in model.parameters())
    shape = f"depth {DEPTH}, width {model.width}, {micro_batches} x {batches.batch} x {CONTEXT} tokens a step"
    print(f"{parameters / 1e6:.2f} M parameters on {DEVICE}: {shape}", flush=True)
    gc.freeze()  # what exists now stays: no long pauses to look through it

    step, average, spoke, counted, unread = 0, 0.0, time.perf_counter(), 0, None
    before = go_on(had, model, both, batches) if (had := prepare.checkpoint()) else 0  # steps
    while (progress := budget.progress()) < budget.end:
        if move(progress):
            for optimiser, fresh in zip(both, optimisers(model), strict=True):
                for group, other in zip(optimiser.param_groups, fresh.param_groups, strict=True):
                    group["full_lr"] = other["full_lr"]
        if step == COMPILE_STEPS:
            started, skipped = time.perf_counter(), batches.tokens
            budget.start()
        for _ in range(micro_batches):
            loss = loss_of(*next(batches))
            (loss / micro_batches).backward()
        schedule(both, progress, before + step)
        for optimiser in both:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if unread is not None:  # the loss of the step before, while the device works on this one
            budget.report(value := value_of(unread, step - 1))
            average = 0.9 * average + 0.1 * value
        unread = loss.detach()
        if step > 1 and (now := time.perf_counter()) - spoke >= 1:
            rate = (batches.tokens - counted) / (now - spoke)
            shown = average / (1 - 0.9 ** (step - 1))  # an average of the last ten or so
            print(f"step {step:5d}  {progress:6.1%}  loss {shown:.4f}  {rate:,.0f} tokens/s", flush=True)
            spoke, counted = now, batches.tokens
    value_of(unread, step)
    seconds = time.perf_counter() - started

    val_bpb = prepare.finish(loss_of)
    if DEVICE == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    flops = model.flops_per_token() * (batches.tokens - skipped) / seconds
    print("---")
    if val_bpb is not None:  # in a trial only the evaluator knows it
        print(f"val_bpb:          {val_bpb:.6f}")
    print(f"training_seconds: {seconds:.1f}")
    print(f"total_seconds:    {time.perf_counter() - began:.1f}")
    print(f"peak_vram_mb:     {memory:.1f}")
    print(f"mfu_percent:      {100 * flops / PEAK_FLOPS if PEAK_FLOPS else 0:.2f}")
    print(f"total_tokens_M:   {batches.tokens / 1e6:.1f}")
    print(f"num_steps:        {step}")
    print(f"num_params_M:     {parameters / 1e6:.1f}")
    print(f"depth:            {DEPTH}")
    prepare.save(state_of(model, both, batches, before + step))
    prepare.hand_over(model)


if __name__ == "__main__":
    main()
