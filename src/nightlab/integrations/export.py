"""A session's experiments, written for other programs: as a table, or into what people already look at runs with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from nightlab.core import plugins
from nightlab.core.events import SessionStarted
from nightlab.core.serialize import experiment_line
from nightlab.core.text import one_line
from nightlab.core.types import Metric, NightlabError
from nightlab.integrations.trackers import Source
from nightlab.storage.ledger import Ledger, result_rows

TEXT = ("tsv", "jsonl")


def lines(ledger: Ledger, metric: Metric, kind: str) -> Iterator[str]:
    """The experiments as lines of text: ``tsv``, as in ``results.tsv``, or ``jsonl``, one JSON object each."""
    if kind == "tsv":
        yield from result_rows(metric, ledger)
    else:
        yield from (json.dumps(experiment_line(experiment), ensure_ascii=False) for experiment in ledger.experiments())


def write_lines(ledger: Ledger, metric: Metric, kind: str, out: IO[str]) -> None:
    for line in lines(ledger, metric, kind):
        out.write(line + "\n")


def write_export(ledger: Ledger, metric: Metric, kind: str, place: str | None) -> tuple[str, str]:
    """Write a session in a format that is no text. Returns where it is now, and how to look at it.

    An export replaces the one before of the same session in the same place. Raises NightlabError for a format that
    there is not, naming the package that is missing, or the plug-in that failed.
    """
    facts = ledger.session() or SessionStarted()
    source = Source(facts.lab.get("name", "lab"), facts.tag, metric, ledger.path.parent)
    plugin = plugins.find("exporter", kind)
    exporter = plugins.load_plugin(plugin)
    try:
        where, look = exporter(source, ledger.experiments(), place)
    except (NightlabError, OSError):
        raise
    except Exception as error:
        if plugin.built_in:
            raise
        said = one_line(f"{type(error).__name__}: {error}")
        raise NightlabError(
            f"{plugin} failed: {said}", "tell its author; nightlab export jsonl needs no plug-in"
        ) from error
    return str(where), str(look)


def formats() -> list[str]:
    """The names of all formats, those of plug-ins included."""
    return [*TEXT, *plugins.names("exporter")]
