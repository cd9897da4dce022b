"""What of the libraries' own noise reaches a person."""

import threading

import grpc
import pytest

from beam_job.logs import set_up_logging


class _HungUp(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(("error", "told"), [(_HungUp(), False), (ValueError("ours"), True)])
def test_a_worker_thread_whose_runner_hung_up_says_nothing(
    monkeypatch, capsys, error: Exception, told: bool
):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    set_up_logging(debug=False)

    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert bool(capsys.readouterr().err) == told
