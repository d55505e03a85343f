"""The contract of a lab: ``lab.toml``, and what is inferred where there is none."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nightlab.records import Budget, Clock, Goal, NightlabError
from nightlab.records import Metric as MetricRecord

CONTRACT = "lab.toml"
STRATEGY = "program.md"
DEVICES = ("cuda", "mps", "cpu")
Event = Literal["keep", "stall", "stop", "trouble"]
Protection = Literal["files", "network", "processes", "privileges"]
RESERVED = {
    "baseline",
    "human",
    "tuner",
    "patches",
    "recombine",
    "ablation",
    "transplant",
}  # who else candidates come from
SIZE_MB = {"": 1 / 2**20, "KB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 2**20}


def _splits(command: str) -> str:
    if not shlex.split(command):
        raise ValueError("it is empty")
    return command


def _reachable(endpoint: str) -> str:
    if not re.fullmatch(r"([\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}", endpoint):
        raise ValueError(f"{endpoint!r} is no host:port such as 'api.anthropic.com:443'")
    return endpoint


Command = Annotated[str, AfterValidator(_splits)]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]
Endpoint = Annotated[str, AfterValidator(_reachable)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Part):
    """The number that is being improved."""

    name: str = Field(pattern=r"^[\w.µ]+$")
    goal: Goal = "minimise"
    unit: str = ""
    lowest: float = -math.inf
    highest: float = math.inf
    """Values beyond these are impossible: whoever measures one has tampered."""

    def record(self) -> MetricRecord:
        return MetricRecord(self.name, self.goal, self.unit, self.lowest, self.highest)


class Evaluator(Part):
    """A trusted process that computes the metric and prints ``METRIC name=value``."""

    command: Command
    served: bool = False
    """True: it calls a function that the candidate serves. False: it runs after the candidate ended."""
    held_out: bool = False
    """Whether, told NIGHTLAB_HELD_OUT=1, it also prints ``METRIC held_out=value`` on data that no search reads."""
    warm: tuple[Module, ...] = ()
    """Of one that is served: Python modules that it imports ahead."""
    timed: bool = False
    """True: what it measures is time, so nothing is started ahead while it works."""


class Check(Part):
    """A command that must succeed before a candidate may be kept."""

    command: Command


class BudgetPart(Part):
    """How much training a trial may do, and the allowances around it. All times in seconds."""

    clock: Clock = "wall"
    amount: float = Field(default=300, gt=0)
    startup: float = Field(default=120, gt=0)
    evaluation: float = Field(default=300, gt=0)
    wall_limit: float | None = Field(default=None, gt=0)
    """The most wall-clock time that training may take, whatever the clock; by default from the amount."""

    def record(self) -> Budget:
        return Budget(self.clock, self.amount)

    def longest(self) -> float:
        """Seconds of wall-clock time after which training has failed. A CPU clock waits for neighbours."""
        return self.wall_limit or {"wall": self.amount * 1.1 + 1, "cpu": self.amount * 8 + 60}.get(self.clock, 3600)


class Budgets(BudgetPart):
    """The budget, with what differs on one kind of device in a table of its own."""

    cuda: dict[str, Any] = {}
    mps: dict[str, Any] = {}
    cpu: dict[str, Any] = {}

    @model_validator(mode="after")
    def _each_device(self) -> Budgets:
        for device in DEVICES:
            try:
                self.on(device)
            except ValidationError as error:
                raise ValueError(f"{device}.{_fault(error.errors()[0])}") from None
        return self

    def on(self, device: str) -> BudgetPart:
        """The budget on ``device``: ``cuda``, ``mps`` or ``cpu``."""
        common = self.model_dump(exclude=set(DEVICES))
        return BudgetPart(**{**common, **getattr(self, device)})


class Resources(Part):
    """What one trial may use."""

    cpus: int | None = Field(default=None, gt=0)
    """Cores that a trial on a CPU needs; by default all, or with several slots an equal part."""
    memory: str | None = None
    disk: str = "4GB"
    """Most that it may write: of its folder, of one file, and of each temporary folder."""
    processes: int = Field(default=512, gt=0)
    log: str = "2MB"
    compiled: str = "1GB"
    """Most that compilers may keep of what the baseline made them compile, for the others to start from."""

    @field_validator("memory", "disk", "log", "compiled")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None:
            megabytes(value)
        return value


class Data(Part):
    """Folders outside the lab. ``~`` is the user's home; a trial finds them at the same place in its own."""

    open: tuple[str, ...] = ()
    """For the candidate and the evaluator."""
    sealed: tuple[str, ...] = ()
    """For the evaluator alone."""


