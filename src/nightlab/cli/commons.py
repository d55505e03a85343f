"""Exchanging findings with other labs."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Json, Tag, Where, allowed, app, escape, say, view
from nightlab.core.text import counted

if TYPE_CHECKING:
    from nightlab.analysis.commons_audit import Replayed
    from nightlab.commons.exchange import Commons, Received
    from nightlab.commons.sync import Body, SyncResult


@app.command(epilog="Examples:  nightlab share   ·   nightlab share 12 17 --yes   ·   nightlab share --retract 3f9a")
def share(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="N", help="Numbers of experiments; all kept ones if omitted.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Include experiments that were not kept.")] = False,
    portable: Annotated[
        list[str],
        typer.Option(
            "--portable",
            metavar="budget|data",
            help="Other settings where you expect the finding to transfer; repeatable.",
        ),
    ] = [],  # noqa: B006
    retract: Annotated[str, typer.Option(metavar="ID", help="Retract a finding of yours.")] = "",
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Revoke your key, e.g. because another has it, and go on with a new one.")
    ] = False,
    since: Annotated[
        str, typer.Option(metavar="ID", help="With --revoke: the first record that is not yours; none if omitted.")
    ] = "",
    licences: Annotated[
        list[str], typer.Option("--licence", metavar="NAME", help="A licence that a trial needs; repeatable.")
    ] = [],  # noqa: B006
    why: Annotated[str, typer.Option("--reason", metavar="WORDS", help="Reason for the retraction.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Share without asking.")] = False,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Sign findings of a session for others.

    Shows what would be shared and asks first. nightlab sync then sends it.
    """
    from nightlab.commons.places import author_key, key_file, open_commons
    from nightlab.commons.sync import PORTABLE, findings_to_share, retraction_body
    from nightlab.commons.transfers import transfers_to_share
    from nightlab.core.types import NightlabError
    from nightlab.session.session import open_session

    if unknown := set(portable) - set(PORTABLE):
        raise typer.BadParameter(f"--portable {', '.join(sorted(unknown))}: {' or '.join(PORTABLE)}")
    commons = open_commons()
    if revoke:
        _revoke(commons, since, yes)
        return
    if retract:
        bodies = [retraction_body(commons, retract, why)]
        typer.echo(_page(bodies[0]))
    else:
        session = open_session(lab, tag)
        found = findings_to_share(session, commons, numbers or [], failed=failed, portable=portable, licences=licences)
        found += transfers_to_share(session, commons)
        session.close()
        for number, body in found:
            typer.echo(f"# experiment {number}\n{_page(body)}")
        bodies = [body for _, body in found]
    if not bodies:
        say("nothing new to share")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise NightlabError("sharing needs your consent", "read what would be shared, then: nightlab share --yes")
        if not typer.confirm(f"Share {counted(len(bodies), 'record')} publicly?"):
            return
    fresh = not key_file().exists()
    made = commons.publish(author_key(make=True), bodies)
    if fresh:
        say(f"made your key, {key_file()}: keep it private, it signs findings in your name")
    for signed in made:
        say(f"signed {signed.id[:12]}")
    say("next: nightlab sync")


def _revoke(commons: Commons, since: str, yes: bool) -> None:
    from nightlab.commons.sync import revoke_key
    from nightlab.core.types import NightlabError

    if not yes and not sys.stdin.isatty():
        raise NightlabError("a revoked key can't be used again", "if you are sure: nightlab share --revoke --yes")
    if not yes and not typer.confirm("Revoke your key? It can't be used again, and others trust the new one from 0."):
        return
    kept, away = revoke_key(commons, since)
    say(f"revoked: {counted(kept, 'record')} of it keep their weight, later ones have none; the old key is {away}")
    say("next: nightlab sync")


