"""What every test may use, and how property tests draw their examples.

Hypothesis' own profile `ci` judges no example by its time: a slow machine would fail the test, and then shrink the
example for minutes. Its examples are the same in each run, so that a failure is one of the change under test.
`make test-all` draws other examples each time (`--hypothesis-profile=explore`).
"""

from hypothesis import settings

pytest_plugins = (
    "tests.support.bounds",
    "tests.support.clusters",
    "tests.support.node_packages",
    "tests.support.second_try",
    "tests.support.side_by_side",
)

settings.register_profile("repeatable", settings.get_profile("ci"))
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False)
settings.load_profile("repeatable")
