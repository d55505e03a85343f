"""Users with a lab, a key and a copy of the commons each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightlab.commons.exchange import Commons
from nightlab.commons.finding import task_of
from nightlab.commons.places import author_key, open_commons
from nightlab.commons.record import author_of, genome_id
from nightlab.commons.sync import findings_to_share, sync_commons
from support.commons_examples import finding, some_hash
from support.labs import GENOME, TinyLab

MORE = '\n[commons]\nremote = "{remote}"\nshare = 0.3\nverifications = true\n'
BETTER = GENOME.replace("A = 4.0", "A = 2.0")  # from 11.5 to 3.5


class User:
    """Somebody with a lab, a key and a copy of the commons of their own."""

    def __init__(self, name: str, lab: TinyLab, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.name, self.lab, self.home, self.patch = name, lab, home, patch

    def here(self) -> User:
        self.patch.setenv("XDG_DATA_HOME", str(self.home / "data"))
        self.patch.setenv("XDG_CONFIG_HOME", str(self.home / "config"))
        return self

    @property
    def commons(self) -> Commons:
        self.here()
        return open_commons()

    @property
    def author(self) -> str:
        self.here()
        return author_of(author_key(make=True))

    def run(self, *ideas: str, **stop: Any) -> Any:
        """Run the session until nothing is left, with these genomes as ideas of one's own; returns it, open."""
        self.here()
        for genome in ideas:
            self.lab.idea(str(abs(hash(genome))), genome)
        return self.lab.run(**stop)[1]

    def share(self, session: Any, *numbers: int, **more: Any) -> list[str]:
        found = findings_to_share(session, self.commons, numbers, failed=False, portable=(), **more)
        return [signed.id for signed in self.commons.publish(author_key(make=True), [body for _, body in found])]

    def claim(self, session: Any, text: str, value: float, *, patch: str = "", **changed: Any) -> str:
        """Share what was never measured. Returns its id."""
        repo, base = session.repo, session.base
        patch = patch or repo.diff(base, repo.commit_files(base, {"genome.py": text}, "x"))
        facts = finding(patch=patch).model_dump()
        facts |= {"task": task_of(session).model_dump(), "parent": genome_id(session.genome(base))}
        facts |= {"genome": some_hash(text), "runs": [{"seed": 1, "value": value}], **changed}
        body = {name: facts[name] for name in facts if name not in ("v", "author", "seq", "prev")}
        return self.commons.publish(author_key(make=True), [(body, patch.encode())])[0].id

    def sync(self) -> Any:
        return sync_commons(self.lab.folder, self.commons, None, None)[0]
