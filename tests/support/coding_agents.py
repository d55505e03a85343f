"""Real coding agents as fixtures: installed once into a cache, pinned, and told by a script to use our model alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = {
    "codex": "@openai/codex@0.171.0",
    "qwen": "@qwen-code/qwen-code@0.15.10",
    "pi": "@mariozechner/pi-coding-agent@0.73.1",
    "opencode": "opencode-ai@1.18.33",
}
# Not below /tmp nor a home, of which a sandbox shows nothing. It takes about 1 GB.
CACHE = Path(os.environ.get("NIGHTLAB_TEST_AGENTS", "/var/tmp/nightlab-test-agents"))


def installed() -> Path:
    """The folder with the agents' programs. Skips the test where they can't be had."""
    bin_folder = CACHE / "node_modules" / ".bin"
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so no agent is")
    if not all((bin_folder / name).exists() for name in PACKAGES):
        CACHE.mkdir(parents=True, exist_ok=True)
        home = {**os.environ, "HOME": str(CACHE)}
        command = ["npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run([*command, *PACKAGES.values()], env=home, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install the agents: {done.stderr.strip().splitlines()[-1:]}")
    return bin_folder


def scripts(folder: Path, programs: Path, server: str) -> dict[str, Path]:
    """For each agent a script that makes its settings in its empty home and starts it. ``server`` is our model's."""
    made = {}
    for name, text in _scripts(server).items():
        made[name] = folder / f"{name}.sh"
        made[name].write_text(f"set -e\nexport PATH={programs}:$PATH\n{text}")
    return made


def _scripts(server: str) -> dict[str, str]:
    provider = f'name="ours", base_url="{server}/codex/v1", wire_api="responses", env_key="KEY"'
    retries = "request_max_retries=1, stream_max_retries=1"
    codex = {
        "model_provider": '"ours"',
        "model_providers.ours": f"{{{provider}, {retries}}}",
        "check_for_update_on_startup": "false",
        "analytics.enabled": "false",
        "web_search": '"disabled"',
        "features.plugins": "false",
        "features.apps": "false",
    }
    settings = " ".join(f"-c '{name}={value}'" for name, value in codex.items())
    sealed = "--dangerously-bypass-approvals-and-sandbox --skip-git-repo-check --ephemeral"
    cost = {"input": 1.0, "output": 2.0, "cacheRead": 0, "cacheWrite": 0}
    model = {"id": "m-1", "contextWindow": 128000, "maxTokens": 8192, "cost": cost}
    pi = {"baseUrl": f"{server}/pi/v1", "api": "openai-completions", "apiKey": "none", "models": [model]}
    pi["compat"] = {"supportsDeveloperRole": False, "supportsReasoningEffort": False}
    qwen = {"general": {"enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False}}
    qwen |= {"telemetry": {"enabled": False}, "security": {"auth": {"selectedType": "openai"}}}
    ours = {"npm": "@ai-sdk/openai-compatible", "name": "Ours"}
    ours |= {"options": {"baseURL": f"{server}/opencode/v1", "apiKey": "none"}}  # type: ignore[dict-item]
    ours |= {"models": {"m-1": {"name": "m-1", "tool_call": True, "limit": {"context": 128000, "output": 8192}}}}  # type: ignore[dict-item]
    opencode = {"autoupdate": False, "share": "disabled", "model": "ours/m-1", "small_model": "ours/m-1"}
    opencode |= {"enabled_providers": ["ours"], "provider": {"ours": ours}}
    opencode |= {"permission": {"edit": "allow", "bash": "allow", "webfetch": "deny", "external_directory": "allow"}}
    return {
        "codex": f"export KEY=none\nexec codex exec -m m-1 {settings} {sealed} -\n",
        "qwen": (
            f"mkdir -p ~/.qwen\necho '{json.dumps(qwen)}' > ~/.qwen/settings.json\n"
            f"export OPENAI_API_KEY=none OPENAI_MODEL=m-1 OPENAI_BASE_URL={server}/qwen/v1\nexec qwen --acp\n"
        ),
        "pi": (
            f"mkdir -p ~/.pi/agent\necho '{json.dumps({'providers': {'ours': pi}})}' > ~/.pi/agent/models.json\n"
            "export PI_OFFLINE=1 PI_TELEMETRY=0 PI_SKIP_VERSION_CHECK=1\n"
            "exec pi --offline --mode text --no-session --no-extensions --no-skills --no-prompt-templates --no-themes"
            " --no-context-files --provider ours --model m-1 --tools read,edit,write,bash --thinking off"
            ' -p "$(cat $NIGHTLAB_BRIEFING)" < /dev/null\n'
        ),
        "opencode": (
            f"echo '{json.dumps(opencode)}' > ~/opencode.json\nexport OPENCODE_CONFIG=~/opencode.json\n"
            "export OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_LSP_DOWNLOAD=1"
            " OPENCODE_DISABLE_DEFAULT_PLUGINS=1\n"
            'exec opencode run --pure -m ours/m-1 --title t "$(cat $NIGHTLAB_BRIEFING)" < /dev/null\n'
        ),
    }
