"""A skipped test fails the suite, unless it needs data that are not here."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.needs_data
def test_with_data():
    pass

@pytest.mark.skip(reason="tired")
def test_by_mark():
    pass

def test_by_call():
    pytest.skip("lazy")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    assert False

def test_sound():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Path:
    """A repository with this suite's conftest."""
    folder = pytester.mkdir("repository") / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (folder / "test_some.py").write_text(TESTS)
    pytester.makeini("[pytest]\nmarkers = needs_data: as ours")
    return folder


def test_without_the_data_only_tests_that_need_them_are_skipped(pytester, suite):
    result = pytester.runpytest_inprocess(suite, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1, errors=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        ["*test_by_mark may not be skipped. *tired*", "*test_by_call may not be skipped. *lazy*"]
    )


def test_with_the_data_nothing_is_skipped(pytester, suite):
    (suite.parents[1] / "shared/data").mkdir(parents=True)
    (suite / "test_other.py").write_text(
        "import pytest\n\n@pytest.mark.needs_data\ndef test_it():\n    pytest.skip('gone')\n"
    )
    (suite / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    result = pytester.runpytest_inprocess(suite, "-p", "no:cacheprovider", "--continue-on-collection-errors")
    result.assert_outcomes(passed=2, failed=2, errors=2, xfailed=1)
    result.stdout.fnmatch_lines(["*test_module.py may not be skipped. *no_such_package*"])
