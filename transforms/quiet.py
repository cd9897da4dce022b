"""Importing what is large: without what it writes, and without what need not be done."""

import contextlib
import gc
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


_OWN = {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg"}


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """Lets Keras and Matplotlib be imported as they are used here.

    A notebook, whose settings whatever it starts inherits, has others.
    """
    theirs = {name: os.environ.get(name) for name in _OWN}
    os.environ.update(_OWN)
    try:
        yield
    finally:
        for name, value in theirs.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Pauses the garbage collector: over and over it would walk all that is being imported.

    Beam, TensorFlow and Keras together take 2.4 to 2.7 s to import without it, 3.0 with it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # What was imported stays, so that later collections need not walk it either.
        if was_enabled:
            gc.enable()
