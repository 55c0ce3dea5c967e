"""Options, the fixture that sets up a contest, and what is reported at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import accelerate, memory, pairs, picture, publish, report
from bench.contests import Match

accelerate.use()  # before any benchmark asks agclip for something

HERE = Path(__file__).parent
RESULTS = HERE / "results"
_results = pytest.StashKey[list[report.Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this suite."""
    group = parser.getgroup("agclip")
    group.addoption("--large", action="store_true", help="run the largest workloads too")
    group.addoption("--publish", action="store_true", help="write the result into bench/README.md")


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
        times = pairs.alternate(made.calls, made.around)
        result = report.Result(made.contest, made.workload, times, _peaks(made))
        request.config.stash[_results].append(result)
    return made


def _peaks(made: Match) -> dict[str, int]:
    if made.workload.name != made.contest.memory:
        return {}
    peaks = {}
    for name in made.host_names():
        with made.around(name):
            peaks[name] = memory.peak(made.calls[name])
    return peaks


@pytest.fixture(autouse=True)
def _grouped(benchmark: BenchmarkFixture, match: Match, name: str) -> Iterator[None]:
    benchmark.group = f"{match.contest.title}: {match.workload.title}"
    with match.around(name):
        yield


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
    report.save(results, RESULTS / "ratios.json")
    picture.save(results, RESULTS, "ratios")
    terminalreporter.write_line(f"Written to {RESULTS}: times.json, ratios.json, ratios-*.png.")
    if config.getoption("--publish"):
        publish.save(results, HERE / "README.md", RESULTS)
