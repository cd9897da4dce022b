"""A part of a campaign that atheris guides by coverage, in the process that it wants for itself.

`python -m tests.campaigns.guided READER SEED RUNS OUTPUT`, as tests/campaigns/fuzz.py starts it.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["beam_job", "transforms", "tests.campaigns.readers"]):
    from tests.campaigns.fuzz import FAST, MAX_BYTES, MAX_SECONDS, PATIENCE, Box, problem_of
    from tests.campaigns.readers import READERS


def main() -> None:
    """Runs atheris on a reader; it ends the process, with another status than 0 for a finding."""
    name, seed, runs, output = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    reader = READERS[name]
    seeds = reader.seeds()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-guided-", dir=FAST) as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, content in enumerate(seeds):
            (corpus / str(number)).write_bytes(content)
        (Path(folder) / "box").mkdir()
        box = Box(Path(folder, "box"))

        for content in seeds:  # What is imported late is no input's.
            problem_of(reader.read, content, box)

        def test_one_input(content: bytes) -> None:
            problem = problem_of(reader.read, content, box)
            if problem is not None:
                raise AssertionError(f"PROBLEM {problem}")

        def mutate(content: bytes, most: int, number: int) -> bytes:
            random = Random(f"{seed} {number}")
            if random.random() < 0.5:
                return atheris.Mutate(content, most)
            try:
                return reader.mutate(random, [content])[:most]
            except Exception:  # noqa: BLE001  # What guided mutation left has no structure to alter.
                return reader.mutate(random, seeds)[:most]

        atheris.Setup(
            [
                sys.argv[0],
                f"-seed={seed + 1}",
                f"-runs={runs}",
                f"-timeout={round(MAX_SECONDS) * PATIENCE}",
                f"-rss_limit_mb={(2 * MAX_BYTES >> 20) + 1024}",
                f"-artifact_prefix={output}/{name}-guided-",
                f"-max_len={max(4096, 4 * max(map(len, seeds)))}",
                "-print_final_stats=1",
                str(corpus),
            ],
            test_one_input,
            custom_mutator=mutate,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