class SandboxPart(Part):
    """What this lab can do without."""

    allow_missing: tuple[Protection, ...] = ()


class Stop(Part):
    """When a session ends by itself. Without any of these it runs until it is stopped."""

    hours: float | None = Field(default=None, gt=0)
    experiments: int | None = Field(default=None, gt=0)
    stall: int | None = Field(default=None, gt=0)
    """Experiments in a row without a keep."""
    tokens: int | None = Field(default=None, gt=0)
    money: float | None = Field(default=None, gt=0)
    """US dollars; like the tokens, all that proposers said their turns took."""
    gain_per_hour: float | None = Field(default=None, gt=0)
    """In the metric's unit: what an hour of a slot has to bring, or the session ends."""


class HooksPart(Part):
    """Your own commands around each experiment, trusted, each told of it as JSON on its standard input."""

    before: Command | None = None
    after: Command | None = None
    """What it prints is told to the proposers."""


class Notify(Part):
    """Whom to tell that something happened, without the night waiting for it."""

    command: Command | None = None
    """Your own, trusted: told of it as JSON on its standard input."""
    desktop: bool = False
    webhook: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """Where a JSON object is posted to."""
    on: tuple[Event, ...] = ("keep", "stall", "stop", "trouble")
    stall: int = Field(default=25, gt=0)
    """After so many experiments in a row without a keep."""


class Judge(Part):
    """How a candidate is judged, and how the session keeps an eye on its own luck."""

    rule: Literal["shrunk", "greedy", "strict", "replicate"] = "shrunk"
    sigma: float | None = Field(default=None, ge=0)
    """What you believe the noise of one trial to be, until the session knows better."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Of ``strict``: the chance that a candidate that is no better is kept."""
    seeds: int = Field(default=3, ge=2, le=100)
    """Of ``replicate``: how many seeds every candidate has."""
    upkeep: int = Field(default=25, ge=0)
    """After so many experiments the champion is measured again, as a self-test too; 0: never."""
    confirm: float = Field(default=0.1, ge=0, le=0.5)
    """Share of a session that is kept for confirming what it gained, at its end; 0: only when asked."""
    hopeless: float = Field(default=0, ge=0, lt=1)
    """Risk of giving up a winner, for ending trials early whose curve says that they can't win any more; 0: never."""


class SearchPart(Part):
    """Which genome a proposal starts from, and whether a short trial decides who gets a whole one."""

    strategy: Literal["climb", "evolution", "tree"] = "climb"
    pilot: float | None = Field(default=None, gt=0, lt=1)
    """The share of the budget that a pilot has; without one every candidate gets its whole trial at once."""
    eta: float = Field(default=3, gt=1)
    """One pilot of so many is promoted, at least."""
    shares: Literal["fixed", "earned"] = "fixed"
    """Whether proposers have the shares that they are given, or those that their gains earn."""


class Tuner(Part):
    """Numeric moves over the genome's named constants."""

    kind: Literal["tuner"]
    share: float = Field(default=1, gt=0)


class Recombine(Part):
    """Near misses, made together on the champion."""

    kind: Literal["recombine"]
    share: float = Field(default=1, gt=0)


class Patches(Part):
    """A queue of ideas: ``*.patch`` files, in order of their names."""

    kind: Literal["patches"]
    share: float = Field(default=1, gt=0)
    folder: str = "ideas"


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


class Thinker(Part):
    """What all proposers that read a briefing have in common."""

    share: float = Field(default=1, gt=0)
    name: str = Field(default="", pattern=r"^(\w[\w.-]*)?$", max_length=40)
    """What the log calls it; by default its program's or its model's name."""
    briefing: int = Field(default=16_000, ge=2000, le=1_000_000)
    """Most tokens of what it is told each turn."""
    wall: float = Field(default=1200, gt=0)
    """Seconds that a turn may take."""

    @property
    def called(self) -> str:
        return self.name


