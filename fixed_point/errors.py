"""What a user can do wrong: every error here carries one sentence and becomes exit status 2 on the command line."""

from __future__ import annotations


class RandhetError(Exception):
    """Wrong use or bad input. The message is one sentence: the object, its value, the limit."""


class NetworkError(RandhetError):
    """An integer network that breaks a rule of the representation (shape, range, graph)."""


class FileError(RandhetError):
    """A file that is missing, damaged, or not what it was said to be."""
