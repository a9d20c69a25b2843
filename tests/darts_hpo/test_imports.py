"""Dotted names within an allow-list."""

import pytest

from darts_hpo.errors import ConfigError, MissingDependencyError
from darts_hpo.imports import locate


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("darts_hpo.genotype", "module"),
        ("darts_hpo.genotype.Genotype", "type"),
        ("darts_hpo.genotype.Genotype.load", "method"),
        ("darts_hpo.runs.write_json", "function"),
        ("darts_hpo.config.IGNORED_BY_IDENTITY", "tuple"),
    ],
)
def test_allowed_names_are_found(target, found):
    assert type(locate(target)).__name__ == found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "outside the packages that may be named"),
        ("darts_hpo_evil.run", "Did you mean 'darts_hpo'"),
        ("darts_hpo.runs.provenance.subprocess.run", "leads to subprocess"),
        ("darts_hpo.runs.files.os", "leads to os"),
        ("darts_hpo.runs.files.suppress", "leads to contextlib"),
        ("darts_hpo.errors.DartsHPOError.mro", "leads to builtins"),
        ("darts_hpo.errors.DartsHPOError.__subclasses__", "private"),
        ("darts_hpo.errors.DartsHPOErorr", "Did you mean 'DartsHPOError'"),
        ("darts_hpo.genotyp.Genotype", "Did you mean 'genotype'"),
        ("darts_hpo.genotype.Genotype.lod", "Did you mean 'load'"),
        ("darts_hpo", "not a dotted name"),
        ("darts_hpo.runs:RunDirectory", "not a dotted name"),
        (None, "not a dotted name"),
    ],
)
def test_other_names_are_refused_with_the_nearest_valid_ones(target, message):
    with pytest.raises(ConfigError, match=message):
        locate(target)


def test_an_allowed_package_that_is_not_there(monkeypatch):
    with pytest.raises(ConfigError, match="no package 'not_installed_here'"):
        locate("not_installed_here.thing", ["not_installed_here."])


def test_a_module_whose_own_import_fails_names_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "needs_something.py").write_text("import something_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="pip install something_absent"):
        locate("needs_something.thing", ["needs_something"])