class Program(Thinker):
    """A program that edits the genome in a copy of the lab of its own."""

    command: Command
    environment: tuple[Variable, ...] = ()
    """Names of variables that it is given from the user's environment, e.g. of its key."""
    files: tuple[str, ...] = ()
    """Files and folders outside the lab that it may read, such as its own installation."""
    endpoints: tuple[Endpoint, ...] = ()
    """``host:port`` of all that it may reach; without any it has the whole network."""
    idle: float = Field(default=600, gt=0)
    """Seconds without output or a changed file after which it is ended."""

    @property
    def called(self) -> str:
        own = re.sub(r"[^\w.-]", "-", Path(shlex.split(self.command)[0]).name).lstrip(".-")
        return self.name or own or "command"  # a folder has this name too


class Editor(Program):
    """Any command that reads a briefing, edits, and ends."""

    kind: Literal["command"]


class Agent(Program):
    """A coding agent that speaks the Agent Client Protocol over its standard input and output."""

    kind: Literal["agent"]


class Model(Thinker):
    """A language model behind an API, asked for one edit."""

    kind: Literal["model"]
    model: str = Field(min_length=1)
    api: Literal["openai", "anthropic"] = "openai"
    """Which API the endpoint speaks; most speak OpenAI's, local servers too."""
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    key: Variable | None = None
    """The name of the variable that holds the key; an endpoint of your own may need none."""
    answer: int = Field(default=16_000, gt=0)
    """Most tokens of an answer."""

    @property
    def called(self) -> str:
        return self.name or self.model.split("/")[-1]

    @property
    def where(self) -> str:
        """The endpoint, in words."""
        return self.base_url or f"{self.api}'s own endpoint"


class CommonsPart(Part):
    """Where findings are exchanged, and how much of a session goes into measuring those of others."""

    remote: str = ""
    """A git remote: a bare folder, an address for ssh, a forge. Without one only by name, or by bundles."""
    share: float = Field(default=0.2, gt=0, le=0.3)
    """Of a session's experiments, that measure what others found, at most."""
    verifications: bool = False
    """Whether ``nightlab sync`` publishes what was measured of others' findings."""


Proposer = Annotated[Tuner | Patches | Recombine | Editor | Agent | Model, Field(discriminator="kind")]


class Lab(Part):
    """A lab's whole contract."""

    name: str = Field(pattern=r"^[\w.-]+$")
    genome: tuple[str, ...] = Field(min_length=1)
    command: Command | None = None
    prepare: Command | None = None
    warm: tuple[Module, ...] = ()
    """Python modules that are imported ahead of each trial, in a process of its own: the slow ones."""
    metric: Metric
    evaluator: Evaluator | None = None
    checks: tuple[Check, ...] = ()
    budget: Budgets = Budgets()
    limits: dict[str, str | float] = {}
    resources: Resources = Resources()
    data: Data = Data()
    environment: tuple[str, ...] = ()
    """Names of variables that pass from the user's environment into a trial's."""
    proposers: tuple[Proposer, ...] = (Patches(kind="patches"), Tuner(kind="tuner", share=2))
    search: SearchPart = SearchPart()
    sandbox: SandboxPart = SandboxPart()
    judge: Judge = Judge()
    hooks: HooksPart = HooksPart()
    notify: Notify = Notify()
    commons: CommonsPart | None = None
    stop: Stop = Stop()

    @field_validator("limits")
    @classmethod
    def _limits(cls, value: dict[str, str | float]) -> dict[str, str | float]:
        for name, limit in value.items():
            allowed(limit, 1.0, name)
        return value

    @field_validator("proposers")
    @classmethod
    def _told_apart(cls, value: tuple[Proposer, ...]) -> tuple[Proposer, ...]:
        names = [part.called for part in value if isinstance(part, Thinker)]
        for name in names:
            if names.count(name) > 1 or name in RESERVED:
                raise ValueError(f"{name!r} is the name of another proposer: give this one a name")
        return value

    @model_validator(mode="after")
    def _measured_by_something(self) -> Lab:
        if self.command is None and (self.evaluator is None or self.evaluator.served):
            raise ValueError("give a command, an evaluator that needs none, or both")
        return self


def allowed(limit: str | float, champions: float, name: str = "limit") -> float:
    """The largest value that a limit allows: ``"+20%"`` of the champion's, or a plain number."""
    if isinstance(limit, (int, float)):
        return float(limit)
    found = re.fullmatch(r"\+(\d+(?:\.\d+)?)%", limit)
    if not found:
        raise ValueError(f"{name} must be a number or like '+20%', not {limit!r}")
    return champions * (1 + float(found[1]) / 100)


