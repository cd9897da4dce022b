"""The name that may be meant where a wrong one was given."""

import difflib
from collections.abc import Iterable

_LIKENESS = 0.75


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean X?)`, for the end of a phrase; nothing where no name is alike."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=_LIKENESS)
    return f" (did you mean {close[0]}?)" if close else ""
