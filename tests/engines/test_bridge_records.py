"""Objects of an evaluator's own that it hands to a candidate in another process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nightlab_bridge import values
from nightlab_bridge.stand_in import Program
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened

from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written


@dataclass
class Model:
    name: str
    size: int


class Place(NamedTuple):
    x: float
    y: float


class Far(NamedTuple):
    x: float

    def away(self) -> float:
        return -self.x


@dataclass(eq=False)
class Node:
    name: str


@dataclass(order=True)
class Job:
    at: int
    what: Any = field(compare=False)


@dataclass(unsafe_hash=True)
class Key:
    names: list[str] = field(hash=False)
    seed: InitVar[int]


@dataclass(eq=False)
class Unlike:
    size: int

    def __lt__(self, other: Unlike) -> bool:
        return self.size > other.size


@dataclass
class Half:
    size: int = field(init=False)


class Slow(Model):
    def cost(self) -> int:
        return self.size


def handed(value: Any, records: values.Records) -> Any:
    return values.unpack(values.decode(values.encode({"v": values.pack(value, records)}))["v"])


def test_records_have_their_fields_and_come_back_as_the_evaluators_own() -> None:
    records, one, place = values.Records(), Model("a", 2), Place(1.0, 2.0)
    model, again, there = handed([one, one, place], records)
    assert (model.name, model.size, again) == ("a", 2, model) and there == (1.0, there.y)
    assert replace(model, size=3) != model and "Model(name='a', size=2)" in repr(model)
    back = values.unpack(values.decode(values.encode({"v": values.pack({0: [again], 1: there})}))["v"], records.all)
    assert back[0][0] is one and back[1] is place
    for wrong in (2, -1, "0", [0], None):
        with pytest.raises(values.NotPlain):
            values.unpack({"__value__": "record", "of": wrong}, records.all)


def test_a_record_that_can_do_more_is_refused_and_so_is_one_of_the_candidates() -> None:
    with pytest.raises(values.NotPlain, match="Slow, which has cost besides its fields"):
        values.pack(Slow("a", 2), values.Records())
    assert type(handed(Far(1.0), values.Records())) is tuple
    with pytest.raises(values.NotPlain, match="type Model can't be handed over"):
        values.pack(Model("a", 2))


def test_records_compare_sort_and_hash_as_the_evaluators_do() -> None:
    node = Node("a")
    one, again, other = handed([node, node, Node("a")], values.Records())
    assert one is again and one != other and len({one: 1, other: 2}) == 2
    jobs = handed([Job(2, {}), Job(1, {}), Job(1, {"a": 1})], values.Records())
    assert [job.at for job in sorted(jobs)] == [1, 1, 2] and jobs[1] == jobs[2]
    with pytest.raises(TypeError):
        hash(jobs[0])
    with pytest.raises(values.NotPlain, match="Unlike, which has __lt__ besides"):
        handed(Unlike(1), values.Records())
    with pytest.raises(values.NotPlain, match="size is not set"):
        handed(Half(), values.Records())
    key = handed(Key(["a"], 3), values.Records())
    assert key.names == ["a"] and hash(key) == hash(Key(["b"], 3)), "what only its making takes is no field"


def test_a_record_that_was_changed_does_not_come_back_as_it_was() -> None:
    records = values.Records()
    model, job, key = handed([Model("a", 2), Job(1, {3, 1, 2}), Key([], 0)], records)
    assert len(values.unpack(values.pack([model, job, key]), records.all)) == 3
    model.size = 3
    job.what.add(4)
    for changed in (model, [job]):
        with pytest.raises(values.NotPlain, match="whose fields were changed, can't go back"):
            values.pack(changed)


def test_records_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "KEPT", 2)
    records, first = values.Records(), Model("a", 0)
    given = [handed(model, records) for model in (first, Model("b", 1), Model("c", 2), first)]
    records.trim()
    assert len(records.all) == len(records.numbers) == 2
    assert values.unpack(values.pack(given[0]), records.all) is first, "handed over again"
    with pytest.raises(values.NotPlain):
        values.unpack(values.pack(given[1]), records.all)
    assert records.number(Model("d", 3)) == 3


@dataclass
class Kernel:
    dtype: str
    shape: list[int]


class Batch(NamedTuple):
    dtype: str
    shape: list[int]


@dataclass
class Square:
    side: int

    def __post_init__(self) -> None:
        self.area = self.side**2


def test_a_record_with_the_fields_of_an_array_is_none() -> None:
    records, one, batch = values.Records(), Kernel("f4", [2]), Batch("f4", [2])
    kernel, there = handed([one, batch], records)
    assert (kernel.dtype, kernel.shape, there.shape) == ("f4", [2], [2])
    back = values.unpack(values.pack([kernel, there]), records.all)
    assert back[0] is one and back[1] is batch


def test_a_record_with_an_attribute_that_is_no_field_is_refused() -> None:
    with pytest.raises(values.NotPlain, match="Square, which has area besides its fields"):
        handed(Square(2), values.Records())


@pytest.mark.parametrize("name", ["__annotate__", "__annotate_func__"])
def test_annotations_that_python_3_14_makes_a_function_of_are_no_method(name: str) -> None:
    def annotate(form: int) -> dict[str, Any]:
        return {"x": float}

    model = dataclass(type("Model", (), {"__annotations__": {"x": float}, name: annotate}))
    place = type("Place", (Place,), {"__slots__": (), name: annotate})
    assert handed(model(1.0), values.Records()).x == handed(place(1.0, 2.0), values.Records()).x == 1.0


def nested(depth: int, kind: str = "") -> Any:
    data: Any = []
    for _ in range(depth):
        data = {"__value__": kind, "of": [data]} if kind else [data]
    return data


@pytest.mark.parametrize(
    "data",
    [
        {"__value__": "complex", "of": [10**400, 0]},
        {"__value__": "array", "of": {"dtype": "f8", "shape": [0, 2**70], "data": ""}},
        nested(2_000),
        nested(2_000, "tuple"),
    ],
    ids=["complex", "array", "lists", "tuples"],
)
def test_an_answer_that_is_too_large_or_too_deep_is_no_plain_value(data: Any) -> None:
    with pytest.raises(values.NotPlain, match="an answer holds an invalid"):
        values.unpack(data, {})


def test_calls_from_threads_keep_their_own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "KEPT", 0)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("door")
        door.listen()
        program = Program("door")
        link, _ = door.accept()

    def answers() -> None:
        while got := values.receive(link):
            args = values.unpack(values.decode(got[1])["args"])
            values.send(link, 0, values.encode({"value": values.pack(args)}))

    first, second, third = (Model(name, 0) for name in "abc")
    threads = [threading.Thread(target=answers), threading.Thread(target=lambda: program.call("place", [third], {}))]

    class Meanwhile(list[Model]):
        def __iter__(self) -> Iterator[Model]:
            yield first
            threads[1].start()
            threads[1].join(0.2)
            yield second

    threads[0].start()
    with program.link, link:
        ((one, two),) = program.call("place", [Meanwhile()], {})
        threads[1].join()
        program.link.shutdown(socket.SHUT_RDWR)
        threads[0].join()
    assert one is first and two is second


PLACING = """\
def place(models):
    best = sorted(models, key=lambda model: -model.size)
    return {n: [model] for n, model in enumerate(best)}
"""
EVALUATOR = """\
import importlib.util
from dataclasses import dataclass
@dataclass
class Model:
    name: str
    size: int
def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("candidate", program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    models = [Model("a", 1), Model("b", 3)]
    placed = module.place(models)
    assert {id(model) for found in placed.values() for model in found} == {id(model) for model in models}
    return {"combined_score": sum(n * model.size for n, found in placed.items() for model in found)}
"""


def test_an_evaluator_hands_over_objects_of_its_own(make_lab: Callable[..., TinyLab]) -> None:
    files = {"initial_program.py": PLACING, "evaluator.py": EVALUATOR}
    lab, reading = opened(files)
    assert "sealed" in reading.source
    got = Bench(make_lab(files=files), written(lab, reading), detect_sandbox()).run()
    assert got.metric == 1.0, got.detail
