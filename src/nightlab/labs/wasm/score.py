"""Frozen: compiles the gene, lets it predict a text bit by bit, and prints how many bits a byte of it costs.

nightlab runs it as the evaluator, in a separate process. By hand: python score.py

The gene runs in wasmtime: no host function, no memory but its own, and fuel that ends. It is told each bit only after
it has said how likely that was. What the gene itself takes counts as well, so a text learned by heart gains nothing.
"""

import json
import os
import random
import sys
from array import array
from math import log2
from pathlib import Path

try:
    import wasmtime
except ImportError:
    sys.exit("wasmtime is not installed: pip install 'nightlab[wasm]'")

FUEL, MEMORY = 20_000, 4 * 2**20  # the most that a gene may declare: instructions for a byte of text; bytes
SOURCE = 2**16  # bytes of gene.wat: compiling takes time and memory too
LEAST = 2.0**-20  # no probability is nearer to 0 or to 1
PAGE = 2**16


class Refused(Exception):
    """The gene is not what it has to be."""


def score(wasm, text, more=b""):
    """Bits per byte of a text, what the gene takes itself included; of what follows it; and the fuel for a byte."""
    costs, fuel = predicted(wasm, text + more)
    own = 8 * sum(len(content) for kind, content in sections(wasm) if kind)  # but for its custom sections
    after = sum(costs[8 * len(text) :]) / len(more) if more else None
    return (sum(costs[: 8 * len(text)]) + own) / len(text), after, fuel / len(text + more)


def predicted(wasm, text):
    """What each bit of a text costs, in bits, by the gene's predictions; and the fuel that all of it took.

    Raises Refused for a gene that declares too much or nothing, wasmtime's errors for one that fails or runs dry.
    """
    fuel, memory = allowance(wasm)
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True  # and no instructions whose outcome depends on the machine
    config.wasm_threads = config.wasm_relaxed_simd = config.wasm_simd = config.wasm_gc = config.wasm_exceptions = False
    store = wasmtime.Store(wasmtime.Engine(config))
    pages = -(-33 * len(text) // PAGE) + 1
    shelf, out = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(pages, pages))), -(-len(text) // 4) * 4
    shelf.write(store, text, 0)
    store.set_limits(memory_size=memory, instances=2, memories=2, tables=1, table_elements=1024)
    store.set_fuel(fuel * len(text))
    gene = wasmtime.Module(store.engine, wasm)
    if gene.imports:
        raise Refused("it imports something: it gets nothing from outside")
    if (memories := sum(number(content, 0)[0] for kind, content in sections(wasm) if kind == 5)) > 1:
        raise Refused(f"it has {memories} memories; what it declares is the size of one")
    predict = wasmtime.Instance(store, gene, []).exports(store).get("predict")
    if not isinstance(predict, wasmtime.Func):
        raise Refused("it exports no function predict")
    reader = wasmtime.Module(store.engine, Path("reader.wat").read_text())
    read = wasmtime.Instance(store, reader, [shelf, predict]).exports(store)["read"]
    read(store, len(text), out)
    given = array("f", shelf.read(store, out, out + 32 * len(text)))
    costs = [-log2(min(p, 1 - LEAST)) if p >= LEAST else -log2(LEAST) for p in given]  # NaN: the least, too
    return costs, fuel * len(text) - store.get_fuel()


def allowance(wasm):
    """The fuel for a byte and the memory that a gene declares in its custom sections, which it is held to."""
    said = {}
    for kind, content in sections(wasm):
        size, at = number(content, 0) if kind == 0 else (0, 0)
        said[content[at : at + size]] = content[at + size :]
    try:
        if said[b"nightlab.version"] != b"1":
            raise Refused("its section nightlab.version is not 1, the one version that there is")
        json.loads(said[b"nightlab.phenotype"])
        fuel = json.loads(said[b"nightlab.metering"])["fuel"]
        memory = json.loads(said[b"nightlab.constraints"])["memory_bytes"]
        if not (type(fuel) is type(memory) is int and 0 < fuel <= FUEL and 0 < memory <= MEMORY):
            raise Refused(f"it declares {fuel} fuel and {memory} bytes; the most is {FUEL} and {MEMORY}")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise Refused(f"its custom sections don't say what it needs: {error!r}") from None
    return fuel, memory


def sections(wasm):
    """The sections of a module in WebAssembly's binary format: the id and the content of each."""
    at = 8
    while at < len(wasm):
        size, start = number(wasm, at + 1)
        yield wasm[at], wasm[start : start + size]
        at = start + size


def number(data, at):
    """The LEB128 number at a place, and where it ends."""
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def shuffled(path, seed):
    """A text with its paragraphs in the order that a seed gives them."""
    paragraphs = Path(path).read_text().strip().split("\n\n")
    random.Random(seed).shuffle(paragraphs)
    return ("\n\n".join(paragraphs) + "\n\n").encode()


def main():
    seed = int(os.environ.get("NIGHTLAB_SEED", "1"))
    more = shuffled("held_out.txt", seed) if os.environ.get("NIGHTLAB_HELD_OUT") else b""
    try:
        if Path("gene.wat").stat().st_size > SOURCE:
            raise Refused(f"gene.wat is larger than {SOURCE} bytes")
        wasm = bytes(wasmtime.wat2wasm(Path("gene.wat").read_text()))
        bits, after, fuel = score(wasm, shuffled("text.txt", seed), more)
    except (Refused, wasmtime.WasmtimeError, wasmtime.Trap, UnicodeDecodeError) as error:
        why = " ".join(str(error).split("Caused by:")[-1].split())
        sys.exit(f"the gene has no metric: {why[:300]}")
    if after is not None:
        print(f"METRIC held_out={after:.6f}")
    print(f"METRIC fuel_per_byte={fuel:.1f}")
    print(f"METRIC bits_per_byte={bits:.6f}")


if __name__ == "__main__":
    main()
