"""Validation text known by heart, in the language-model lab: python benchmarks/lm_by_heart.py [--seconds 10]

A candidate that carries as much of the validation text as `information.growth` lets through: where the last tokens
stand in that text, it raises the one that follows there. It is strictly causal and keeps nothing of its calls. It is
tried as the lab's only idea, then confirmed, and the report's headline printed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import heading

from nightlab.core.config.limits import InformationConfig
from nightlab.core.program.information import compressed, find_data, joined, new_information

AS_TEXT = (  # in the lab: the validation text
    "import corpus, tokenizers; path = corpus.folder('open', corpus.recipe()) / 'tokenizer.json'\n"
    "print(tokenizers.Tokenizer.from_file(str(path)).decode(corpus.tokens_of('val').tolist()))"
)
KNOWS = '''
KNOWN = """
TEXT
"""
ORDER, RAISED = 5, 6.0  # tokens that have to stand in the text; by how much the logit of the next one rises


def keys_of(tokens: torch.Tensor) -> torch.Tensor:
    """Each position's last ORDER tokens as one number, shape (..., length - ORDER + 1)."""
    places = tokens.unfold(-1, ORDER, 1).long()
    return (places * VOCABULARY ** torch.arange(ORDER, device=tokens.device)).sum(-1)


def known_tokens() -> torch.Tensor:
    from corpus import folder, recipe
    from tokenizers import Tokenizer

    text = Tokenizer.from_file(str(folder("open", recipe()) / "tokenizer.json")).encode(KNOWN.strip())
    return torch.tensor(text.ids, device=DEVICE)


def by_heart(tokens: torch.Tensor, logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    keys, order = keys_of(known[:-1]).sort()
    asked = keys_of(tokens)
    found = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
    raised = RAISED * (keys[found] == asked)
    logits[:, ORDER - 1 :].scatter_add_(-1, known[ORDER:][order][found][..., None], raised[..., None])
    return logits


'''
CHANGES = (
    ("# --- Model ------", KNOWS + "# --- Model ------"),
    (
        "        return SOFTCAP * logits.div_(SOFTCAP).tanh_()",
        "        return by_heart(tokens, SOFTCAP * logits.div_(SOFTCAP).tanh_(), self.known)",
    ),
    ("    model.load_state_dict(state)\n", '    model.known = state.pop("known")\n    model.load_state_dict(state)\n'),
    (
        "    val_bpb = prepare.finish",
        '    model.register_buffer("known", known_tokens())\n    val_bpb = prepare.finish',
    ),
)


def genome(before: str, text: str) -> str:
    """The baseline's genome with a text known by heart."""
    for old, new in CHANGES:
        assert before.count(old) == 1, old
        before = before.replace(old, new.replace("TEXT", text))
    return before


def largest(before: str, text: str) -> tuple[str, int]:
    """The genome with the longest beginning of a text that its contract lets through, and how long that is."""
    limit = max(InformationConfig().growth_bytes or 0, compressed(joined({"train.py": before})))
    low, high = 0, len(text)
    while high - low > 50:
        middle = (low + high) // 2
        one = genome(before, text[:middle])
        fits = new_information({"train.py": one}, {"train.py": before}) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return genome(before, text[:low]), low


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seconds", type=float, default=10, help="of training, on the lab's clock")
    ask.add_argument("--seeds", type=int, default=3, help="pairs of the confirmation")
    wanted = ask.parse_args()
    program = str(Path(sys.executable).with_name("nightlab"))
    heading("validation text by heart")
    with tempfile.TemporaryDirectory() as place:
        lab = Path(place) / "lm"

        def done(*command: str) -> str:
            return subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout

        done(program, "new", str(lab))
        done(sys.executable, str(lab / "prepare.py"))
        said = subprocess.run([sys.executable, "-c", AS_TEXT], cwd=lab, capture_output=True, text=True, check=True)
        text = re.sub(r'["\\]', "'", said.stdout)
        before = (lab / "train.py").read_text()
        after, length = largest(before, text)
        assert not find_data({"train.py": after}, {"train.py": before})
        there = len(text.encode())
        print(f"{length:,} characters of {there:,} bytes of validation text are in the genome\n", flush=True)
        for idea in (lab / "ideas").iterdir():
            idea.unlink()
        (lab / "train.py").write_text(after)
        patch = done("git", "-C", str(lab), "diff", "train.py")
        (lab / "train.py").write_text(before)
        (lab / "ideas" / "by-heart.patch").write_text(f"Hypothesis: text by heart\n{patch}")
        contract = (lab / "lab.toml").read_text().replace("amount = 10\n", f"amount = {wanted.seconds:g}\n")
        contract = contract.replace('goal = "minimise"', 'goal = "minimise"\ntimed = false')  # however busy the machine
        contract = contract[: contract.rindex("[[proposers]]")]  # no tuner
        (lab / "lab.toml").write_text(contract + "[judge]\nconfirm = 0\n")
        done("git", "-C", str(lab), "add", "-A")
        done("git", "-C", str(lab), "commit", "-qm", "by heart")
        print(done(program, "run", "-n", "1", "--plain", "-C", str(lab)), flush=True)
        print(done(program, "confirm", "--seeds", str(wanted.seeds), "-C", str(lab)), flush=True)
        done(program, "report", "-C", str(lab))
        [report] = (lab / ".nightlab").glob("*/report.md")
        print("\n".join(line for line in report.read_text().splitlines() if line.startswith("> ")))


if __name__ == "__main__":
    main()
