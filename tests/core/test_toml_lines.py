"""On which line of a TOML file a key stands."""

from __future__ import annotations

from typing import Any

import pytest

from nightlab.core.toml_lines import line_of

TEXT = '''\
name = "a"  # name = "b"
"quoted key" = 1
dotted.key = 2

[ metric ]  # the number
text = """
[budget]
name = "in a text"
"""
name = "m"

[[proposers]]
kind = "tuner"
[[proposers]]
kind = "model"
[proposers.options]
deep = 1

[budget.cpu]
amount = 3
[commons]
list = [
  "x = 1",
]
remote = "r"
'''


@pytest.mark.parametrize(
    ("loc", "line"),
    [
        (["name"], 1),
        (["quoted key"], 2),
        (["dotted", "key"], 3),
        (["metric"], 5),
        (["metric", "name"], 10),
        (["metric", "goal"], 5),
        (["proposers", 0, "tuner", "kind"], 13),
        (["proposers", 1, "model", "kind"], 15),
        (["proposers", 1, "options", "deep"], 17),
        (["budget", "cpu", "amount"], 20),
        (["commons", "remote"], 25),
        (["commons", "x"], 21),
        (["genome"], None),
        ([], None),
    ],
)
def test_the_line_of_a_key_or_of_the_table_where_it_would_be(loc: list[Any], line: int | None) -> None:
    assert line_of(TEXT, loc) == line
