"""The yardstick: a plain GPT-2 with AdamW, of the same size as the lab's default and on its data and budget.

Run by benchmarks/lm.py in a copy of the language-model lab, in the place of its train.py. Depth and context are
the lab's; the width is what gives the number of parameters in PLAIN_PARAMETERS.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import nullcontext

import prepare
import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import DEVICE, MAX_CONTEXT, SEED, VOCABULARY

PARAMETERS = float(os.environ["PLAIN_PARAMETERS"])
DEPTH = int(os.environ["PLAIN_DEPTH"])
HEADS = 4
BATCH = {"cuda": 128, "mps": 16, "cpu": 4}[DEVICE]  # rows; in tokens a step, the lab's own default on a CPU
LR = float(os.environ.get("PLAIN_LR", "1e-3"))
WARMUP = 0.02  # of the budget; then a cosine to a tenth


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:2], HEADS, -1)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(MAX_CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16) if DEVICE == "cuda" else nullcontext():
            x = self.tokens(tokens) + self.places(torch.arange(tokens.size(1), device=DEVICE))
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x)).float()
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def width_for(parameters: float) -> int:
    """The width, a multiple of the heads, that comes closest to so many parameters."""

    def size(width: int) -> int:
        return 2 * VOCABULARY * width + MAX_CONTEXT * width + 12 * DEPTH * width * width

    return min(range(HEADS, 4096, HEADS * 4), key=lambda width: abs(size(width) - parameters))


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    width = width_for(PARAMETERS)
    model = GPT(width).to(DEVICE)
    loss_of = torch.compile(model) if DEVICE == "cuda" else model
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), fused=True)
    batches = prepare.train_loader(BATCH, MAX_CONTEXT)
    budget = prepare.Budget(batches)
    compiling = 10 if DEVICE == "cuda" else 0
    step = 0
    while (progress := budget.progress()) < 1:
        if step == compiling:
            begun = time.perf_counter()
            budget.start()
        rise = min(1.0, progress / WARMUP)
        for group in adamw.param_groups:
            group["lr"] = LR * rise * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        loss_of(*next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        step += 1
    seconds = time.perf_counter() - begun
    print("---")
    print(f"val_bpb:          {prepare.finish(loss_of):.6f}")
    print(f"training_seconds: {seconds:.1f}")
    print(f"total_tokens_M:   {batches.tokens / 1e6:.3f}")
    print(f"num_steps:        {step}")
    print(f"num_params_M:     {sum(p.numel() for p in model.parameters()) / 1e6:.2f}")


if __name__ == "__main__":
    main()
