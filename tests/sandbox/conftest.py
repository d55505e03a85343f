"""What tests of the sandbox's proxy have in common."""

from __future__ import annotations

import pytest

from nightlab.engines.local.layout import detect_sandbox
from nightlab.sandbox.bubblewrap import Sandbox


@pytest.fixture
def sandbox() -> Sandbox:
    found = detect_sandbox()
    if not found.has_proxy:
        pytest.skip(found.why)
    return found
