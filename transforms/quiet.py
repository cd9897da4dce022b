"""Keeping native libraries from writing where only errors belong."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """Keeps file descriptor 2 quiet, and shows what was held back if the block fails.

    TensorFlow's C++ writes there whatever TF_CPP_MIN_LOG_LEVEL says
    (github.com/tensorflow/tensorflow/issues/100442), and so does LiteRT's.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, contextlib.ExitStack() as stack:
        shown = os.dup(2)
        stack.callback(os.close, shown)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
