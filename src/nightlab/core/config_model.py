"""The pydantic model of which a contract's tables are made, and what is said of a key that is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from nightlab.core.text import one_line

SHOWN = 60  # characters of a wrong value
SIMILAR = 0.7  # from 0 to 1: how much of a misspelt name is right

WORDS = {  # pydantic's types of errors, in words
    "extra_forbidden": "there is no such key",
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "string_type": "must be a text in quotes",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "must not be empty",
}
TABLES = {"model_type", "model_attributes_type", "dict_type"}


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(error: Any, model: type[BaseModel] | None = None) -> str:
    """One of pydantic's errors, in words that name the key; of an unknown one of ``model`` also what may be meant."""
    loc, key = error["loc"], key_of(error)
    said = _words(error)
    if error["type"] == "value_error" and key == "budget":
        return f"{key}.{said}"  # of one device's table, which says itself which key
    if model and (meant := nearest(model, error)):
        said += f"; is {meant} meant?"
    if error["type"].startswith("union_tag"):
        key += ".kind"
    if error["type"] == "tuple_type" and isinstance(error["input"], dict):
        said = f"must be a list of tables: write [[{loc[-1]}]]"
    return f"{key}: {said}" if key else said


def faults(errors: Iterable[Any], model: type[BaseModel]) -> list[tuple[Any, str]]:
    """Each error with its words. A key that is missing because its name is misspelt is one fault, not two."""
    errors = list(errors)
    meant = {nearest(model, error) for error in errors}
    said = [e for e in errors if not (e["type"] == "missing" and key_of(e) in meant)]
    return [(error, fault(error, model)) for error in said]


def key_of(error: Any) -> str:
    """The key that an error is about, with its tables."""
    loc = list(error["loc"])
    if loc[:1] == ["proposers"]:
        del loc[2:3]  # pydantic names the kind there, which is no key
    return ".".join(map(str, loc))


def nearest(model: type[BaseModel], error: Any) -> str:
    """The key that an unknown one may have been meant for: of a similar name, or of the same in another table."""
    if error["type"] != "extra_forbidden":
        return ""
    *tables, name = error["loc"]
    known = {key for table in _tables(model, tables) for key in table.model_fields}
    if close := get_close_matches(str(name), sorted(known), 1, SIMILAR):
        return key_of({"loc": (*tables, close[0])})
    others = [table for table in model.model_fields if any(name in m.model_fields for m in _tables(model, [table]))]
    return f"{others[0]}.{name}" if len(others) == 1 else name if name in model.model_fields else ""


def _tables(model: type[BaseModel], loc: Iterable[Any]) -> list[type[BaseModel]]:
    """The models that a table of this name can be, of several only those of its kind."""
    found = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        inside = [m for each in found if part in each.model_fields for m in _models(each.model_fields[part].annotation)]
        kinds = [m for m in found if "kind" in m.model_fields and part in get_args(m.model_fields["kind"].annotation)]
        found = inside or kinds
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _words(error: Any) -> str:
    kind, given = error["type"], error.get("input")
    instead = f", not {one_line(repr(given), SHOWN)}" if isinstance(given, str | int | float) else ""
    if kind == "union_tag_invalid":
        return f"{error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}".replace("'", "")
    if kind == "literal_error":
        return f"must be {error['ctx']['expected']}{instead}"
    if kind == "tuple_type":
        return f"must be a list: [{one_line(repr(given), SHOWN)}]".replace("'", '"') if instead else "must be a list"
    if kind in TABLES:
        return f"must be a table: write [{error['loc'][-1]}]" if error["loc"] else "must be a table"
    if kind == "string_pattern_mismatch":
        return f"{_form(error['ctx']['pattern'])}{instead}"
    if kind in WORDS:
        return WORDS[kind] + (instead if WORDS[kind].startswith("must be") else "")
    said = str(error["msg"]).removeprefix("Value error, ")
    return said.replace("Input should be", "must be") + (instead if said.startswith("Input should be") else "")


def _form(pattern: str) -> str:
    if "https?" in pattern:
        return "must be an address that begins with http:// or https://"
    also = " /" * ("/" in pattern) + " : and blanks" * (" " in pattern)
    return f"must be a name of letters, digits and _ . -{also}"
