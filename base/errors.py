"""What a user can do wrong: every error here carries one sentence and becomes exit status 2 on the command line."""

from __future__ import annotations


class RandhetError(Exception):
    """Wrong use or bad input. The message is one sentence: the object, its value, the limit."""

    def __str__(self) -> str:
        """On one line, and with nothing that a terminal would obey: names in it may come from anyone's file."""
        line = " ".join(super().__str__().split())
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


class NetworkError(RandhetError):
    """An integer network that breaks a rule of the representation (shape, range, graph)."""


class FileError(RandhetError):
    """A file that is missing, damaged, or not what it was said to be."""
