"""Worker processes of Beam's local runner that end with their launcher, and are missed when lost.

Beam starts processes of its own (`--direct_running_mode=multi_processing`): where one is killed
before it has called back, its launcher waits for ever, and where the launcher is killed then, they
wait for a minute or two. Registered here in place of Beam's.
"""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import grpc
from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    SUBPROCESS_LOCK,
    GrpcWorkerHandler,
    WorkerHandler,
)
from google.protobuf import json_format, text_format

from transforms.errors import RunError

LOST = (
    "a worker process ended before its work was done, because it was killed or had too little "
    "memory: run it again, with a smaller --direct_num_workers if memory is short"
)

_POLL_SECONDS = 0.5
_STOP_SECONDS = 5.0
"""How long a worker that has nothing left to do may take to end."""


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class WorkerProcess(GrpcWorkerHandler):
    """A worker of this launcher's; what waits for it gets a RunError when it is lost."""

    def __init__(self, _: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        """Beam hands over the command that it would start, which is not needed."""
        super().__init__(state, provision_info, grpc_server)
        self._stopping = threading.Event()

    def start_worker(self) -> None:
        provisioned = self.provision_info.provision_info.pipeline_options
        environment = {
            **os.environ,
            "WORKER_ID": self.worker_id,
            "PIPELINE_OPTIONS": json_format.MessageToJson(provisioned),
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
                self.control_api_service_descriptor()
            ),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
                self.logging_api_service_descriptor()
            ),
        }
        command = [sys.executable, "-m", "beam_job.worker_process", str(os.getpid())]
        with SUBPROCESS_LOCK:
            self._process = subprocess.Popen(command, env=environment)  # noqa: S603
        threading.Thread(target=self._miss, name="worker_process", daemon=True).start()

    def _miss(self) -> None:
        """Tells whoever waits for the worker, now or later, that it is lost."""
        self._process.wait()
        if not self._stopping.is_set():
            self._close_data()
        while not self._stopping.wait(_POLL_SECONDS):
            with suppress(RuntimeError):  # Somebody has just begun to wait, or ceased: next time.
                self.control_conn.abort(RunError(LOST))

    def _close_data(self) -> None:
        with suppress(grpc.RpcError):  # How the stream from the worker ended.
            self.data_conn.close()

    def close(self) -> None:
        self._stopping.set()
        if self.control_conn._futures_by_id:  # noqa: SLF001  # Else it finishes that, perhaps long.
            self._process.kill()
        self.control_conn.close()
        self._close_data()
        self.stop_worker()

    def stop_worker(self) -> None:
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:  # It called back too late to be told.
            self._process.kill()
            self._process.wait()


def main(launcher: int) -> None:
    """Works for the launcher of this process id, as long as that lives."""
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
