"""What the keys of a contract are made of."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from nightlab.core import plugins

RECORDED = {"recorded": True}
"""The pydantic context for a contract that a ledger holds: it can be read where its plug-ins are not installed."""


def plugin_name(kind: Any, name: str, info: ValidationInfo) -> str:
    """``name``, if a plug-in of that kind can be meant by it. Raises ValueError otherwise. Imports no plug-in."""
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