@app.command(
    epilog="Examples:  nightlab sync   ·   nightlab sync ssh://git@host/commons.git   ·   "
    "nightlab sync --bundle /media/stick/commons.bundle"
)
def sync(
    remote: Annotated[
        str | None, typer.Argument(metavar="REMOTE", help="Git remote; the one in lab.toml if omitted.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Exchange through a bundle file: read it if it exists, then write all findings to it."
        ),
    ] = None,
    lab: Where = HERE,
) -> None:
    """Exchange findings with a git remote."""
    from nightlab.commons.places import open_commons
    from nightlab.commons.sync import sync_commons as exchange

    for done in exchange(lab, open_commons(), remote, bundle):
        for body in done.sent:
            say(escape(f"  {body['target'][:12]} {body.get('verdict', body['kind'])}: {body['detail']}"))
        say(escape(f"{done.where}: {'; '.join(sync_words(done))}"))
        for words in sync_warnings(done):
            say(escape(f"  {words}"))


def news_words(taken: Received) -> str:
    """What was received, in words."""
    return f"{taken.records} new of {counted(taken.authors, 'author')}" if taken.records else "nothing new from others"


def sync_words(done: SyncResult) -> list[str]:
    """What was received and sent."""
    taken = done.taken
    words = [news_words(taken)]
    words += [f"{counted(len(done.sent), 'answer')} of yours to others' findings"] * bool(done.sent)
    words += ["what you shared is there"] * done.pushed
    words += [f"more of {counted(taken.waiting, 'author')}: sync again"] * bool(taken.waiting)
    refused = ", ".join(f"{number} {why}" for why, number in taken.rejected.items())
    return words + [f"refused: {refused} (see nightlab commons)"] * bool(refused)


def sync_warnings(done: SyncResult) -> list[str]:
    """What the user should look into: clocks, keys and remotes that are not as they were."""
    taken, words = done.taken, list[str]()
    if taken.future:
        words.append(
            f"{counted(taken.future, 'record')} dated in the future, whose verdicts wait until then: is this machine's "
            f"clock right? It says {time.strftime('%Y-%m-%d %H:%M')}"
        )
    if done.foreign:
        words.append(
            f"{counted(done.foreign, 'record')} under your name that were not here: this copy was restored from a "
            "backup, or another machine uses your key; if it is not yours: nightlab share --revoke"
        )
    if old := taken.rejected["rolled back"]:
        words.append(
            f"the remote lacks records that it had of {counted(old, 'author')}: was it restored from a backup? Nothing "
            "is lost here, and each author's next sync sends theirs again"
        )
    return words


@app.command(epilog="Examples:  nightlab join ssh://git@host/commons.git   ·   nightlab join /srv/commons.git")
def join(
    remote: Annotated[str, typer.Argument(metavar="REMOTE", help="Git remote or folder of the commons.")],
    lab: Where = HERE,
) -> None:
    """Join a commons.

    Receives what is there and writes [commons] into lab.toml. Nothing is shared before you run nightlab share.
    """
    from nightlab.commons.exchange import display_remote
    from nightlab.commons.membership import join as join_commons
    from nightlab.commons.membership import other_tasks
    from nightlab.commons.places import open_commons

    commons = open_commons()
    taken = join_commons(lab, commons, remote)
    more = "; more is waiting: nightlab sync" * bool(taken.waiting)
    say(escape(f"joined {display_remote(remote)}: {news_words(taken)}{more}"))
    if others := other_tasks(lab, commons, remote):
        say("it is a commons of another task: none of its latest findings can be tried in this lab")
        for why, number in others.most_common(3):
            say(escape(f"  {counted(number, 'finding')}: {why}"))
        say("what you share is of use there to labs of your task only; to leave: nightlab leave")
        return
    say("next: git commit -m 'join a commons' lab.toml; from then on nightlab run measures others' findings")
    say("to share yours: nightlab share")


@app.command(epilog="Examples:  nightlab know 3b6a27bcceb6 29acbae141bc")
def know(
    names: Annotated[list[str], typer.Argument(metavar="AUTHOR...", help="Authors, as nightlab commons shows them.")],
    lab: Where = HERE,
) -> None:
    """Name authors whom you know.

    Writes them to commons.known in lab.toml. What they found and measured is believed from the start, until it fails
    here: their findings are tried together, those that probably gain. Ask them for their names; anybody can have a key.
    """
    from nightlab.commons.membership import know as know_authors
    from nightlab.commons.places import open_commons

    added = know_authors(lab, open_commons(), names)
    for name in added:
        say(f"  {name}")
    say(f"{counted(len(added), 'author')} added to commons.known in lab.toml")
    if added:
        say("next: git commit -m 'whom we know' lab.toml; from then on nightlab run counts their word")


