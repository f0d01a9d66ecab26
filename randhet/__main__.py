"""`python -m randhet`, the same as the `randhet` command."""

from __future__ import annotations

from randhet.cli.app import main

main()
