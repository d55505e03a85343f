"""Records: one form in bytes, a name, a signature; whatever is not exactly that is rejected, with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.commons_examples import examples, finding, key, some_hash, task

import nightlab.commons.record as record
from nightlab.commons.canonical import canonical_json
from nightlab.commons.finding import runs_of
from nightlab.commons.record import (
    Rejected,
    Signed,
    encode_record,
    genome_id,
    parse_record,
    record_schema,
    sign,
)
from nightlab.core.types import Measurement
from nightlab.judge import Contestant

VECTORS = Path(__file__).parent / "vectors" / "commons.json"
SCHEMA = Path(record.__file__).with_name("record.schema.json")


def rejected(raw: bytes) -> str:
    with pytest.raises(Rejected) as error:
        parse_record(raw)
    assert str(error.value), "it says why"
    return error.value.category


def altered(**changed: Any) -> bytes:
    """A finding's bytes with fields of the record changed by somebody without the key."""
    value = json.loads(encode_record(examples()[0]))
    value["record"].update(changed)
    return canonical_json(value)


def test_a_record_comes_back_as_it_was() -> None:
    for signed in examples():
        assert parse_record(encode_record(signed)) == signed
    assert genome_id({"a": "1", "b": "2"}) == genome_id({"b": "2", "a": "1"}) != genome_id({"a": "2", "b": "1"})


def test_the_vectors_of_other_implementations_hold() -> None:
    """Another implementation must make these very bytes, names and signatures from the key of 32 zeros."""
    known = [{"id": s.id, "signature": s.signature, "bytes": encode_record(s).decode()} for s in examples()]
    assert json.loads(VECTORS.read_text()) == known


def test_a_run_says_how_precise_it_is_where_its_lab_does() -> None:
    stating, other = Measurement("measured", 0.6, standard_error=0.02), Measurement("measured", 0.5)
    runs = runs_of(Contestant({1: stating, 2: other}, lines=10))
    assert runs == [{"seed": 1, "value": 0.6, "standard_error": 0.02}, {"seed": 2, "value": 0.5}]
    assert [record.Run.model_validate(run).model_dump(exclude_unset=True) for run in runs] == runs


def test_the_schema_file_is_that_of_the_models() -> None:
    assert SCHEMA.read_text() == json.dumps(record_schema(), indent=1) + "\n"
    for signed in examples():
        jsonschema.validate(json.loads(encode_record(signed)), record_schema())


def test_every_byte_counts() -> None:
    """No byte can be changed, added or left out without the record being rejected."""
    raw = encode_record(examples()[0])
    for at in range(len(raw)):
        rejected(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert rejected(raw[:-1]) == "malformed" and rejected(raw + b"}") == "malformed"
    assert rejected(raw + b"\n") == rejected(b" " + raw) == "not canonical"


@pytest.mark.parametrize(
    ("raw", "category"),
    [
        (b"", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 60_000, "malformed"),
        (b'{"id": 1, "id": 1}', "malformed"),
        (b"null", "wrong schema"),
        (b'{"record": 3}', "wrong schema"),
        (b" " * (record.LARGEST + 1), "oversized"),
        (b"9" * 5000, "malformed"),
    ],
)
def test_what_is_no_record_at_all(raw: bytes, category: str) -> None:
    assert rejected(raw) == category


@pytest.mark.parametrize(
    ("changed", "category"),
    [
        ({"v": 2}, "future version"),
        ({"v": 2, "kind": "a new one", "whatever": 1}, "future version"),
        ({"v": "1"}, "wrong schema"),
        ({"v": True}, "wrong schema"),
        ({"v": False}, "wrong schema"),
        ({"surprise": 1}, "wrong schema"),
        ({"kind": "gossip"}, "wrong schema"),
        ({"seq": -1}, "wrong schema"),
        ({"seq": True}, "wrong schema"),
        ({"hypothesis": 3}, "wrong schema"),
        ({"hypothesis": "x" * 401}, "wrong schema"),
        ({"author": "A" * 64}, "wrong schema"),
        ({"at": "yesterday"}, "wrong schema"),
        ({"parent": some_hash("x") + "\n"}, "wrong schema"),
        ({"runs": [{"seed": 1, "value": "2"}]}, "wrong schema"),
        ({"patch": {"git": "0" * 40, "sha256": "0" * 64, "bytes": record.LARGEST_PATCH + 1}}, "wrong schema"),
        ({"task": {**task(), "data_sha256": some_hash("other")}}, "wrong schema"),
        ({"runs": [{"seed": 1, "value": 2.5}]}, "wrong id"),
        ({"status": "discard"}, "wrong id"),
    ],
)
def test_a_changed_record_is_rejected_for_what_is_wrong_with_it(changed: dict[str, Any], category: str) -> None:
    assert rejected(altered(**changed)) == category


def test_numbers_that_are_none() -> None:
    raw = encode_record(examples()[0])
    for number in (b"NaN", b"Infinity", b"-Infinity"):
        assert rejected(raw.replace(b'"value":2.75', b'"value":' + number)) == "malformed"
    assert rejected(raw.replace(b'"value":2.75', b'"value":1e999')) == "wrong schema"
    assert rejected(raw.replace(b'"value":2.75', b'"value":2.750')) == "not canonical"
    with pytest.raises(ValidationError):
        finding(runs=[{"seed": 1, "value": float("nan")}])


def test_who_has_not_the_key_can_sign_nothing() -> None:
    other = sign(finding(), key(7))
    assert rejected(encode_record(other)) == "wrong signature"
    mine = examples()[0]
    assert rejected(encode_record(mine.model_copy(update={"signature": examples()[1].signature}))) == "wrong signature"


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=60))
def test_any_number_and_any_text_can_be_said(value: float, text: str) -> None:
    try:
        one = sign(finding(runs=[{"seed": 1, "value": value}], hypothesis=text), key())
    except (ValueError, ValidationError):
        assert any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert parse_record(encode_record(one)) == one


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_record_or_rejected(raw: bytes) -> None:
    rejected(raw)


