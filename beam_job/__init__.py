"""The jobs: what a person starts with `python -m beam_job COMMAND`, and `open_run` for programs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_job.runs import Run, open_run

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())] != [str(_HERE)]:
    # `python -m` looks for modules in the current folder first: a transforms.py or keras.py there
    # would be taken for ours, or for the library.
    del sys.path[0]

__version__ = "1.0.0"
__all__ = ["Run", "__version__", "open_run"]

if not TYPE_CHECKING:  # What has no type would hide a wrong name.

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first asked for: commands do not need it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from beam_job import runs

        return getattr(runs, name)