@app.command(epilog="Examples:  nightlab leave")
def leave(lab: Where = HERE) -> None:
    """Leave the commons.

    Removes [commons] from lab.toml. What you shared stays with the others: nightlab share --retract asks them not to
    try it.
    """
    from nightlab.commons.exchange import display_remote
    from nightlab.commons.membership import leave as leave_commons

    say(escape(f"left {display_remote(leave_commons(lab)) or 'the commons'}; what others found and you kept stays"))
    say("next: git commit -m 'leave the commons' lab.toml")


@app.command(
    epilog="Examples:  nightlab audit ssh://git@host/commons.git   ·   nightlab audit commons.bundle --json   ·   "
    "nightlab audit /srv/commons.git --replay 3"
)
def audit(
    remote: Annotated[str, typer.Argument(metavar="REMOTE", help="Git remote, folder or bundle.")],
    replays: Annotated[
        int,
        typer.Option("--replay", min=0, metavar="N", help="Also measure N findings of this lab's task here, by lot."),
    ] = 0,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Check all records of a remote.

    Reads the whole remote anew: forms, signatures, chains, patches, and whether verdicts follow from their numbers.
    With --replay, findings of the same task, platform and data are measured again in a session of this lab, which
    adopts nothing. Exit status 3 if anything is wrong.
    """
    from dataclasses import asdict

    from nightlab.commons.membership import audit as audit_remote
    from nightlab.commons.membership import whole_copy

    rows: list[Replayed] = []
    unfit = Counter[str]()
    with whole_copy(str(Path(remote).resolve()) if Path(remote).exists() else remote) as there:
        found = audit_remote(there)
        if replays:
            rows, unfit = _replays(there, replays, lab, tag, allow, quiet=as_json)
    sound = found.sound and not any(row.verdict == "refuted" for row in rows)
    if as_json:
        facts = {**asdict(found), "replays": [asdict(row) for row in rows], "not_replayed": unfit, "sound": sound}
        typer.echo(json.dumps(facts, indent=1))
    else:
        kinds = ", ".join(counted(number, kind) for kind, number in sorted(found.records.items())) or "no records"
        say(f"{kinds} of {counted(found.authors, 'author')}: {'all sound' if found.sound else 'not sound'}")
        for row in found.refused:
            say(escape(f"  refused  {row.author[:12]}  {row.category}: {row.detail}"))
        for author, record, why in found.contradictions:
            say(escape(f"  wrong    {author[:12]}  {record[:12]}: {why}"))
        for one in rows:
            say(escape(f"  {one.verdict:<12}  {one.author[:12]}  {one.target[:12]}: {one.detail}"))
        for why, number in unfit.most_common():
            say(escape(f"  not measured here: {counted(number, 'finding')}: {why}"))
    if not sound:
        raise typer.Exit(REFUTED)


def _replays(
    there: Commons, count: int, lab: Path, tag: str | None, allow: list[str], *, quiet: bool
) -> tuple[list[Replayed], Counter[str]]:
    """Measure a sample of a remote's findings in a session of the lab."""
    from contextlib import closing

    from nightlab.analysis.commons_audit import CommonsAudit
    from nightlab.loop.scheduler import Scheduler
    from nightlab.session.session import open_session

    with closing(open_session(lab, tag, writer=True, allow=allowed(allow))) as session, closing(view(quiet)) as shown:
        check = CommonsAudit(Scheduler(session, shown), there)
        return check.replay(count), check.unfit


def _page(body: Body) -> str:
    """All that is in a record, and its patch, as text that does nothing to a terminal."""
    from nightlab.core.text import plain

    facts, patch = body
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    return plain(f"{text}\n{(patch or b'').decode()}", limit=10**6)
