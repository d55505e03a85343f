"""The registry of plug-ins: what is built in, and what installed packages offer as entry points.

A plug-in is a class or a function that is called with ``(config, context)`` and returns an object that speaks the
protocol of its kind. Its attribute ``Config``, a pydantic model, validates the keys that ``lab.toml`` gives it; without
one it takes no keys. An exporter is the function that writes, a layout the function that reads. docs/plugins.md has
examples.

Nothing is imported before it is used. A plug-in is trusted code: it runs in the orchestrator's process.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from nightlab.core.config_model import ConfigModel, fault
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError

Kind = Literal["proposer", "rule", "selection", "engine", "sandbox", "exporter", "layout"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OURS = "nightlab"
DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
LIST = "nightlab plugins lists what is found"

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "proposer": {
        "tuner": "nightlab.proposers.builtin:tuner",
        "controller": "nightlab.proposers.builtin:controller",
        "patches": "nightlab.proposers.builtin:patches",
        "recombine": "nightlab.proposers.builtin:recombine",
        "command": "nightlab.proposers.builtin:program",
        "agent": "nightlab.proposers.builtin:program",
        "model": "nightlab.proposers.builtin:model",
    },
    "rule": {
        "shrunk": "nightlab.judge.rules:shrunk",
        "greedy": "nightlab.judge.rules:greedy",
        "strict": "nightlab.judge.rules:strict",
        "replicate": "nightlab.judge.rules:replicate",
    },
    "selection": {
        "climb": "nightlab.proposers.selection.builtin:climb",
        "evolution": "nightlab.proposers.selection.builtin:evolution",
        "tree": "nightlab.proposers.selection.builtin:tree",
        "independent": "nightlab.proposers.selection.builtin:independent",
    },
    "engine": {
        "local": "nightlab.engines.local.engine:LocalEngine",
        "slurm": "nightlab.engines.remote.clusters:slurm",
        "local-ray": "nightlab.engines.remote.clusters:ray",
        "auto": "nightlab.engines.remote.clusters:ray",
    },
    "sandbox": {
        "bubblewrap": "nightlab.sandbox.detect:on_linux",
        "sandbox-exec": "nightlab.sandbox.detect:on_macos",
    },
    "exporter": {
        "parquet": "nightlab.integrations.trackers:to_parquet",
        "optuna": "nightlab.integrations.trackers:to_optuna",
        "mlflow": "nightlab.integrations.trackers:to_mlflow",
        "tensorboard": "nightlab.integrations.trackers:to_tensorboard",
        "trackio": "nightlab.integrations.trackers:to_trackio",
    },
    "layout": {
        "autoresearch-lab": "nightlab.integrations.layouts.campaigns:read",
        "autoresearch": "nightlab.integrations.layouts.autoresearch:read",
        "pi": "nightlab.integrations.layouts.pi:read",
        "autoresearch-problems": "nightlab.integrations.layouts.problems:read",
        "skydiscover": "nightlab.integrations.layouts.skydiscover:read",
        "openevolve": "nightlab.integrations.layouts.openevolve:read",
        "shinka": "nightlab.integrations.layouts.shinka:read",
        "coral": "nightlab.integrations.layouts.coral:read",
        "hillclimb": "nightlab.integrations.layouts.hillclimb:read",
        "harbor": "nightlab.integrations.layouts.harbor:read",
        "kernelbench": "nightlab.integrations.layouts.kernelbench:read",
        "sol-execbench": "nightlab.integrations.layouts.sol:read",
        "gepa": "nightlab.integrations.layouts.gepa:read",
        "autokernel": "nightlab.integrations.layouts.autokernel:read",
        "algotune": "nightlab.integrations.layouts.algotune:read",
    },
}

METHODS: Mapping[Kind, tuple[str, ...]] = {
    "proposer": ("propose",),
    "rule": ("compare", "remeasured"),
    "selection": ("ask", "tell"),
    "engine": ("slots", "slot_failure", "start", "stand_by", "dismiss", "adopt", "collect"),
    "sandbox": ("start",),
    "exporter": (),
    "layout": (),
}
ATTRIBUTES: Mapping[Kind, tuple[str, ...]] = {
    "proposer": ("name",),
    "rule": ("baseline_runs", "same_seeds"),
    "selection": ("memory",),
    "engine": ("platform", "sandbox"),
    "sandbox": ("name", "missing", "why", "movable", "has_proxy"),
    "exporter": (),
    "layout": (),
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plug-in that was found: where it is, and which package brings it."""

    kind: Kind
    name: str
    target: str
    package: str = OURS
    version: str = ""
    ignored: str = ""
    """Why it can't be used; empty if it can."""

    @property
    def built_in(self) -> bool:
        return self.package == OURS

    def __str__(self) -> str:
        source = f" of {self.package} {self.version}".rstrip() if self.package else ""
        return f"the {self.kind} {self.name}{source}"


def group(kind: Kind) -> str:
    """The entry-point group of a kind, such as ``nightlab.proposers``."""
    return f"nightlab.{kind}es" if kind.endswith("x") else f"nightlab.{kind}s"


def discover(kind: Kind) -> list[Plugin]:
    """All plug-ins of a kind: the built-in ones, then those of installed packages. Imports none of them."""
    own = [Plugin(kind, name, target) for name, target in BUILT_IN[kind].items()]
    return [*own, *_of_packages(kind)]