@given(st.sampled_from(sorted(json.loads(encode_record(examples()[0]))["record"])), JSONS)
def test_any_value_anywhere_is_rejected(name: str, value: Any) -> None:
    text = json.dumps({**json.loads(encode_record(examples()[0])), "record": {**_record(), name: value}})
    if value != _record()[name]:
        rejected(text.encode())


@given(st.data())
def test_cut_and_spliced_records_are_rejected(data: st.DataObject) -> None:
    raw = encode_record(examples()[data.draw(st.integers(0, 3))])
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    spliced = raw[:start] + data.draw(st.binary(max_size=20)) + raw[end:]
    if spliced != raw:
        rejected(spliced)


@pytest.mark.machine
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(examples()), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), JSONS)
def test_however_a_record_is_mangled_nobody_crashes(signed: Signed, bytes_: list[tuple[int, int]], value: Any) -> None:
    raw = bytearray(encode_record(signed))
    for at, byte in bytes_:
        raw[at % len(raw)] = byte
    facts = json.loads(encode_record(signed))
    facts["record"][sorted(facts["record"])[len(bytes_) % len(facts["record"])]] = value
    for mangled in (bytes(raw), json.dumps(facts).encode(), json.dumps({**facts, "record": value}).encode()):
        if mangled != encode_record(signed):
            rejected(mangled)


def _record() -> dict[str, Any]:
    return json.loads(encode_record(examples()[0]))["record"]  # type: ignore[no-any-return]


def test_what_is_claimed_is_the_gain_over_the_same_seeds_where_there_are_any() -> None:
    runs = [{"seed": 1, "value": 2.0}, {"seed": 2, "value": 1.0}]
    assert finding(runs=runs, against=[{"seed": 2, "value": 5.0}]).claimed == 4.0
    assert finding(runs=runs, against=[{"seed": 9, "value": 5.0}]).claimed == 3.5
    assert finding(runs=[], against=[]).claimed == 0.0
    huge, tiny = [{"seed": 1, "value": 1.7e308}], [{"seed": 1, "value": -1.7e308}]
    assert finding(runs=tiny, against=huge).claimed == finding(runs=huge, against=tiny).claimed == 0.0
    assert (
        finding(runs=[*tiny, {"seed": 2, "value": -1e308}], against=[*huge, {"seed": 2, "value": 1e308}]).claimed == 0.0
    )
    up = task(metric={"name": "accuracy", "goal": "maximise", "unit": ""})
    assert finding(task=up, runs=runs, against=[{"seed": 2, "value": 5.0}]).claimed == -4.0
