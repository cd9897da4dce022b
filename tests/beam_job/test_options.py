import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import DirectOptions, SetupOptions, StandardOptions

from beam_job.cli import parse
from beam_job.compress.options import CompressOptions
from beam_job.runners.beam_flags import BeamFlags
from transforms.errors import UsageError

COMPRESS = ["compress", "--dataset=sample", "--output=o"]


def test_defaults():
    _, options, left = parse(COMPRESS)
    assert isinstance(options, CompressOptions)
    assert (options.batch_size, options.shard_size, options.max_rejects) == (1024, 16384, 0)
    assert (options.orientation, options.model, options.overwrite) == ("auto", None, False)
    assert left.flags == ()


def test_a_tilde_is_the_home_folder_even_behind_an_equals_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = parse(["compress", "--input=~/x.npy", "--output=~/o"]).options
    assert isinstance(options, CompressOptions)
    assert (options.input, options.output) == (("/home/me/x.npy",), "/home/me/o")


def test_without_runner_the_job_runs_on_beams_local_runner():
    options = BeamFlags().options
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    assert options.view_as(SetupOptions).save_main_session is False


def test_beams_flags_are_passed_through():
    left = parse([*COMPRESS, "--runner=DirectRunner", "--direct_num_workers=2"]).beam_flags
    options = left.options
    assert options.view_as(StandardOptions).runner == "DirectRunner"
    assert options.view_as(DirectOptions).direct_num_workers == 2


def test_runners_with_flags_of_their_own_judge_those_themselves():
    flags = BeamFlags(("--runner=FlinkRunner", "--parallelism=2"))
    assert flags.options.view_as(StandardOptions).runner == "FlinkRunner"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nosuch=1"], "no flag --nosuch"),
        (["--shard_sise=1"], "did you mean --shard_size"),
        (["--batch=1"], "no flag --batch"),
        (["--runner=NoSuchRunner"], "no runner NoSuchRunner"),
        (["--direct_num_workers=many"], "direct_num_workers"),
        (["stray"], "no flag stray"),
        ([__file__], "stands alone: give files by --input"),
    ],
)
def test_a_flag_that_nobody_knows_is_refused(flags: list[str], said: str):
    left = parse([*COMPRESS, *flags]).beam_flags
    with pytest.raises(UsageError, match=said):
        _ = left.options


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["compress", "--output=o"], "either --dataset=NAME or --input"),
        ([*COMPRESS, "--input=x"], "one of the two"),
        (["compress", "--dataset=sample"], "--output"),
        (["compress", "--dataset=nosuch", "--output=o"], "sample, balanced, byclass, bymerge"),
        ([*COMPRESS, "--shard_size=0"], "'0' is not a whole number of at least 1"),
        ([*COMPRESS, "--batch_size=-1"], "batch_size"),
        ([*COMPRESS, "--max_rejects=x"], "max_rejects"),
        ([*COMPRESS, "--orientation=sideways"], "sideways"),
        ([*COMPRESS, "--labels=x"], "--labels goes with --input"),
        (["nosuch"], "nosuch"),
    ],
)
def test_wrong_use_is_one_line(argv: list[str], said: str):
    with pytest.raises(UsageError, match=said) as error:
        parse(argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["compres", "--dataset=sample"], "compress"),
        (["stage", "--dataset=sampel"], "sample"),
        (["stage", "--datset=sample"], "--dataset"),
        ([*COMPRESS, "--engine=tensorflo"], "tensorflow"),
        ([*COMPRESS, "--runer=FlinkRunner"], "--runner"),
        ([*COMPRESS, "--runner=FlinkRuner"], "FlinkRunner"),
    ],
)
def test_what_may_be_meant_is_named(argv: list[str], meant: str):
    with pytest.raises(UsageError, match=rf"\(did you mean {meant}\?\)"):
        _ = parse(argv).beam_flags.options


def test_no_command_gives_a_page_whose_first_command_works(capsys):
    with pytest.raises(SystemExit):
        parse([])
    page = capsys.readouterr().out
    first = next(line for line in page.splitlines() if " compress --" in line)
    assert parse(["compress", *first.split(" compress ")[1].split()]).options.dataset == "sample"
    assert all(f"\n  {name} " in page for name in ("compress", "verify", "train", "stage"))


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("emnist-latents ")


def test_flags_come_behind_the_command():
    with pytest.raises(UsageError, match="--debug comes before the command"):
        parse(["--debug", *COMPRESS])


def test_runners_with_flags_of_their_own_do_not_take_a_slip_of_ours():
    with pytest.raises(UsageError, match="did you mean --dataset"):
        _ = parse([*COMPRESS, "--runner=FlinkRunner", "--datast=sample"]).beam_flags.options


def test_wrong_use_is_one_line_and_imports_no_beam():
    argv = [sys.executable, "-X", "importtime", "-m", "beam_job", "compress", "--dataset=nosuch"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert len(said) == 1, said
    assert "apache_beam" not in done.stderr


@pytest.mark.parametrize("command", [[], ["compress"], ["stage"]])
def test_help_names_each_flag_and_imports_neither_beam_nor_tensorflow(command: list[str]):
    script = (
        "import sys, beam_job.__main__ as m\n"
        "try: m.run(sys.argv[1:])\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "loaded = {'apache_beam', 'tensorflow', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    argv = [sys.executable, "-c", script, *command, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = " ".join(done.stdout.split())
    assert "Exit status: 0 done, 1 the run failed, 2 wrong use or input, 130 interrupted" in said
    assert ("3 done with rejects" in said) == (command != ["stage"])
    if command == ["compress"]:
        for flag in ("--shard_size N", "--max_rejects N", "--orientation", "(default: 1024)"):
            assert flag in done.stdout


@pytest.mark.parametrize("command", ["compress", "reconstruct"])
@pytest.mark.parametrize(
    "mode",
    [
        ["--direct_running_mode=multi_processing"],
        ["--direct_num_workers=2", "--direct_running_mode", "multi_processing"],
        ["--direct_running_mode=in_memory", "--direct_running_mode=multi_processing"],
    ],
    ids=len,
)
def test_worker_processes_are_refused(command: str, mode: list[str]):
    with pytest.raises(UsageError, match=r"took 1\.2 to 1\.5 times as long"):
        parse([command, "--input=run", "--output=o", *mode])


@pytest.mark.parametrize("mode", ["multi_threading", "in_memory"])
def test_other_modes_of_the_local_runner_are_taken(mode: str):
    flag = f"--direct_running_mode={mode}"
    assert parse([*COMPRESS, flag]).beam_flags.flags == (flag,)


def test_worker_processes_are_refused_before_beam_is_imported():
    flags = ["--input=f", "--output=o", "--direct_running_mode=multi_processing"]
    argv = [sys.executable, "-X", "importtime", "-m", "beam_job", "compress", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "apache_beam" not in done.stderr
