"""The exit statuses of all commands.

DONE: done; of verify: the run is whole. FAILED: the run failed; of verify: it is not whole. WRONG:
wrong use or input (a flag, a file, a model, an output), and nothing was done. WITH_REJECTS: of
compress with --max_rejects=N, done and complete, where no more than N images could not be read;
with --no_wait nobody is there to see, and it is DONE. INTERRUPTED: by Ctrl-C or SIGTERM.
"""

DONE, FAILED, WRONG, WITH_REJECTS, INTERRUPTED = 0, 1, 2, 3, 130

STATUSES = (
    f"Exit status: {DONE} done, {FAILED} the run failed, {WRONG} wrong use or input, "
    f"{INTERRUPTED} interrupted"
)
"""For a command's help."""
REJECTS_STATUS = f"{WITH_REJECTS} done with rejects, no more than --max_rejects"
