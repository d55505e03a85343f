"""What is plugged in."""

from __future__ import annotations

import json

import typer

from nightlab.cli.app import Json, app, escape, say


@app.command(epilog="Examples:  nightlab plugins   ·   nightlab plugins --json")
def plugins(as_json: Json = False) -> None:
    """List the plug-ins that are found, built in or installed."""
    from nightlab.core.plugins import KINDS, discover

    found = [plugin for kind in KINDS for plugin in discover(kind)]
    if as_json:
        keys = ("kind", "name", "package", "version", "target", "ignored")
        typer.echo(json.dumps([{key: getattr(plugin, key) for key in keys} for plugin in found], indent=1))
        return
    for kind in KINDS:
        own = [plugin.name for plugin in found if plugin.kind == kind and plugin.built_in]
        say(f"[bold]{kind:10}[/] built in: {', '.join(own)}")
        for plugin in found:
            if plugin.kind == kind and not plugin.built_in:
                source = f"{plugin.package} {plugin.version}, {plugin.target}"
                ignored = f" [yellow]ignored: {escape(plugin.ignored)}[/]" if plugin.ignored else ""
                say(f"           {escape(f'{plugin.name} ({source})')}{ignored}")
