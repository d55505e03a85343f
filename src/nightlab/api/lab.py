"""A lab: what it needs, its sessions, and one of them opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nightlab.api.runner import SessionRunner, Voice
from nightlab.api.session import Session
from nightlab.core.types import Metric
from nightlab.engines.base import Engine
from nightlab.engines.plugged import PluggedEngine
from nightlab.judge import Rule
from nightlab.proposers import Proposer
from nightlab.proposers.selection import Selection
from nightlab.session.check import Check
from nightlab.session.overrides import check_overrides, override


class Lab:
    """A lab: a git folder with a contract (``lab.toml``, or a layout that nightlab knows).

    Raises NightlabError when the folder is in no git repository, nothing is committed, or there is no contract.

    Example::

        lab = nightlab.Lab("my-lab")
        for check in lab.check():
            print("ok" if check.ok else "no", check.what, check.hint)
        print(lab.sessions())                   # ['nov28', 'nov27']
    """

    def __init__(self, path: str | Path = ".") -> None:
        from nightlab.session.preflight import committed_contract
        from nightlab.storage.git import Repo

        self.path = Path(path)
        _, contract, _ = committed_contract(Repo(self.path))
        self.name = contract.name
        self.metric: Metric = contract.metric.record()

    @classmethod
    def new(cls, path: str | Path, template: str = "lm") -> Lab:
        """Make a lab in a new folder from one that ships (``lm``, ``speed``, ``wasm``), and commit it.

        Raises NightlabError when the folder exists, or there is no such lab.

        Example::

            lab = nightlab.Lab.new("faster", template="speed")
        """
        from nightlab.session.create import make_lab

        return cls(make_lab(Path(path), template))

    def check(self, allow_missing: str | Iterable[str] = ()) -> list[Check]:
        """What a session needs of this lab and this machine: each with ``ok``, ``what`` and ``hint``.

        The lab's command is tried in the sandbox for a few seconds.
        A check with ``fatal`` that is not ok keeps a session from starting. ``allow_missing``: protections of the
        sandbox that you can do without (``"files"``, ``"network"``, ``"processes"``, ``"privileges"``, or ``"all"``).
        """
        from nightlab.session.preflight import protections
        from nightlab.session.rehearsal import check_thoroughly
        from nightlab.storage.git import Repo

        return check_thoroughly(Repo(self.path), protections(allow_missing))[2]

    def sessions(self) -> list[str]:
        """The tags of the lab's sessions, the latest used first."""
        from nightlab.storage.ledger import tags

        return tags(self.path)

    def session(
        self,
        tag: str | None = None,
        *,
        proposers: Sequence[str | Mapping[str, Any] | Proposer] | None = None,
        judge: str | Rule | None = None,
        selection: str | Selection | None = None,
        program: str | None = None,
        shares: Literal["fixed", "earned"] | None = None,
        engine: str | Engine = "local",
        slots: int | Literal["auto"] = 1,
        device: Literal["cuda", "mps", "cpu"] | None = None,
        allow_missing: str | Iterable[str] = (),
        seed: int = 0,
    ) -> Session:
        """Open a session for running, or begin it. Without a ``tag`` the latest goes on, unless the lab has changed.

        ``proposers``, ``judge`` and ``selection`` take the place of what the contract says while the session is open:
        names that ``lab.toml`` knows, tables such as ``{"kind": "model", "model": "…"}``, or objects with the methods
        of ``nightlab.Proposer``, ``nightlab.Rule`` and ``nightlab.Selection``. An object is trusted: it runs in this
        process. ``program`` is what proposers are told in place of ``program.md``; ``shares`` says if their shares are
        fixed or earned. ``engine`` says where trials run: ``"local"``, a cluster as in ``run --engine``
        (``"local-ray"``, ``"ray://HOST:PORT"``, ``"slurm"``), or a ``nightlab.Engine``. ``slots``: trials at once, or
        ``"auto"`` for as many as there is room for. ``seed`` is the proposers' randomness.

        Raises NightlabError when the lab can't run, another process has the session open, or a name is unknown.

        Example::

            with lab.session("nov28", proposers=["tuner"], judge="replicate") as session:
                session.run(experiments=20)
        """
        from nightlab.session.create import start_remote_session, start_session, start_with
        from nightlab.session.preflight import committed_contract, protections
        from nightlab.storage.git import Repo

        check_overrides(committed_contract(Repo(self.path))[1], proposers, judge, selection, shares)
        allow, count = protections(allow_missing), None if slots == "auto" else slots
        voice = Voice()
        own: Engine | None = None
        if not isinstance(engine, str):
            own = PluggedEngine(type(engine).__name__, engine)
            inner, said = start_with(own, self.path, tag, device, allow)
        elif engine == "local":
            inner, said = start_session(self.path, tag, device, allow)
        else:
            inner, said, own = start_remote_session(engine, count, self.path, tag, device, allow, voice)
        try:
            overrides = override(inner, proposers, judge, selection, program, shares)
        except BaseException:
            inner.close()
            raise
        if said:
            voice(said)
        return Session(SessionRunner(inner, overrides, own, count, seed, voice))

    def __repr__(self) -> str:
        return f"Lab({str(self.path)!r})"
