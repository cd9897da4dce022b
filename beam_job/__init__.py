"""The jobs: what a person starts with `python -m beam_job COMMAND`."""

__version__ = "1.0.0"
