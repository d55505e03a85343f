"""Real coding agents as fixtures: installed once into a cache, pinned, and told by a script to use our model alone.

A new agent is one more entry of ``AGENTS``: its packages (npm's, or PyPI's with ``==``), the kind of proposer that
drives it, how its endpoint is asked and how it edits a file, and the script that makes its settings in its empty home
and starts it. With ``NIGHTLAB_TEST_NEWEST`` the newest versions are taken, of agents whose pins are not the newest.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from support.model_wire import Call

# Not below /tmp nor a home, of which a sandbox shows nothing. It takes about 4 GB.
CACHE = Path(os.environ.get("NIGHTLAB_TEST_AGENTS", "/var/tmp/nightlab-test-agents"))
NEWEST = bool(os.environ.get("NIGHTLAB_TEST_NEWEST"))
NODE = "node@22.23.3"  # that most of them need, whatever is installed here
CODEX, QWEN, GEMINI = "@openai/codex@0.171.0", "@qwen-code/qwen-code@0.24.4", "@google/gemini-cli@0.61.0"
PI, OPENCODE, CLAUDE = (
    "@earendil-works/pi-coding-agent@1.6.0",
    "opencode-ai@1.18.33",
    "@anthropic-ai/claude-code@2.1.332",
)
CODEX_ACP_2, CLAUDE_ACP = "@agentclientprotocol/codex-acp@2.6.0", "@agentclientprotocol/claude-agent-acp@0.101.0"


@dataclass(frozen=True)
class CodingAgent:
    """``edit``: its calls that replace a line in genome.py; ``shell``: its call of a command line, if it has one."""

    packages: tuple[str, ...]
    program: str
    kind: Literal["command", "agent"]
    edit: Callable[[str, str], list[Call]]
    shell: Callable[[str], Call]
    script: Callable[[str], str]
    """Its script, from the URL of our server without a path."""
    block: Callable[[str, str], str] | None = None
    """For an agent without tools: the words of its answer that replace a line in genome.py."""


def installed(names: Iterable[str]) -> Path:
    """The folder with the agents' programs. Skips the test where they can't be had, or where no newest is newer."""
    wanted = sorted({package for name in names for package in AGENTS[name].packages})
    if NEWEST and all(package == newest(package) for package in wanted):
        pytest.skip(f"the newest versions are the pinned ones: {', '.join(wanted)}")
    packages = [NODE, *(newest(package) if NEWEST else package for package in wanted)]
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so no agent is")
    folder = CACHE / "newest" if NEWEST else CACHE
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run at the same time
        _install([package for package in packages if not _is_installed(folder, package)], folder)
    return folder / "node_modules" / ".bin"


def _install(packages: list[str], folder: Path) -> None:
    python = [package for package in packages if "==" in package]
    npm = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error"]
    commands = [[*npm, *(package for package in packages if package not in python)]] if packages != python else []
    if python:
        commands += [[sys.executable, "-m", "venv", folder / "python"]]
        commands += [[folder / "python" / "bin" / "pip", "install", "--quiet", *python]]
    for command in commands:
        home = {**os.environ, "HOME": str(folder)}
        done = subprocess.run(list(map(str, command)), env=home, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the agents could not be installed: {done.stderr.strip().splitlines()[-1:]}")


def _is_installed(folder: Path, package: str) -> bool:
    if "==" in package:
        name, version = package.split("==")
        return any((folder / "python").glob(f"lib/*/site-packages/{name.replace('-', '_')}-{version}.dist-info"))
    name, _, version = package.rpartition("@")
    about = folder / "node_modules" / name / "package.json"
    return about.exists() and json.loads(about.read_text())["version"] == version


@cache
def newest(package: str) -> str:
    """The same package in its newest version, as its registry says."""
    if "==" in package:
        name = package.split("==")[0]
        command = [sys.executable, "-m", "pip", "index", "versions", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"\((\S+)\)", done.stdout)
        return f"{name}=={found[1]}" if found else package
    name = package.rpartition("@")[0]
    done = subprocess.run(["npm", "view", name, "version"], capture_output=True, text=True, check=False)
    return f"{name}@{done.stdout.strip()}" if done.returncode == 0 else package


def write_script(folder: Path, programs: Path, server: str, name: str) -> Path:
    """The script of an agent. ``server`` is our model's URL, without a path."""
    path = folder / f"{name}.sh"
    path.write_text(f"set -e\nexport PATH={programs}:$PATH\n{AGENTS[name].script(server)}")
    return path


