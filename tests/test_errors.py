import inspect

import pytest

from recsys import errors

OWN = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


@pytest.mark.parametrize("error", OWN)
def test_every_error_can_be_caught_as_one(error):
    assert issubclass(error, errors.RecsysError)


@pytest.mark.parametrize("error", OWN)
def test_asking_for_nonsense_exits_2_and_all_else_exits_1(error):
    assert error.exit_code == (2 if issubclass(error, errors.UsageError) else 1)
