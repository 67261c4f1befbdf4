"""The restricted unpickler: it reads plain data of every protocol, and runs no code."""

import builtins
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.errors import InputError
from tools.formats.safe_pickle import load, loads

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
DATA = [
    np.arange(6, dtype="f4").reshape(2, 3),
    np.arange(6, dtype=">f8").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype="f2").reshape(2, 3)),
    np.arange(6).reshape(2, 3)[:, ::2],
    np.array(["protein", "a"]),
    np.array([b"xy"]),
    np.array(True),
]


class Reduced:
    """Object whose pickle rebuilds it in a given way; see `object.__reduce__`."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def call(function: object, *args: object) -> Reduced:
    """Returns an object whose pickle calls a function."""
    return Reduced(function, args)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_of_every_protocol_is_read(protocol: int) -> None:
    value = {"node_index": [1, 2], "x": (1.5, "é", None, True, 10**30), 3: np.float32(0.1)}
    assert loads(pickle.dumps(value, protocol), "x") == value
    for array in DATA:
        result = loads(pickle.dumps({"x": [array]}, protocol), "x")["x"][0]
        np.testing.assert_array_equal(np.asarray(result), array, strict=array.dtype.isnative)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (call(os.system, "touch {}"), r"(posix|nt)\.system"),
        (call(subprocess.run, ["touch", "{}"]), r"(subprocess|commands)\.run"),
        (call(builtins.eval, "open('{}', 'w')"), r"(builtins|__builtin__)\.eval"),
        (call(getattr, call(__import__, "os"), "system"), r"(builtins|__builtin__)\."),
        (call(np.load, "{}"), r"numpy\.load"),
        (call(np.fromfile, "{}"), r"numpy.*fromfile"),
    ],
)
def test_a_hostile_pickle_runs_nothing(
    tmp_path: Path, protocol: int, hostile: Reduced, name: str
) -> None:
    mark = tmp_path / "mark"  # the file that the hostile call would create

    def with_path(arg: object) -> object:
        if isinstance(arg, list):
            return [with_path(a) for a in arg]
        return arg.replace("{}", str(mark)) if isinstance(arg, str) else arg

    function, args = hostile.reduced
    value = {"node_index": [1], "embedding": {"deep": [call(function, *map(with_path, args))]}}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(InputError, match=rf"x\.pkl: asks for {name}.*Nothing of it was run"):
        load(path)
    assert not mark.exists()


def test_an_attribute_of_an_allowed_name_is_refused() -> None:
    dotted = b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93."
    with pytest.raises(InputError, match=r"asks for numpy\.ndarray\.__class__"):
        loads(dotted, "x")


def array_pickle(shape: object, dtype: object, data: object) -> bytes:
    """Returns a pickle of an array with a forged state."""
    array = np.zeros(2, "f4")
    reconstruct, args, (version, _, _, fortran, _) = array.__reduce__()
    return pickle.dumps(Reduced(reconstruct, args, (version, shape, dtype, fortran, data)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(np.array([{}, []], object)), "dtype 'O8'; only plain numbers and text"),
        (pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "i4")])), "dtype 'V8'"),
        (array_pickle((1 << 40,), np.dtype("f4"), b"1234"), "holds 4 bytes for an array"),
        (array_pickle((-1,), np.dtype("f4"), b"1234"), "holds an array of shape"),
        (array_pickle((1,), "f4", b"1234"), "not of plain bytes"),
        (array_pickle((1,), np.dtype("f4"), [1]), "not of plain bytes"),
        (b"not a pickle", "not a pickle of plain data, or damaged"),
        (pickle.dumps([1, 2])[:-3], "damaged"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "reference 'a' to data elsewhere"),
    ],
)
def test_arrays_of_anything_but_plain_values_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        loads(data, "x")


def test_a_tensor_is_refused_with_a_remedy() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"torch\..*a PyTorch tensor.*cpu\(\)\.numpy\(\)"):
        loads(pickle.dumps({"embedding": torch.zeros(3)}), "x")
