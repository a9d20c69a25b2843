"""The command that started a sweep, as its trials type it."""

from __future__ import annotations

from pathlib import Path

import pytest

from darts_hpo.errors import ConfigError
from hydra_plugins.darts_hpo_botorch._command import Command, original_command


def command(original: list[str], seen: list[str]) -> Command:
    return original_command(["python", *original], seen, "PY")


HERE = str(Path("app.py").absolute())


@pytest.mark.parametrize(
    ("original", "seen", "program", "arguments"),
    [
        (["app.py", "a=1"], ["app.py", "a=1"], ("PY", HERE), ("a=1",)),
        (["app.py", "a=1"], ["app.py", "changed=1"], ("PY", HERE), ("a=1",)),  # the program changed what it sees
        (["-u", "-Xdev", "-W", "error", "app.py"], ["app.py"], ("PY", "-u", "-Xdev", "-W", "error", HERE), ()),
        (
            ["--check-hash-based-pycs", "never", "app.py"],
            ["app.py"],
            ("PY", "--check-hash-based-pycs", "never", HERE),
            (),
        ),
        (["-m", "pkg.app", "-m"], ["/x/pkg/app.py", "-m"], ("PY", "-m", "pkg.app"), ("-m",)),
        (["-um", "pkg"], ["/x/pkg/__main__.py"], ("PY", "-u", "-m", "pkg"), ()),
        (["-mpkg", "a=1"], ["/x/pkg/__main__.py"], ("PY", "-m", "pkg"), ("a=1",)),
        (["-c", "main()", "a=1"], ["-c", "a=1"], ("PY", "-c", "main()"), ("a=1",)),
        (["/bin/their-app", "a=1"], ["/bin/their-app"], ("PY", "/bin/their-app"), ("a=1",)),
        (["-X", "importtime", "-m", "pdb", __file__, "a=1"], [__file__, "a=1"], ("PY", __file__), ("a=1",)),
    ],
)
def test_the_program_and_its_arguments(original, seen, program, arguments):
    assert command(original, seen) == Command(program, arguments)


@pytest.mark.parametrize(
    ("original", "seen"),
    [(["-m", "pytest", "tests"], ["nowhere.py", "-m"]), (["/bin/pytest"], ["nowhere.py"]), ([], [""])],
)
def test_a_sweep_that_is_no_program_of_its_own_is_refused(original, seen):
    with pytest.raises(ConfigError, match="hydra/sweeper/executor=launcher"):
        command(original, seen)


def test_what_makes_it_a_sweep_is_left_out():
    arguments = (
        *("--multirun", "-m", "--multi", "+experiment=toy", "lr=interval(0,1)", "++momentum=0.1,0.2", "seed=3", "~old"),
        *(
            "hydra/sweeper=botorch",
            "hydra/sweeper/sampler=tpe",
            "hydra.sweeper.n_trials=3",
            "+hydra.sweeper.params.a=1",
        ),
        *("hydra.sweep.dir=here", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.mode=MULTIRUN"),
        *("hydra.run.dir=x", "hydra.job.num=1", "hydra.job.chdir=true", "hydra/job_logging=none", "hydra.sweeping=1"),
        *("--config-path", "lr=odd", "-cn", "other", "--config-dir=more", "db@old=a", "extra"),
    )
    kept = Command(("PY",), arguments).without_sweep(["lr", "momentum", "db@old"]).arguments
    assert kept == (
        *("+experiment=toy", "seed=3", "~old", "hydra.job.chdir=true", "hydra/job_logging=none", "hydra.sweeping=1"),
        *("--config-path", "lr=odd", "-cn", "other", "--config-dir=more", "extra"),
    )
