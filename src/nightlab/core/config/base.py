"""What the parts of a contract are made of, and what is said of a key that is wrong."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


RECORDED = {"recorded": True}
"""The pydantic context for a contract that a ledger holds: it can be read where its plug-ins are not installed."""


def plugin_name(kind: Any, name: str, info: ValidationInfo) -> str:
    """``name``, if a plug-in of that kind can be meant by it. Raises ValueError otherwise. Imports no plug-in."""
    from nightlab.core import plugins

    known = plugins.BUILT_IN[kind]
    if info.context == RECORDED or name in known or plugins.is_plugin(kind, name):
        return name
    raise ValueError(f"{name} is none of {', '.join(plugins.names(kind))}, nor a plug-in's 'package.module:Name'")


def _splits(command: str) -> str:
    if not shlex.split(command):
        raise ValueError("it is empty")
    return command


def _reachable(endpoint: str) -> str:
    if not re.fullmatch(r"([\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}", endpoint):
        raise ValueError(f"{endpoint!r} is no host:port such as 'api.anthropic.com:443'")
    return endpoint


Command = Annotated[str, AfterValidator(_splits)]
Marker = Annotated[str, Field(pattern=r"^\w[\w:. -]*\w$")]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]
Endpoint = Annotated[str, AfterValidator(_reachable)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


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
