"""Whole processes, interleaved: the job, beside what people would use instead.

`make bench`, or `EMNIST_DATA=FOLDER python -m benchmarks.run` once that has made the rivals'
environments (needs psutil, Linux, and Java for Spark). Writes RESULTS.md, RESULTS.json and
results.svg.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.contest import GROWING, HAND_WRITTEN, WAYS, Contest, Way
from benchmarks.digits import add_data_flag, load_images
from benchmarks.plot import as_svg
from benchmarks.results import Results, as_json, as_markdown
from benchmarks.rounds import Bench

_GROWTH_SIZES = (18_800, 112_800, 376_000, 1_128_000)
_GROWTH_REPEATS = 2


def main() -> None:
    """Runs the benchmark, and writes the results as Markdown, JSON and SVG."""
    flags = _flags()
    ways = [WAYS[name] for name in flags.ways]
    contest = Contest(flags.one_environment)
    if missing := contest.missing(ways):
        sys.exit(f"not there: {', '.join(missing)}; `make bench` makes them")
    if any(way.environment == "spark" for way in ways) and shutil.which("java") is None:
        sys.exit("not there: java, which Spark needs; install Java 17, or choose other --ways")
    facts = {**machine.facts(flags), **_versions(contest, ways)}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        bench = Bench(contest, load_images(flags.data), Path(folder))
        bench.warm_up(ways)
        rounds = bench.rounds(ways, flags.images, flags.repeats)
        results = Results(facts, flags.images, _multiply_adds(), rounds, {})
        _write(results, flags.output)  # Growth takes long, and may be stopped.
        growing = [way for way in GROWING if way in ways and flags.growth]
        repeats = min(flags.repeats, _GROWTH_REPEATS)
        growth = bench.growth(growing, flags.growth, repeats, rounds.expected)
    if growth:
        _write(results._replace(growth=growth), flags.output)


def _write(results: Results, output: Path) -> None:
    picture = output.with_name(f"{output.stem.lower()}.svg")
    text = as_markdown(results, picture.name)
    print(text)
    output.write_text(text, encoding="utf-8")
    json_text = json.dumps(as_json(results), indent=2) + "\n"
    output.with_suffix(".json").write_text(json_text, encoding="utf-8")
    picture.write_text(as_svg(results), encoding="utf-8")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--images", type=int, default=112_800)
    parser.add_argument("--repeats", type=int, default=5)
    ways = f"which to run (default: all); {HAND_WRITTEN.name} always runs, as their measure"
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help=ways)
    sizes = "numbers of images for the growth of the job; none: no growth"
    parser.add_argument("--growth", nargs="*", type=int, default=_GROWTH_SIZES, help=sizes)
    here = "run the rivals in this Python, not each in an environment of its own"
    parser.add_argument("--one_environment", action="store_true", help=here)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "RESULTS.md")
    add_data_flag(parser)
    flags = parser.parse_args()
    if min(flags.images, flags.repeats, *flags.growth) < 1:
        parser.error("--images, --repeats and --growth are at least 1")
    if len(set(flags.growth)) == 1:
        parser.error("--growth needs two sizes for a line, or none")
    flags.ways = list(dict.fromkeys([HAND_WRITTEN.name, *flags.ways]))
    return flags


def _versions(contest: Contest, ways: Sequence[Way]) -> dict[str, str]:
    versions = {f"versions, {name}": text for name, text in contest.versions(ways).items()}
    if any(way.environment == "spark" for way in ways):
        versions["versions, java"] = machine.java()
    return versions


def _multiply_adds() -> int:
    from benchmarks.ways.encoder import load_encoder, multiply_adds

    return multiply_adds(load_encoder())


if __name__ == "__main__":
    main()
