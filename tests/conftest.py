"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

STRICT = os.environ.get("CI") == "true"

# A submission is judged by the same examples each time; developers' runs look for new ones. No test asserts a time.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if STRICT else "here")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped test is a failed one, unless its `platform` mark says where it cannot run.

    A missing engine would otherwise turn the tests that need it into green ones.
    """
    report = yield
    skipped = report.outcome == "skipped" and not hasattr(report, "wasxfail")
    if STRICT and skipped and item.get_closest_marker("platform") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module (`pytest.importorskip`)."""
    report = yield
    if STRICT and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped where nothing may be skipped: {report.longrepr}"
    return report
