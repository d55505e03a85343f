"""What the docs site generates as it is built: the command-line reference, and a check that no page needs a network."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

EXTERNAL = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="?(?:https?:)?//|<link\b[^>]*stylesheet[^>]*\bhref="?(?:https?:)?//'
)


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    found = EXTERNAL.search(output)
    if found:
        raise PluginError(f"{page.file.src_path} fetches something from another host: {found.group()}")
    return output


def command_line() -> str:
    """The reference page: one section for each command, in the order of ``nightlab --help``."""
    import typer.main

    from nightlab.cli.help import SECTIONS
    from nightlab.cli.main import app

    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Exit status: 0 done; 1 an error that you can fix (the message says how); 2 wrong usage; 3 the candidate or",
        "the claim did not hold; 130 stopped by Ctrl-C. Commands that programs read have `--json`.",
        "",
    ]
    placed = [name for names in SECTIONS.values() for name in names]
    rest = [name for name, command in group.commands.items() if name not in placed and not command.hidden]
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in (*names, *(rest if title == "More" else ())):
            lines += section(f"nightlab {name}", group.commands[name])
    return "\n".join(lines)


def section(name: str, command: Any, level: int = 3) -> list[str]:
    """The section of one command and of the commands below it."""
    from nightlab.cli.help import examples

    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context)).replace("[[", "[").replace("]]", "]")
    lines = ["#" * level + f" {name}", "", plain(command.help), "", "```console", f"{name} {usage}", "```", ""]
    shown = [param for param in command.params if param.name != "help" and not getattr(param, "hidden", False)]
    records = [record for param in shown if (record := param.get_help_record(context))]
    if records:
        lines += [
            "| argument or option | meaning |",
            "|---|---|",
            *(f"| `{plain(names)}` | {cell(said)} |" for names, said in records),
            "",
        ]
    if command.epilog:
        lines += ["```console", *examples(command.epilog), "```", ""]
    for inner_name, inner in getattr(command, "commands", {}).items():
        lines += section(f"{name} {inner_name}", inner, level + 1)
    return lines


def cell(text: str) -> str:
    return plain(text).replace("|", r"\|")


def plain(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text or "").replace("\b", "")).strip()
