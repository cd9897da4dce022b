import re
from pathlib import Path

from benchmarks.contest import JOB_INT8, RIVALS, WAYS, Contest

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "benchmarks/environments"


def test_every_rival_is_a_program_with_an_environment():
    assert {way.environment for way in RIVALS} == {path.stem for path in ENVIRONMENTS.glob("*")}
    for way in RIVALS:
        assert (ROOT / f"benchmarks/ways/{way.name}.py").exists()


def test_environments_have_bounds_and_those_of_the_package_for_what_computes():
    own = (ROOT / "setup.py").read_text()
    for path in ENVIRONMENTS.glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert all(">=" in line and "<" in line for line in lines), path
        shared = [line for line in lines if re.match(r"(tensorflow|keras|numpy)>", line)]
        assert len(shared) == 3
        assert all(f'"{line}",' in own for line in shared), path


def test_commands():
    rival = Contest(one_environment=False).command(WAYS["ray_data"], Path("in"), Path("out"))
    assert rival[0].endswith("/.venv-bench-ray/bin/python")
    assert rival[1:] == ["-m", "benchmarks.ways.ray_data", "in/parquet", "out"]
    job = Contest(one_environment=True).command(JOB_INT8, Path("in"), Path("out"))
    assert job[1:5] == ["-m", "beam_job", "compress", "--input=in/images.npy"]
    assert job[-2:] == ["--engine=litert", "--precision=int8"]
