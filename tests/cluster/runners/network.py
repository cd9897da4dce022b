"""Machines of a small network, as far as processes can tell: each has its own addresses and disk.

They are network and mount namespaces of Linux, joined by a bridge. Whoever makes them has to be
root in a network namespace of its own, as `unshare --map-root-user --net --mount` makes anybody.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BRIDGE, HERE = "bridge", "10.99.0.1"
"""What joins the machines, and the address by which they reach this process's namespace."""


@dataclass(frozen=True)
class Machine:
    """One of them. pid: of the process that holds its namespaces."""

    address: str
    pid: int

    def command(self, *command: str) -> list[str]:
        """A command line that runs a command on this machine."""
        return ["nsenter", "--net", "--mount", f"--target={self.pid}", "--", *command]


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Joins this process's namespace to those of machines that are made in the block."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "addr", "add", f"{HERE}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    try:
        yield
    finally:
        _run("ip", "link", "delete", BRIDGE)


@contextlib.contextmanager
def machine(number: int, disk: Path) -> Iterator[Machine]:
    """A machine of the network; number: 2 to 254, each once. disk: a folder that is its own."""
    script = 'mount -t tmpfs tmpfs "$0" && ip link set lo up && echo up && exec sleep infinity'
    command = ["unshare", "--net", "--mount", "sh", "-c", script, str(disk)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "up\n"
            made = Machine(f"10.99.0.{number}", holder.pid)
            inside = made.command("ip")
            link = f"machine{number}"
            _run("ip", "link", "add", link, "type", "veth", "peer", "eth0", "netns", str(made.pid))
            _run("ip", "link", "set", link, "master", BRIDGE, "up")
            _run(*inside, "addr", "add", f"{made.address}/24", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            yield made
        finally:
            holder.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
