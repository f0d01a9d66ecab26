"""Which Triton is used: none, an old one and a nightly build are told apart without importing it."""

from __future__ import annotations

from importlib import metadata

import pytest

from randhet.base import triton


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ({}, "triton is not installed: pip install 'randhet[gpu]'"),
        ({"triton": "2.3.1"}, "triton 2.3.1 is installed, the kernels need 3.7 or later"),
        ({"triton": "3.10.0"}, None),
        ({"triton": "3.7.0"}, None),
        ({"pytorch-triton": "3.8.0+git1a2b3c"}, None),
    ],
)
def test_versions(packages: dict[str, str], reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(metadata, "version", version)
    assert triton.missing() == reason or (reason and str(triton.missing()).startswith(reason))