def _settings(path: str, content: Any) -> str:
    return f"mkdir -p {Path(path).parent}\necho '{json.dumps(content)}' > {path}\n"


def _codex(start: str) -> Callable[[str], str]:
    def script(server: str) -> str:
        provider = f'name="ours", base_url="{server}/codex/v1", wire_api="responses", env_key="KEY"'
        ours = {
            "model": '"m-1"',
            "model_provider": '"ours"',
            "model_providers.ours": f"{{{provider}, request_max_retries=1, stream_max_retries=1}}",
            "check_for_update_on_startup": "false",
            "analytics.enabled": "false",
            "web_search": '"disabled"',
            "features.plugins": "false",
            "features.apps": "false",
        }
        settings = " ".join(f"-c '{name}={value}'" for name, value in ours.items())
        return f"export KEY=none\nexec {start.format(settings=settings)}\n"

    return script


def _qwen(start: str) -> Callable[[str], str]:
    settings = {"general": {"enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False}}
    settings |= {"telemetry": {"enabled": False}, "security": {"auth": {"selectedType": "openai"}}}
    made = _settings("~/.qwen/settings.json", settings)
    key = "export OPENAI_API_KEY=none OPENAI_MODEL=m-1 OPENAI_BASE_URL={}/qwen/v1\nexec {}\n"
    return lambda server: made + key.format(server, start)


def _gemini(start: str) -> Callable[[str], str]:
    settings = {"general": {"disableAutoUpdate": True}, "privacy": {"usageStatisticsEnabled": False}}
    settings |= {"telemetry": {"enabled": False}, "security": {"auth": {"selectedType": "gemini-api-key"}}}  # type: ignore[dict-item]
    made = _settings("~/.gemini/settings.json", settings)
    key = "export GEMINI_API_KEY=none GEMINI_CLI_TRUST_WORKSPACE=true GOOGLE_GEMINI_BASE_URL={}/gemini\nexec {}\n"
    return lambda server: made + key.format(server, start)


def _pi(start: str) -> Callable[[str], str]:
    def script(server: str) -> str:
        cost = {"input": 1.0, "output": 2.0, "cacheRead": 0, "cacheWrite": 0}
        model = {"id": "m-1", "contextWindow": 128000, "maxTokens": 8192, "cost": cost}
        ours = {"baseUrl": f"{server}/pi/v1", "api": "openai-completions", "apiKey": "none", "models": [model]}
        ours["compat"] = {"supportsDeveloperRole": False, "supportsReasoningEffort": False}
        return (
            _settings("~/.pi/agent/models.json", {"providers": {"ours": ours}})
            + _settings("~/.pi/agent/settings.json", {"defaultProvider": "ours", "defaultModel": "m-1"})
            + f"export PI_OFFLINE=1 PI_TELEMETRY=0 PI_SKIP_VERSION_CHECK=1\nexec {start}\n"
        )

    return script


def _opencode(start: str) -> Callable[[str], str]:
    def script(server: str) -> str:
        ours: dict[str, Any] = {"npm": "@ai-sdk/openai-compatible", "name": "Ours"}
        ours |= {"options": {"baseURL": f"{server}/opencode/v1", "apiKey": "none"}}
        ours |= {"models": {"m-1": {"name": "m-1", "tool_call": True, "limit": {"context": 128000, "output": 8192}}}}
        settings: dict[str, Any] = {"autoupdate": False, "share": "disabled", "model": "ours/m-1"}
        settings |= {"small_model": "ours/m-1", "enabled_providers": ["ours"], "provider": {"ours": ours}}
        may = {"edit": "allow", "bash": "allow", "webfetch": "deny", "external_directory": "allow"}
        return (
            _settings("~/opencode.json", {**settings, "permission": may})
            + "export OPENCODE_CONFIG=~/opencode.json OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1"
            f" OPENCODE_DISABLE_LSP_DOWNLOAD=1 OPENCODE_DISABLE_DEFAULT_PLUGINS=1\nexec {start}\n"
        )

    return script


def _codex_acp_2(server: str) -> str:
    """The adapter's next major version: it has its own Codex, and settings from a file alone."""
    ours = f'[model_providers.ours]\nname = "ours"\nbase_url = "{server}/codex/v1"\nwire_api = "responses"\n'
    ours += 'env_key = "KEY"\nrequest_max_retries = 1\nstream_max_retries = 1\n'
    top = 'model = "m-1"\nmodel_provider = "ours"\ncheck_for_update_on_startup = false\nweb_search = "disabled"\n'
    top += 'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
    more = "[analytics]\nenabled = false\n[features]\nplugins = false\napps = false\n"
    return (
        f"mkdir -p ~/.codex\ncat > ~/.codex/config.toml <<'TOML'\n{top}{ours}{more}TOML\n"
        "export KEY=none NO_BROWSER=1 MODEL_PROVIDER=ours INITIAL_AGENT_MODE=agent-full-access\n"
        'exec node "${PATH%%/.bin:*}/@agentclientprotocol/codex-acp/dist/index.js"\n'
    )


def _claude(start: str) -> Callable[[str], str]:
    return lambda server: (
        f"export ANTHROPIC_BASE_URL={server}/claude ANTHROPIC_API_KEY=none ANTHROPIC_MODEL=m-1 IS_SANDBOX=1"
        " CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1\n"
        f"exec {start}\n"
    )


def _aider(server: str) -> str:
    """Its own lines after the model's last words are left out, or no turn would end with a hypothesis."""
    no = "git pretty fancy-input check-update show-model-warnings auto-lint detect-urls suggest-shell-commands"
    told = " ".join(["--analytics-disable --map-tokens 0 --edit-format diff", *(f"--no-{name}" for name in no.split())])
    files = "--chat-history-file /dev/null --input-history-file /dev/null --message-file $NIGHTLAB_BRIEFING genome.py"
    return (
        f"export OPENAI_API_BASE={server}/aider/v1 OPENAI_API_KEY=none LITELLM_LOCAL_MODEL_COST_MAP=True\n"
        "status=0\n"
        '"${PATH%%/node_modules/*}/python/bin/aider"'
        f" --model openai/m-1 --yes-always {told} {files} > ~/said < /dev/null || status=$?\n"
        "sed -e '/^Applied edit to /d' -e '/^Tokens: /d' ~/said\nexit $status\n"
    )


def _by_shell(old: str, new: str) -> list[Call]:
    return [_codex_shell(f"sed -i 's|{old}|{new}|' genome.py")]


def _codex_shell(line: str) -> Call:
    return Call("exec_command", {"cmd": line, "login": False})


def _by_replace(edit: str, read: str = "read_file") -> Callable[[str, str], list[Call]]:
    """Agents that read a file before they replace words in it."""

    def calls(old: str, new: str) -> list[Call]:
        where = {"file_path": "/lab/genome.py"}
        more = {"instruction": "as told"} if edit == "replace" else {}
        return [Call(read, where), Call(edit, {**where, "old_string": old, "new_string": new, **more})]

    return calls


def _pi_edit(old: str, new: str) -> list[Call]:
    return [Call("edit", {"path": "genome.py", "edits": [{"oldText": old, "newText": new}]})]


def _opencode_edit(old: str, new: str) -> list[Call]:
    return [Call("edit", {"filePath": "/lab/genome.py", "oldString": old, "newString": new})]


def _no_tools(*_: str) -> Any:
    raise AssertionError("this agent has no tools")


def _search_replace(old: str, new: str) -> str:
    return f"genome.py\n```python\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n```\n\n"


def _shell(tool: str, name: str = "command", **more: Any) -> Callable[[str], Call]:
    return lambda line: Call(tool, {name: line, **more})


BRIEFED = '"$(cat $NIGHTLAB_BRIEFING)" < /dev/null'
SEALED = "--dangerously-bypass-approvals-and-sandbox --skip-git-repo-check --ephemeral"
# By its path: the next major version, under another package's name, has a program of the same name.
CODEX_ACP = 'node "${{PATH%%/.bin:*}}/@zed-industries/codex-acp/bin/codex-acp.js"'
CODEX_ACP += " {settings} -c 'approval_policy=\"never\"' -c 'sandbox_mode=\"danger-full-access\"'"
PI_BARE = "--no-extensions --no-skills --no-prompt-templates --no-themes --no-context-files"
PI_TOLD = "--provider ours --model m-1 --tools read,edit,write,bash --thinking off"
_codex_tools = (_by_shell, _codex_shell)
_qwen_tools = (_by_replace("edit"), _shell("run_shell_command", is_background=False))
_gemini_tools = (_by_replace("replace"), _shell("run_shell_command"))
_pi_tools = (_pi_edit, _shell("bash"))
_opencode_tools = (_opencode_edit, _shell("bash", description="a command"))
_claude_tools = (_by_replace("Edit", "Read"), _shell("Bash", description="a command"))

AGENTS = {
    "codex": CodingAgent((CODEX,), "codex", "command", *_codex_tools, _codex(f"codex exec {{settings}} {SEALED} -")),
    "codex-acp": CodingAgent(
        ("@zed-industries/codex-acp@0.16.0",), "codex-acp", "agent", *_codex_tools, _codex(CODEX_ACP)
    ),
    "codex-acp-2": CodingAgent((CODEX_ACP_2,), "codex-acp", "agent", *_codex_tools, _codex_acp_2),
    "qwen": CodingAgent((QWEN,), "qwen", "command", *_qwen_tools, _qwen("qwen --yolo")),
    "qwen-acp": CodingAgent((QWEN,), "qwen", "agent", *_qwen_tools, _qwen("qwen --acp")),
    "gemini": CodingAgent((GEMINI,), "gemini", "command", *_gemini_tools, _gemini("gemini --yolo -m gemini-2.5-pro")),
    "gemini-acp": CodingAgent((GEMINI,), "gemini", "agent", *_gemini_tools, _gemini("gemini --acp -m gemini-2.5-pro")),
    "pi": CodingAgent(
        (PI,),
        "pi",
        "command",
        *_pi_tools,
        _pi(f"pi --offline --mode text --no-session {PI_BARE} {PI_TOLD} -p {BRIEFED}"),
    ),
    "pi-acp": CodingAgent((PI, "pi-acp@0.0.34"), "pi-acp", "agent", *_pi_tools, _pi("pi-acp")),
    "opencode": CodingAgent(
        (OPENCODE,),
        "opencode",
        "command",
        *_opencode_tools,
        _opencode(f"opencode run --pure -m ours/m-1 --title t {BRIEFED}"),
    ),
    "opencode-acp": CodingAgent((OPENCODE,), "opencode", "agent", *_opencode_tools, _opencode("opencode acp --pure")),
    "claude": CodingAgent(
        (CLAUDE,),
        "claude",
        "command",
        *_claude_tools,
        _claude("claude -p --model m-1 --permission-mode acceptEdits --allowedTools Bash Edit Read Write"),
    ),
    "claude-acp": CodingAgent((CLAUDE_ACP,), "claude-agent-acp", "agent", *_claude_tools, _claude("claude-agent-acp")),
    "aider": CodingAgent(
        ("aider-chat==0.86.2",), "aider", "command", lambda *_: [], _no_tools, _aider, _search_replace
    ),
}
