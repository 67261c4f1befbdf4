"""Embeddings: our scores are PyKEEN's, and a trained model stands in the table of a run."""

import json
import warnings

import numpy as np
import pytest

from bridge_jax.data.dataset import SPLITS, read_manifest
from bridge_jax.data.graph import TripleType, known_positives, load_graph
from bridge_jax.errors import InputError
from bridge_jax.evaluation import comparison
from bridge_jax.evaluation.baselines import EMBEDDING_MODELS
from bridge_jax.evaluation.baselines.kge import Embeddings, save
from bridge_jax.evaluation.ranking import rank
from bridge_jax.experiment import workdir as workdirs
from tools import train_pykeen

pytest.importorskip("pykeen", exc_type=ImportError)


@pytest.fixture(scope="module")
def graph(tiny):
    return load_graph(tiny, read_manifest(tiny))


@pytest.fixture(autouse=True)
def quiet():
    """PyKEEN warns of its own dependencies; warnings are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_scores_are_those_of_pykeen(graph, model):
    import torch
    from pykeen.models import model_resolver
    from pykeen.triples import CoreTriplesFactory

    triples = train_pykeen.directed_triples(graph)
    made = model_resolver.make(
        model,
        {"embedding_dim": 7},
        triples_factory=CoreTriplesFactory.create(
            torch.from_numpy(triples),
            num_entities=int(graph.offsets[-1]),
            num_relations=len(graph.triple_types),
        ),
        random_seed=0,
    ).eval()
    for parameter in made.parameters():  # far from the unit ball, so that every bound is felt
        parameter.data *= 3
    norm, vectors = train_pykeen.vectors_of(made)
    kinds = [str(k) for k in graph.triple_types]
    scorer = Embeddings(model, norm, vectors, graph, kinds)
    for number, kind in enumerate(graph.triple_types):
        heads = np.array([3, 0, 39], np.int32)
        head, tail = (graph.type_id(t) for t in (kind.head, kind.tail))
        asked = torch.tensor([[int(h + graph.offsets[head]), number] for h in heads])
        tails = slice(*graph.offsets[tail : tail + 2].tolist())
        with torch.no_grad():
            expected = made.score_t(asked)[:, tails].numpy()
        np.testing.assert_allclose(scorer(kind, heads), expected, rtol=1e-4, atol=1e-4)
        if model in train_pykeen.BILINEAR:  # the same numbers as one product
            with torch.no_grad():
                product = train_pykeen.score_tails(made, asked)[:, tails].numpy()
            np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)


def test_triples_are_both_directions_of_every_training_fact(graph):
    triples = train_pykeen.directed_triples(graph)
    train = graph.facts["train"]
    assert len(triples) == 2 * len(train)
    names = [(k.head, k.relation, k.tail) for k in graph.triple_types]
    types = [graph.node_types[i] for i in graph.types_of(np.arange(int(graph.offsets[-1])))]
    found = {(h, names[r][1], t) for h, r, t in triples.tolist()}
    for h, r, t in triples[::97].tolist():
        assert names[r] == (types[h], names[r][1], types[t])
    for h, r, t in zip(train.head.tolist(), train.relation, train.tail.tolist(), strict=True):
        assert {(h, graph.relations[r], t), (t, graph.relations[r], h)} <= found


@pytest.mark.parametrize(
    ("model", "candidates"),
    [("DistMult", "sampled"), ("DistMult", "all"), ("ComplEx", "all")],
)
def test_training_learns_the_training_facts(graph, model, candidates):
    kind = TripleType("gene/protein", "interacts with", "molecular_function")
    asked = graph.pairs(["train"])[kind]
    known = known_positives(graph, SPLITS)[kind]
    mrr = []
    for epochs in (1, 8):
        setting = {"embedding_dim": 32, "learning_rate": 3e-2}
        norm, vectors = train_pykeen.train(graph, model, setting, candidates, epochs, 256, 0)
        scorer = Embeddings(model, norm, vectors, graph, [str(k) for k in graph.triple_types])
        mrr.append(np.mean(1 / rank(scorer, kind, asked, known).realistic))
    assert mrr[1] > max(0.3, 1.2 * mrr[0])


def test_the_command_puts_a_rival_into_the_table(tiny, trained, tmp_path, capsys):
    folder = tmp_path / "distmult"
    command = ["--dataset", str(tiny), "--model", "DistMult", "--output", str(folder)]
    options = ["--epochs", "2", "--batch-size", "256", "--search", "2"]
    assert train_pykeen.main([*command, *options]) == 0
    assert "asks about unseen nodes" in capsys.readouterr().err
    about = json.loads((folder / "embeddings.json").read_text())
    assert about["validation_mrr"] == max(t["validation_mrr"] for t in about["search"])
    assert [t["embedding_dim"] for t in about["search"]] == [None, 256]
    with pytest.raises(InputError, match="holds trained embeddings already"):
        train_pykeen.main([*command, *options])

    made = comparison.evaluate(workdirs.load_run(trained), "test", (), {"distmult": str(folder)})
    assert list(made.macro) == ["distmult", "bridge", "bridge + kNN"]
    assert made.about["compare_with"] == {"distmult": str(folder)}
    assert 0 < made.macro["distmult"]["mrr"] < 1
    assert 0 < made.macro["distmult"]["lead_p"] <= 1


def test_embeddings_that_do_not_fit_are_refused(graph, tiny, tmp_path):
    kinds = [str(k) for k in graph.triple_types]
    nodes, relations = int(graph.offsets[-1]), len(kinds)
    good = {"entity_0": np.ones((nodes, 2)), "relation_0": np.ones((relations, 2))}
    about = {"model": "DistMult", "norm": 2, "triple_types": kinds, "manifest_sha256": "abc"}
    save(tmp_path, about, good)
    assert Embeddings.load(tmp_path, graph, "abc").name == "DistMult"
    with pytest.raises(InputError, match=r"another dataset \(manifest abc; the run's has abd\)"):
        Embeddings.load(tmp_path, graph, "abd")
    with pytest.raises(InputError, match=r"'DistMlut' is not in this version .did you mean"):
        Embeddings("DistMlut", 2, good, graph, kinds)
    with pytest.raises(InputError, match=f"entity_0 has {nodes - 1} rows; .*{nodes}"):
        Embeddings("DistMult", 2, good | {"entity_0": np.ones((nodes - 1, 2))}, graph, kinds)
    (tmp_path / "embeddings.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        Embeddings.load(tmp_path, graph, "abc")
    command = ["--dataset", str(tiny), "--model", "TransE", "--output", str(tmp_path / "x")]
    for option, value in (("--search", "9"), ("--epochs", "0"), ("--dim", "-1")):
        with pytest.raises(InputError, match=option):
            train_pykeen.main([*command, option, value])
    with pytest.raises(InputError, match="name one setting"):
        train_pykeen.main([*command, "--dim", "16", "--search", "2"])


def test_one_setting_can_be_named(tiny, tmp_path):
    command = ["--dataset", str(tiny), "--model", "DistMult", "--output", str(tmp_path / "named")]
    options = ["--epochs", "1", "--dim", "16", "--learning-rate", "0.01"]
    assert train_pykeen.main([*command, *options]) == 0
    about = json.loads((tmp_path / "named/embeddings.json").read_text())
    (tried,) = about["search"]
    assert (tried["embedding_dim"], tried["learning_rate"]) == (16, 0.01)
