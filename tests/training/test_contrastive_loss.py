"""Both reductions, one direction and both, against a dense float64 reference on 1 to 8 devices."""

import jax
import pytest

from bridge_jax.distributed.mesh import make_mesh
from tests.helpers.loss_cases import TOLERANCE, check


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("devices", "table"), [(1, 1), (2, 1), (4, 2), (8, 1)])
def test_the_forms_agree_with_the_dense_reference(devices, table, dtype):
    with jax.enable_x64(True):
        check(make_mesh(8, devices, table), dtype)
