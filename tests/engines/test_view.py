"""How a process's folder is put together of own and shared files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.engines.local.view import Layer, base_is_own, closed_folders, compose


def shown(own: set[str], shared: set[str], layers: tuple[Layer, ...]) -> dict[str, bool]:
    """From where each file comes that a process would see, by mounting the layers one after the other."""
    seen = dict.fromkeys(own, True)
    for layer in layers:
        source = own if layer.own else shared
        seen = {path: which for path, which in seen.items() if not _within(path, layer.path)}
        seen |= {path: layer.own for path in source if _within(path, layer.path)}
    return seen


def _within(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/".join((*parts, "file")))
PATHS = st.dictionaries(st.builds(str.__add__, NAMES, st.sampled_from("123456")), st.booleans(), max_size=24)


@given(PATHS, st.integers(0, 12))
def test_every_file_is_seen_from_where_it_belongs(files: dict[str, bool], most: int) -> None:
    own, shared = ({path for path, is_own in files.items() if is_own is which} for which in (True, False))
    layers = compose(own, shared, most)
    if layers is None:
        return
    assert len(layers) <= most
    assert shown(own, shared, layers) == files


@pytest.mark.parametrize("count", [3, 10_000])
def test_the_labs_folder_stays_writable_where_few_files_lie_in_it(count: int) -> None:
    shared = {"eval.py", "lab.toml", *(f"data/{n}/x.bin" for n in range(count))}
    layers = compose({"train.py"}, shared)
    assert layers == (
        Layer("eval.py", False, folder=False),
        Layer("lab.toml", False, folder=False),
        Layer("data", False, folder=True),
    )


def test_thousands_of_files_beside_the_genome_take_two_mounts() -> None:
    layers = compose({"train.py"}, {f"{n}.bin" for n in range(10_000)})
    assert layers == (Layer("", False, folder=True), Layer("train.py", True, folder=False))
    assert not base_is_own("link", layers)
    below = compose({"src/train.py"}, {"eval.py", *(f"src/{n}.py" for n in range(3_000))})
    assert below == (
        Layer("eval.py", False, folder=False),
        Layer("src", False, folder=True),
        Layer("src/train.py", True, folder=False),
    )
    assert base_is_own("link", below) and not base_is_own("src/link", below)


def test_what_no_number_of_mounts_can_show_has_no_view() -> None:
    assert compose({f"own{n}" for n in range(100)}, {f"shared{n}" for n in range(100)}) is None


def test_folders_that_are_too_full_to_write_in_are_named() -> None:
    many = {f"{number}.bin" for number in range(3_000)}
    assert closed_folders({"train.py"}, many) == ["."]
    assert closed_folders({"src/a.py", "b.py"}, {f"src/{name}" for name in many}) == ["src"]
    assert closed_folders({"train.py"}, {f"data/{name}" for name in many}) == []
