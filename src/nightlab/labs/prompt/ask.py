"""Frozen: has a model answer each case with the genome as its instructions, and counts the right answers.

The genome is text: it is sent, never run. The endpoint is any that speaks OpenAI's chat completions; its address is in
OPENAI_BASE_URL, and the model is named by this file's argument. nightlab runs it as the evaluator, in a sandbox whose
only way to the network is that endpoint. By hand: OPENAI_BASE_URL=http://127.0.0.1:8765/v1 python ask.py stand-in
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOST_BYTES, TRIES, AT_ONCE, SECONDS = 8_000, 3, 4, 60


class NoAnswer(Exception):
    """The endpoint did not answer, or not as agreed."""


def cases(held_out):
    """The label and the message of each case; every other one is held out."""
    rows = [line.split("\t") for line in Path("cases.tsv").read_text(encoding="utf-8").splitlines()]
    return rows[1::2] if held_out else rows[0::2]


def ask(model, prompt, message):
    """The model's answer, and how many tokens it read and wrote. Raises NoAnswer."""
    said = [{"role": "system", "content": prompt}, {"role": "user", "content": message}]
    body = json.dumps({"model": model, "messages": said, "temperature": 0, "max_tokens": 200}).encode()
    base, key = os.environ["OPENAI_BASE_URL"].rstrip("/"), os.environ.get("OPENAI_API_KEY", "none")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    for attempt in range(TRIES):
        try:
            request = urllib.request.Request(f"{base}/chat/completions", body, headers)
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                told = json.load(answer)
            return told["choices"][0]["message"]["content"] or "", told.get("usage", {}).get("total_tokens", 0)
        except urllib.error.HTTPError as error:
            fault, final = f"{error.code} {error.read(300).decode(errors='replace')}", error.code < 429
        except (OSError, ValueError, LookupError, TypeError) as error:
            fault, final = f"{type(error).__name__}: {error}", False
        if final:
            break
        time.sleep(2**attempt)
    raise NoAnswer(f"the model {model} gave no answer: {' '.join(fault.split())}")  # may quote the prompt: one line


def main(model):
    with Path("prompt.md").open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    try:
        prompt = raw.decode()
        if len(raw) > MOST_BYTES:
            raise NoAnswer(f"prompt.md has more than {MOST_BYTES:,} bytes")
        for held_out in (False, True) if os.environ.get("NIGHTLAB_HELD_OUT") else (False,):
            rows = cases(held_out)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = list(pool.map(lambda row: ask(model, prompt, row[1]), rows))
            right = [said.strip().lower() == label for (label, _), (said, _) in zip(rows, found, strict=True)]
            if held_out:
                print(f"METRIC held_out={sum(right) / len(right):.4f}")
                continue
            for good, (label, message), (said, _) in zip(right, rows, found, strict=True):
                if not good:
                    print(f"FEEDBACK wanted {label}, not {json.dumps(said[:60])}, for: {message}")
            print(f"METRIC tokens={sum(tokens for _, tokens in found) / len(found):.1f}")
            print(f"METRIC right={sum(right)}/{len(right)}")
    except (NoAnswer, UnicodeDecodeError) as error:
        print(f"no metric: {error}")
        sys.exit(4)


if __name__ == "__main__":
    main(sys.argv[1])
