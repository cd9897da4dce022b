"""What is said on stderr: our own lines, and no more of Beam's than a person needs."""

import logging
import sys


def set_up_logging(*, debug: bool) -> None:
    """Our own lines and others' warnings; with `debug`, all that Beam has to say.

    Call it before Beam is imported, which warns of optional packages while it is.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("beam_job").setLevel(logging.INFO)
    if debug:
        logging.getLogger().setLevel(logging.INFO)
        return
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_for_a_person)


def _is_for_a_person(record: logging.LogRecord) -> bool:
    """Drops what Beam says through the root logger, and the traceback of what we raise ourselves.

    The first is of optional packages that are not installed (Google Cloud's, PyTorch); the second
    arrives as an exception too, and is told once, in one line.
    """
    from_beam = "apache_beam" in record.pathname
    optional_packages = record.name == "root" and record.levelno < logging.ERROR
    traceback = record.exc_info is not None or "Traceback" in record.getMessage()
    return not (from_beam and (optional_packages or traceback))
