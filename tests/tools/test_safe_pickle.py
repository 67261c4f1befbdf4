"""The restricted unpickler: it reads data of every protocol, and runs nothing."""

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


class Call:
    """Pickles to a call."""

    def __init__(self, function: object, *args: object) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_of_every_protocol_is_read(protocol: int) -> None:
    value = {"node_index": [1, 2], "x": (1.5, "é", None, True, 10**30), 3: np.float32(0.1)}
    assert loads(pickle.dumps(value, protocol), "x") == value
    for array in DATA:
        found = loads(pickle.dumps({"x": [array]}, protocol), "x")["x"][0]
        np.testing.assert_array_equal(np.asarray(found), array, strict=array.dtype.isnative)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Call(os.system, "touch {}"), r"(posix|nt)\.system"),
        (Call(subprocess.run, ["touch", "{}"]), r"(subprocess|commands)\.run"),
        (Call(builtins.eval, "open('{}', 'w')"), r"(builtins|__builtin__)\.eval"),
        (Call(getattr, Call(__import__, "os"), "system"), r"(builtins|__builtin__)\."),
        (Call(np.load, "{}"), r"numpy\.load"),
        (Call(np.fromfile, "{}"), r"numpy.*fromfile"),
    ],
)
def test_a_hostile_pickle_runs_nothing(
    tmp_path: Path, protocol: int, call: Call, named: str
) -> None:
    mark = tmp_path / "mark"
    function, args = call.reduced
    aimed = [a.replace("{}", str(mark)) if isinstance(a, str) else a for a in args]
    aimed = [[s.replace("{}", str(mark)) for s in a] if isinstance(a, list) else a for a in aimed]
    value = {"node_index": [1], "embedding": {"deep": [Call(function, *aimed)]}}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(InputError, match=rf"x\.pkl: asks for {named}.*Nothing of it was run"):
        load(path)
    assert not mark.exists()


def test_an_attribute_of_what_is_admitted_is_refused() -> None:
    dotted = b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93."
    with pytest.raises(InputError, match=r"asks for numpy\.ndarray\.__class__"):
        loads(dotted, "x")


def state(shape: object, dtype: object, data: object) -> bytes:
    """A pickle that builds an array from a state of its own making."""
    array = np.zeros(2, "f4")
    reconstruct, args, (version, _, _, fortran, _) = array.__reduce__()
    return pickle.dumps(_Built((reconstruct, args, (version, shape, dtype, fortran, data))))


class _Built:
    def __init__(self, reduced: tuple) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(np.array([{}, []], object)), "dtype 'O8'; only plain numbers and text"),
        (pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "i4")])), "dtype 'V8'"),
        (state((1 << 40,), np.dtype("f4"), b"1234"), "holds 4 bytes for an array"),
        (state((-1,), np.dtype("f4"), b"1234"), "holds an array of shape"),
        (state((1,), "f4", b"1234"), "not of plain bytes"),
        (state((1,), np.dtype("f4"), [1]), "not of plain bytes"),
        (b"not a pickle", "not a pickle of plain data, or damaged"),
        (pickle.dumps([1, 2])[:-3], "damaged"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "reference 'a' to data elsewhere"),
    ],
)
def test_arrays_of_anything_but_plain_values_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        loads(data, "x")


def test_a_tensor_is_named_and_the_way_out() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"torch\..*a PyTorch tensor.*cpu\(\)\.numpy\(\)"):
        loads(pickle.dumps({"embedding": torch.zeros(3)}), "x")
