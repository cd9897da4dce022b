"""The jobs: what a person starts with `python -m beam_job COMMAND`."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())] != [str(_HERE)]:
    # `python -m` looks for modules in the current folder first: a transforms.py or keras.py there
    # would be taken for ours, or for the library.
    del sys.path[0]

__version__ = "1.0.0"
