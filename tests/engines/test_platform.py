"""What this machine is: the version of its NVIDIA driver, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightlab.engines.platform import nvidia_driver


@pytest.mark.parametrize(
    ("told", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 2024\nGCC version: 12.3",
            "535.183.01",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "580.95.05"),
        ("of another form", ""),
    ],
)
def test_the_driver_is_read_from_what_the_kernel_says(tmp_path: Path, told: str, version: str) -> None:
    (tmp_path / "version").write_text(told)
    assert nvidia_driver(tmp_path / "version") == version
    assert nvidia_driver(tmp_path / "none") == ""