def names(kind: Kind) -> list[str]:
    """The names that can be used, the built-in ones first."""
    return [plugin.name for plugin in discover(kind) if not plugin.ignored]


def is_plugin(kind: Kind, name: str) -> bool:
    """Whether ``name`` means a plug-in that is not built in: ``package.module:Name``, or an entry point."""
    return name not in BUILT_IN[kind] and (bool(DOTTED.fullmatch(name)) or name in names(kind))


def find(kind: Kind, name: str) -> Plugin:
    """The plug-in of that name, or of that ``package.module:Name``. Raises NightlabError when there is none."""
    if target := BUILT_IN[kind].get(name):
        return Plugin(kind, name, target)
    if DOTTED.fullmatch(name):
        return Plugin(kind, name, name, "")
    usable = [plugin for plugin in _of_packages(kind) if plugin.name == name and not plugin.ignored]
    if usable:
        return usable[0]
    raise NightlabError(f"there is no {kind} {name!r}: there are {', '.join(names(kind))}", f"{LIST}; or 'module:Name'")


def rivals(kind: Kind, name: str) -> list[Plugin]:
    """Plug-ins of that name that are ignored, because it is taken."""
    return [plugin for plugin in _of_packages(kind) if plugin.name == name and plugin.ignored]


def load_plugin(plugin: Plugin) -> Any:
    """Import a plug-in. Raises NightlabError when that fails, or it can't be one of its kind."""
    module, _, path = plugin.target.partition(":")
    hint = f"install the package that has it, or correct the name; {LIST}"
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        said = one_line(f"{type(error).__name__}: {error}")
        raise NightlabError(f"{plugin} does not import from {plugin.target}: {said}", hint) from error
    if not callable(found):
        raise _misshapen(plugin, f"{plugin.target} is a {type(found).__name__}, no class or function")
    if isinstance(found, type) and not plugin.built_in:
        _require(plugin, found, METHODS[plugin.kind])
    return found


def configure(kind: Kind, name: str, keys: Mapping[str, Any], where: str) -> BaseModel:
    """A plug-in's own configuration, from its keys of ``lab.toml``. ``where``: the table, e.g. ``proposers.0``.

    Raises NightlabError when the plug-in can't be loaded, or naming the key that is wrong.
    """
    return _configured(load_plugin(find(kind, name)), keys, where)


def make(kind: Kind, name: str, config: BaseModel | Mapping[str, Any], context: Any, where: str = "") -> Any:
    """The object that a plug-in makes. ``config``: its configuration, or the keys of it.

    Raises NightlabError when the plug-in can't be loaded, a key is wrong, or the object lacks part of its protocol.
    """
    plugin = find(kind, name)
    target = load_plugin(plugin)
    config = config if isinstance(config, BaseModel) else _configured(target, config, where)
    if plugin.built_in:
        return target(config, context)
    try:
        made = target(config, context)
        _require(plugin, made, METHODS[kind] + ATTRIBUTES[kind])
    except NightlabError:
        raise
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}")
        raise NightlabError(
            f"{plugin} can't be made: {said}", f"it is called with (config, context); {LIST}"
        ) from error
    return made


def _configured(target: Any, keys: Mapping[str, Any], where: str) -> BaseModel:
    model = getattr(target, "Config", ConfigModel)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise NightlabError(f"{where}: Config of {target!r} is no pydantic model", "derive it from pydantic.BaseModel")
    known = {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)
    unknown = [key for key in keys if key not in known and model.model_config.get("extra") != "allow"]
    faults = [f"{key}: there is no such key" for key in unknown]
    try:
        config = model.model_validate({key: value for key, value in keys.items() if key not in unknown})
    except ValidationError as error:
        faults += [fault(each) for each in error.errors()]
    if faults:
        said = "; ".join(f"{where}.{words}".lstrip(".") for words in faults)
        raise NightlabError(said, f"its keys are {', '.join(sorted(known)) or 'none'}")
    return config


def _of_packages(kind: Kind) -> Iterator[Plugin]:
    """What installed packages offer; a name that is taken is ignored, and says so."""
    taken = dict.fromkeys(BUILT_IN[kind], "the built-in one")
    offered = _entry_points(tuple(sys.path)).select(group=group(kind))
    for entry in sorted(offered, key=lambda e: (e.dist.name if e.dist else "", e.name)):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown package", "")
        ignored = f"the name is taken by {taken[entry.name]}" if entry.name in taken else ""
        taken.setdefault(entry.name, f"that of {package}")
        yield Plugin(kind, entry.name, entry.value, package, version, ignored)


@lru_cache(1)
def _entry_points(path: tuple[str, ...]) -> Any:
    """Those of all packages on the module search ``path``: the metadata of each is read, which is slow."""
    from importlib.metadata import entry_points

    return entry_points()


def _require(plugin: Plugin, one: Any, needed: tuple[str, ...]) -> None:
    if missing := [name for name in needed if not hasattr(one, name)]:
        raise _misshapen(plugin, f"it has no {', '.join(missing)}")


def _misshapen(plugin: Plugin, why: str) -> NightlabError:
    check = f"; nightlab.testing.check_{plugin.kind} says more" if plugin.kind in ("proposer", "rule", "engine") else ""
    return NightlabError(f"{plugin} is none: {why}", f"give it what docs/plugins.md asks of a {plugin.kind}{check}")
