"""`python -m randhet`, the same as the `randhet` command."""

from __future__ import annotations

from randhet.base.child import leave_current_folder

# Before anything else is imported: Python has put the current folder first in `sys.path`
leave_current_folder()

from randhet.cli.app import main  # noqa: E402

main()
