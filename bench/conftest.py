"""Options, the fixture that sets up a contest, and what is reported at the end."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import pairs, picture, report
from bench.contests import Match

RESULTS = Path(__file__).parent / "results"
_results = pytest.StashKey[list[report.Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this suite."""
    group = parser.getgroup("agclip")
    group.addoption("--large", action="store_true", help="run the largest workloads too")
    group.addoption(
        "--publish", action="store_true", help="keep the ratios as the last result of bench/README"
    )


# Before pytest-benchmark's own, which reads the option.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have the absolute times written down, and make room for the ratios."""
    config.addinivalue_line("markers", "large: needs gigabytes and minutes; see --large")
    warnings.filterwarnings("ignore", "Not saving anything")  # a selection may be empty
    config.stash[_results] = []
    if config.option.benchmark_json is None and not config.option.benchmark_disable:
        config.option.benchmark_json = RESULTS / "times.json"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the largest workloads, and keep each test short."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(max_time=0.15, min_rounds=3))
    if not config.getoption("--large"):
        large = [item for item in items if item.get_closest_marker("large")]
        config.hook.pytest_deselected(items=large)
        items[:] = [item for item in items if item not in large]


@pytest.fixture(scope="module")
def match(request: pytest.FixtureRequest) -> Match:
    """Return a contest on a workload, its ratios measured."""
    made = Match(*request.param)
    if not request.config.option.benchmark_disable:
        times = pairs.alternate(made.calls)
        request.config.stash[_results].append(report.Result(made.contest, made.workload, times))
    return made


@pytest.fixture(autouse=True)
def _grouped(benchmark: BenchmarkFixture, match: Match) -> None:
    benchmark.group = f"{match.contest.title}: {match.workload.title}"


# After pytest-benchmark's own table.
@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the ratios, and write them and their picture to the folder of results."""
    results = config.stash[_results]
    if not results:
        return
    terminalreporter.section("ratios")
    for line in report.lines(results):
        terminalreporter.write_line(line)
    for name in ("ratios", "last") if config.getoption("--publish") else ("ratios",):
        report.save(results, RESULTS / f"{name}.json")
        picture.save(results, RESULTS / f"{name}.png")
    terminalreporter.write_line(f"Written to {RESULTS}: times.json, ratios.json, ratios.png.")
