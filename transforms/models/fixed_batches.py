"""A model handler for RunInference where an element is a batch already."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from apache_beam.ml.inference.base import ModelHandler

from transforms.models.network import Network

BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT")


class WholeBatchHandler(ModelHandler[BatchT, ResultT, Network], Generic[BatchT, ResultT]):
    """Loads a network once a process, and makes one result of each batch."""

    def __init__(self, metrics_namespace: str) -> None:
        super().__init__()
        self._metrics_namespace = metrics_namespace

    @abstractmethod
    def result(self, batch: BatchT, network: Network) -> ResultT:
        """What the network makes of a batch."""

    @abstractmethod
    def batch_bytes(self, batch: BatchT) -> int:
        """The bytes that a batch holds; Beam's own way pickles the batch to find out."""

    def run_inference(  # type: ignore[override]  # The element is the batch.
        self,
        batch: BatchT,
        model: Network,
        inference_args: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Sequence[ResultT]:
        return [self.result(batch, model)]

    def should_skip_batching(self) -> bool:
        """An element is a batch already."""
        return True

    def get_num_bytes(self, batch: BatchT) -> int:  # type: ignore[override]
        return self.batch_bytes(batch)

    def get_metrics_namespace(self) -> str:
        return self._metrics_namespace