def megabytes(size: str) -> float:
    """``"8GB"`` as 8192.0. Raises ValueError for anything that is not a size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB|)\s*", size, re.IGNORECASE)
    if not found:
        raise ValueError(f"{size!r} is not a size like '500MB' or '8GB'")
    return float(found[1]) * SIZE_MB[found[2].upper()]


def parse(text: str, where: str = CONTRACT) -> Lab:
    """The contract in the text of a ``lab.toml``.

    Raises NightlabError naming the line or the key that is wrong.
    """
    try:
        return Lab.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise NightlabError(f"{where} is not valid TOML: {error}", "mend that line") from None
    except ValidationError as error:
        faults = "; ".join(_fault(each) for each in error.errors())
        raise NightlabError(f"{where}: {faults}", "mend those keys; nightlab init --show prints an example") from None


def _fault(error: Any) -> str:
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


def detect(files: list[str], read: Any) -> tuple[Lab, str] | None:
    """The contract that a known layout implies, with a sentence that says which; None for an unknown one.

    ``files`` are the lab's paths; ``read(path)`` gives a file's text.
    """
    if {"prepare.py", "train.py"} <= set(files):
        return _autoresearch(read), "the layout of autoresearch: prepare.py frozen, train.py the genome"
    for script in (".auto/measure.sh", "autoresearch.sh"):
        if script in files:
            lab = _measured_by_script(script, files, read(script) or "")
            return lab, f"a measure script, {script}, that prints METRIC lines"
    return None


def _autoresearch(read: Any) -> Lab:
    frozen = read("prepare.py") or ""
    found = re.search(r"^TIME_BUDGET\s*=\s*(\d+(?:\.\d+)?)", frozen, re.MULTILINE)
    budget = {"amount": float(found[1])} if found else {}
    # The original keeps data and tokenizer there; its own rule ends a run that takes twice its budget.
    return Lab.model_validate(
        {
            "name": "autoresearch",
            "genome": ["train.py"],
            "command": "python train.py",
            "prepare": "python prepare.py",
            "warm": ["torch", "torch._dynamo"],
            "metric": {"name": "val_bpb", "unit": "bits per byte"},
            "budget": {**budget, "startup": 180, "evaluation": 180},
            "data": {"open": ["~/.cache/autoresearch"]},
        }
    )


def _measured_by_script(script: str, files: list[str], text: str) -> Lab:
    names = re.findall(r"METRIC\s+([\w.µ]+)=", text)
    folder = script.split("/")[0] if "/" in script else ""
    frozen = {script, STRATEGY, "README.md", "LICENSE"}
    checks = [f for f in (".auto/checks.sh", "autoresearch.checks.sh") if f in files]
    genome = [f for f in files if f not in frozen and not (folder and f.startswith(folder + "/"))]
    return Lab.model_validate(
        {
            "name": "measured",
            "genome": [f for f in genome if f not in checks and not f.startswith((".", "test"))] or ["**"],
            "command": f"bash {script}",
            "metric": {"name": names[0] if names else "metric"},
            "checks": [{"command": f"bash {check}"} for check in checks],
        }
    )


def to_toml(lab: Lab) -> str:
    """The contract as the text of a ``lab.toml``: what was stated, not the defaults."""
    import tomlkit

    return tomlkit.dumps(lab.model_dump(mode="json", exclude_unset=True, exclude_none=True))


def load(folder: Path) -> tuple[Lab, str]:
    """The contract of the working copy in ``folder``, and a sentence that says where it comes from.

    Raises NightlabError when there is neither a ``lab.toml`` nor a known layout.
    """
    return from_files(
        [p.relative_to(folder).as_posix() for p in _some_files(folder)],
        lambda path: (folder / path).read_text(errors="replace") if (folder / path).is_file() else None,
        str(folder),
    )


def from_files(files: list[str], read: Any, where: str) -> tuple[Lab, str]:
    """As ``load``, for any set of files, such as those of a commit."""
    if CONTRACT in files:
        return parse(read(CONTRACT) or ""), f"its {CONTRACT}"
    if found := detect(files, read):
        return found
    raise NightlabError(
        f"{where} has no {CONTRACT} and no layout that nightlab knows",
        f"write one: nightlab init (it asks nothing, and you edit {CONTRACT}), or start from: nightlab new NAME",
    )


def _some_files(folder: Path) -> list[Path]:
    """The few files that decide about the layout: the top of the folder, and ``.auto``."""
    return [p for base in (folder, folder / ".auto") if base.is_dir() for p in base.iterdir() if p.is_file()]
