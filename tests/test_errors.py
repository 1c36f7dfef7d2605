"""The tree of exceptions and its exit codes."""

import pickle

import pytest

import gpufuse
from gpufuse import errors

TABLE = [
    ("ConfigError", 2, ValueError),
    ("InputError", 3, OSError),
    ("DamagedInputError", 4, errors.GpufuseError),
    ("LimitError", 5, errors.GpufuseError),
    ("PairError", 6, ValueError),
    ("OutputError", 7, OSError),
    ("DeviceError", 8, RuntimeError),
    ("BatchError", 11, Exception),
]


@pytest.mark.parametrize(("name", "code", "base"), TABLE)
def test_codes_and_bases(name, code, base):
    kind = getattr(gpufuse, name)
    assert kind is getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, errors.GpufuseError)
    assert issubclass(kind, base)
    assert str(kind("day: expected this, got that; mend it")) == "day: expected this, got that; mend it"


def test_the_table_is_complete():
    assert {name for name, *_ in TABLE} | {"GpufuseError"} == set(errors.__all__)
    codes = [kind.exit_code for kind in (errors.GpufuseError, *errors.GpufuseError.__subclasses__())]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {0, 1, 130}


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_cross_processes(name):
    error = pickle.loads(pickle.dumps(getattr(errors, name)("text")))
    assert type(error).__name__ == name
    assert str(error) == "text"
