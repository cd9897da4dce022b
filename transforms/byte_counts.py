"""Adding up byte counts in the pipeline."""

from collections.abc import Iterable

import apache_beam as beam

from transforms.sizes import Sizes, add_sizes


class ByteCounts(beam.CombineFn):
    """Adds up Sizes; the result is the same however the parts are grouped and merged."""

    def create_accumulator(self) -> Sizes:
        return Sizes()

    def add_input(self, mutable_accumulator: Sizes, element: Sizes) -> Sizes:
        return add_sizes([mutable_accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[Sizes]) -> Sizes:
        return add_sizes(accumulators)

    def extract_output(self, accumulator: Sizes) -> Sizes:
        return accumulator
