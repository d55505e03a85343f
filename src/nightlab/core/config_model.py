"""The pydantic model of which a contract's tables are made, and what is said of a key that is wrong."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(error: Any) -> str:
    """One of pydantic's errors, in words that name the key."""
    loc = list(error["loc"])
    if loc[:1] == ["proposers"]:
        del loc[2:3]  # pydantic names the kind there, which is no key
    key = ".".join(map(str, loc))
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and key == "budget":
        return f"{key}.{said}"  # of one device's table, which says itself which key
    if error["type"] == "extra_forbidden":
        said = "there is no such key"
    elif error["type"] in ("missing", "union_tag_not_found"):
        said = "is missing"
    elif error["type"] == "union_tag_invalid":
        said = f"{error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}".replace("'", "")
    if error["type"].startswith("union_tag"):
        key += ".kind"
    return f"{key}: {said}" if key else said
