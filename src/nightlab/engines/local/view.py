"""How a process's folder is put together of a trial's own files and those that all trials share, in few mounts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from nightlab.sandbox.bubblewrap import MOST_MOUNTS

STEPS = (48, 32, 16, 8, 4, 2, 0)  # frozen entries beside own files that are still mounted one by one


@dataclass(frozen=True, slots=True)
class Layer:
    """What appears at a path of the lab (``""``: the lab itself), on top of the layers before it."""

    path: str
    own: bool
    """Whether it comes from the trial's own copy; else it is shared, and read-only."""
    folder: bool


@dataclass
class _Node:
    """A folder, by what is directly in it."""

    own: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    folders: dict[str, _Node] = field(default_factory=dict)

    def has(self, own: bool) -> bool:
        """Whether there is such a file in it or below."""
        return bool(self.own if own else self.shared) or any(node.has(own) for node in self.folders.values())


def compose(own: Collection[str], shared: Collection[str], most: int = MOST_MOUNTS) -> tuple[Layer, ...] | None:
    """The layers on top of the trial's own copy; None where ``most`` of them do not suffice.

    A folder that holds own files is the trial's: a process may create files there, and the frozen ones are mounted on
    top. Where that needs too many mounts it is the shared one, read-only, with the own files on top; the lab's folder
    last of all.
    """
    root = _Node()
    for paths, are_own in ((own, True), (shared, False)):
        for path in paths:
            *above, name = path.split("/")
            node = root
            for part in above:
                node = node.folders.setdefault(part, _Node())
            (node.own if are_own else node.shared).append(name)
    for beside in STEPS:
        for top_too in (False, True):
            layers = tuple(_layers(root, "", beside, own_base=True, stays=not top_too))
            if len(layers) <= most:
                return layers
    return None


def _layers(node: _Node, path: str, beside: int, *, own_base: bool, stays: bool = False) -> Iterator[Layer]:
    """The layers of a folder with files of both kinds. ``own_base``: whether the trial's own appears there so far."""
    own_now = stays or len(node.shared) <= beside
    if own_now != own_base:
        yield Layer(path.rstrip("/"), own_now, folder=True)
    for name in sorted(node.shared if own_now else node.own):
        yield Layer(path + name, not own_now, folder=False)
    for name, below in sorted(node.folders.items()):
        if below.has(True) and below.has(False):
            yield from _layers(below, f"{path}{name}/", beside, own_base=own_now)
        elif below.has(not own_now):
            yield Layer(path + name, not own_now, folder=True)


def base_is_own(path: str, layers: tuple[Layer, ...]) -> bool:
    """Whether the folder of a path is the trial's own under these layers."""
    above = [layer for layer in layers if layer.folder and (not layer.path or path.startswith(f"{layer.path}/"))]
    return above[-1].own if above else True


def closed_folders(own: Collection[str], shared: Collection[str]) -> list[str]:
    """The folders with own files in which a process can't create others (``.``: the lab's): they are too full."""
    layers = compose(own, shared) or ()
    pinned = [layer.path for layer in layers if layer.own]
    closed = {layer.path for layer in layers if layer.folder and not layer.own}
    return sorted({path.rpartition("/")[0] or "." for path in pinned if path.rpartition("/")[0] in closed})
