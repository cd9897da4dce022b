"""What the benchmark ran on, and with which command."""

import argparse
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import psutil

_MEGABYTE = 1024 * 1024


def facts(flags: argparse.Namespace) -> dict[str, str]:
    """Command, size, date, machine and system."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    cpu = cpuinfo.partition("model name")[2].partition("\n")[0].strip("\t :") or "CPU"
    memory = psutil.virtual_memory().total / _MEGABYTE
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "command": shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
        "size": f"{flags.images:,} EMNIST digits, repeats: {flags.repeats}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "machine": f"{cpu}, {os.cpu_count()} cores, {memory:,.0f} MB of memory",
        "system": f"{system}, Linux {platform.release()}, Python {platform.python_version()}",
    }


def java() -> str:
    """The Java that Spark finds."""
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[0]
