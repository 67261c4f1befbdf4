"""A trained run as something to use: `bridge_jax.load` and `project`."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridge_jax
from bridge_jax.data.embedding_tables import Transform, whitening_matrix
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor

PROTEIN, FUNCTION = "gene/protein", "molecular_function"


@pytest.fixture(scope="module")
def bridge(trained) -> Predictor:
    return bridge_jax.load(trained)


def test_importing_the_package_imports_no_jax():
    code = "import sys, bridge_jax; print(callable(bridge_jax.load), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_raw_embeddings_are_projected_as_evaluation_projects_the_tables(bridge):
    experiment = bridge.experiment
    scorer, stored = experiment.scorer(bridge.params), experiment.tables[PROTEIN].stored
    tails = bridge.project(stored, source=PROTEIN)
    np.testing.assert_allclose(tails, scorer.tails(PROTEIN), atol=2e-7)
    kind = bridge.triple_type(PROTEIN, "interacts with", FUNCTION)
    queries = bridge.project(stored, source=PROTEIN, target=FUNCTION)
    expected = scorer.queries(kind, jnp.asarray(experiment.tables[PROTEIN].transform(stored)))
    np.testing.assert_allclose(queries, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    assert np.abs(queries - tails).max() > 0.1
    assert queries.dtype == np.float32


@pytest.mark.parametrize("count", [0, 1, 17, 200])
def test_every_number_of_rows_gives_the_same_vectors(bridge, count):
    stored = bridge.experiment.tables[PROTEIN].stored
    whole = bridge.project(stored, source=PROTEIN, target=FUNCTION)
    part = bridge.project(stored[:count], source=PROTEIN, target=FUNCTION)
    assert part.shape == (count, 16)
    np.testing.assert_allclose(part, whole[:count], atol=1e-6)
    in_blocks = bridge.project(stored[:count], source=PROTEIN, target=FUNCTION, block=7)
    np.testing.assert_allclose(in_blocks, whole[:count], atol=1e-6)


def test_a_block_size_compiles_once(bridge):
    embed = bridge.projector(PROTEIN, target=FUNCTION)
    x = np.asarray(bridge.experiment.tables[PROTEIN].stored[:40], np.float32)
    before = embed.func._cache_size()
    for start in (0, 20):
        embed(x[start : start + 20])
    bridge.project(x[:33], source=PROTEIN, target=FUNCTION, block=20)
    assert embed.func._cache_size() == before + 1


def test_a_whitened_table_is_whitened_before_the_model(bridge):
    table = bridge.experiment.tables[PROTEIN]
    x = np.asarray(table.stored, np.float32)
    mean = x.mean(axis=0)
    matrix = whitening_matrix(x - mean)
    whitened = dataclasses.replace(bridge, transforms={PROTEIN: Transform(mean, matrix)})
    plain = {PROTEIN: Transform(np.zeros_like(mean), np.ones_like(mean))}
    as_it_is = dataclasses.replace(bridge, transforms=plain)
    made = whitened.project(x, source=PROTEIN)
    np.testing.assert_allclose(made, as_it_is.project((x - mean) @ matrix, PROTEIN), atol=1e-5)
    assert np.abs(made - bridge.project(x, source=PROTEIN)).max() > 0.1


def test_a_diagonal_transform_is_kept_as_its_diagonal(bridge):
    table = bridge.experiment.tables[PROTEIN]
    mean, matrix = Transform.from_table(table)
    assert matrix.shape == mean.shape
    x = np.asarray(table.stored, np.float32)
    np.testing.assert_allclose((x - mean) * matrix, table.transform(table.stored), rtol=1e-6)


def test_names_that_follow_need_not_be_given(bridge):
    full = bridge.triple_type(PROTEIN, "interacts with", FUNCTION)
    assert bridge.triple_type(PROTEIN, target=FUNCTION) == full
    assert bridge.triple_type(FUNCTION, relation="interacts with").tail == PROTEIN


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("protein",), r"node type 'protein' is not in this graph .did you mean 'gene/protein'"),
        ((PROTEIN, "interact"), r"relation 'interact' is not in this graph .did you mean"),
        ((PROTEIN, None, "drug"), r"node type 'drug' is not in this graph"),
        ((PROTEIN, "parent-child"), r"no facts gene/protein → parent-child → any type; from gene"),
        ((PROTEIN,), r"is ambiguous; give relation and target of one of: gene/protein → interacts"),
    ],
)
def test_names_that_do_not_fit_are_refused(bridge, asked, message):
    with pytest.raises(InputError, match=message):
        bridge.triple_type(*asked)


def test_what_is_no_embedding_is_refused(bridge):
    dim = bridge.dim(PROTEIN)
    with pytest.raises(InputError, match=rf"must have shape \[n, {dim}\].*got \[3, 7\]"):
        bridge.project(np.ones((3, 7), np.float32), source=PROTEIN)
    x = np.ones((3, dim), np.float32)
    x[2, 5] = np.nan
    with pytest.raises(InputError, match="row 2 of the embeddings is a NaN or infinite value"):
        bridge.project(x, source=PROTEIN)
    x[2] = 0
    with pytest.raises(InputError, match="row 2 of the embeddings is an all-zero vector"):
        bridge.project(x, source=PROTEIN)


def test_a_bridge_without_its_dataset_still_projects(bridge):
    alone = dataclasses.replace(bridge, experiment=None)
    x = bridge.experiment.tables[PROTEIN].stored[:3]
    np.testing.assert_array_equal(
        alone.project(x, source=PROTEIN, target=FUNCTION),
        bridge.project(x, source=PROTEIN, target=FUNCTION),
    )
    assert all(isinstance(p, jax.Array) for p in jax.tree.leaves(alone.params))


def test_no_answer_comes_from_numbers_that_are_not_finite(bridge, trained):
    """An embedding that overflows, or damaged parameters; row or node and run are named."""
    x = np.ones((3, bridge.dim(PROTEIN)), np.float32)
    x[1] = 3e38
    run = f"{trained}, step {bridge.step}: "
    with np.errstate(all="ignore"):
        with pytest.raises(InputError, match=f"^{run}the projection of row 1: NaN or infinite"):
            bridge.project(x, source=PROTEIN)
        with pytest.raises(InputError, match="row 1: NaN or infinite"):
            bridge.retrieve(PROTEIN, target=FUNCTION, embedding=x)
    params = jax.tree.map(lambda a: a * jnp.nan, bridge.params)
    damaged = dataclasses.replace(bridge, params=params)
    node = bridge.experiment.tables[PROTEIN].ids[0]
    with pytest.raises(InputError, match=f"^{run}the score of 'GO:.*' for {node!r} is NaN"):
        damaged.retrieve(PROTEIN, target=FUNCTION, ids=[node])
