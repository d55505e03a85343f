"""What a lab has of its commons: nightlab commons."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nightlab.cli.app import HERE, Json, Tag, Where, app, escape, say
from nightlab.core.text import counted

if TYPE_CHECKING:
    from nightlab.commons.exchange import Commons

SHOWN = 20  # offers and told findings that are listed


@app.command("commons", epilog="Examples:  nightlab commons   ·   nightlab commons --json")
def commons_command(lab: Where = HERE, tag: Tag = None, as_json: Json = False) -> None:
    """Show the known findings and authors.

    Shows the trust in each author, what came of their findings here and what they saved, the findings to be measured
    next, and what was not run or refused, and why.
    """
    from nightlab.commons.benefit import TOGETHER
    from nightlab.commons.places import open_commons

    commons = open_commons()
    facts = {**_authors(commons), **_view(commons, lab, tag)}
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    if not facts["you"]:
        say("you have shared nothing yet")
    for author in facts["authors"]:
        trust = facts["trust"].get(author["author"])
        known = "" if trust is None else f", trust {trust['value']:.2f}{', in quarantine' * trust['quarantined']}"
        you = " (you)" * (author["author"] == facts["you"]) + " (known)" * (author["author"] in facts["known"])
        records = ", ".join(counted(number, kind) for kind, number in author["records"].items())
        say(escape(f"  {author['author'][:12]}{you}  {records}{known}"))
    if measured := facts["measured"]:
        authors = counted(len(measured["by"].keys() - {TOGETHER}), "author")
        together = f", {counted(measured['combinations'], 'combination')}" if measured["combinations"] else ""
        say(f"\nmeasured here: {counted(measured['findings'], 'finding')} of {authors}{together}")
    for name, row in facts["measured"].get("by", {}).items():
        say(escape(f"  {name[:12]}  {_verdicts(row)}; adopted {row['adopted']}, gain {row['gain']:+.4g}"))
    if measured:
        say(
            f"  adopted {measured['adopted']} in {counted(measured['experiments'], 'experiment')}, gain "
            f"{measured['gain']:+.4g}; own: kept {measured['own_kept']} in "
            f"{counted(measured['own_experiments'], 'experiment')}, gain {measured['own_gain']:+.4g}"
        )
    if measured and measured["saved"] is not None:
        more = "more " if measured["saved"] < 0 else ""
        words = counted(abs(round(measured["saved"])), f"{more}experiment")
        say(f"  at the rate of own ideas, others' findings {'cost' if more else 'saved'} {words}")
    if facts["spared"]:
        say(f"  left alone, because labs that are trusted here refuted them: {counted(facts['spared'], 'finding')}")
    for title, rows in (("to be measured here, in this order", "next"), ("shown to the proposers only", "told")):
        if facts[rows]:
            say(f"\n{title}:")
        for row in facts[rows][:SHOWN]:
            more = f" ({row['why']})" if row["why"] else ""
            more += "; its metric is only a claim" if row["metric_claim"] else ""
            say(escape(f"  {row['id'][:12]}  {row['claimed']:+.4g}  {row['hypothesis']}{more}"))
    if facts["declined"]:
        say("\nnot run here:")
    for why, number in facts["declined"].items():
        say(escape(f"  {counted(number, 'finding')}: {why}"))
    if facts["refused"]:
        say("\nrefused:")
    for row in facts["refused"][-SHOWN:]:
        say(escape(f"  {row['author'][:12]}  {row['category']}: {row['detail']} ({counted(row['times'], 'time')})"))


def _authors(commons: Commons) -> dict[str, Any]:
    from dataclasses import asdict

    from nightlab.commons.places import own_author
    from nightlab.commons.sync import own_records

    kinds = {name: Counter(e.kind for e in chain) for name, chain in sorted(commons.entries().items())}
    return {
        "you": own_author(),
        "yours": [
            {"id": signed.id, "kind": signed.record.kind, "at": signed.record.at} for signed in own_records(commons)
        ],
        "authors": [{"author": name, "records": dict(records)} for name, records in kinds.items()],
        "refused": [asdict(each) for each in commons.rejections()],
    }


def _view(commons: Commons, lab: Path, tag: str | None) -> dict[str, Any]:
    """How it looks from a lab's session; nothing where there is none."""
    from nightlab.commons.sync import commons_config
    from nightlab.storage.ledger import tags

    facts: dict[str, Any] = {"trust": {}, "next": [], "told": [], "measured": {}, "declined": {}, "spared": 0}
    part = commons_config(lab)
    facts["known"] = list(part.known) if part else []
    if not tags(lab):
        return facts
    from nightlab.commons.benefit import benefit_of
    from nightlab.commons.peer_store import PeerStore
    from nightlab.commons.provenance import ProvenanceIndex
    from nightlab.commons.queue import order_offers
    from nightlab.commons.record import genome_id
    from nightlab.core.text import one_line
    from nightlab.session.replicates import replicates
    from nightlab.session.session import open_session

    session = open_session(lab, tag)
    peers, champion = PeerStore(session, commons), session.ledger.champion()
    for name, trust in peers.trust.items():
        facts["trust"][name] = {
            "value": trust.value,
            "confirmed_in_a_row": trust.streak,
            "quarantined": trust.quarantined,
        }
    facts |= {"measured": benefit_of(session), "spared": peers.spared()}
    facts["declined"] = {one_line(why): number for why, number in peers.declined().most_common(SHOWN)}
    if champion:
        noise = replicates(session.ledger, session.budget.record(), session.lab).noise().local(champion.value)
        paths = ProvenanceIndex(session, peers)
        paths.refresh()
        fitting, told = peers.fitting()
        offers = peers.offers(fitting, noise.sigma, [], session.ledger.sources(), paths.claim)
        kept = (session.genome(e.candidate.commit) for e in session.ledger.experiments(SHOWN, "keep"))
        here = set(map(genome_id, kept))
        rows = [
            (o.id, o.finding, "; ".join(o.fit.reasons))
            for o in order_offers(offers, [])
            if o.finding.genome not in here
        ]
        for key, each in (("next", rows), ("told", told)):
            facts[key] = [
                {
                    "id": name,
                    "author": finding.author,
                    "claimed": finding.claimed,
                    "metric_claim": finding.metric_claim,
                    "hypothesis": one_line(finding.hypothesis, 120),
                    "why": one_line(why),
                }
                for name, finding, why in each
            ]
    session.close()
    return facts


def _verdicts(row: dict[str, Any]) -> str:
    return ", ".join(f"{number} {verdict}" for verdict, number in row["verdicts"].items())
