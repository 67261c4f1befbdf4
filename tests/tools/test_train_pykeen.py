"""Knowledge-graph embeddings: scores equal PyKEEN's, and a trained model is compared to a run."""

import json
import warnings

import numpy as np
import pytest

from bridge_jax.data.graph import TripleType, known_positives, load_graph
from bridge_jax.data.manifest import SPLITS, read_manifest
from bridge_jax.errors import InputError
from bridge_jax.evaluation import comparison
from bridge_jax.evaluation.baselines import KGE_MODELS
from bridge_jax.evaluation.baselines.kge import KGEScorer, save
from bridge_jax.evaluation.ranking import rank
from bridge_jax.experiment import workdir as workdirs
from tools import train_pykeen

pytest.importorskip("pykeen", exc_type=ImportError)


@pytest.fixture(scope="module")
def graph(tiny):
    return load_graph(tiny, read_manifest(tiny))


@pytest.fixture(autouse=True)
def quiet():
    """Ignores warnings: PyKEEN's dependencies raise some, and warnings are errors in our tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make_scorer(model, embeddings, graph):
    triple_types = [str(t) for t in graph.triple_types]
    return KGEScorer(model, embeddings.norm, embeddings.vectors, graph, triple_types)


@pytest.mark.parametrize("model", KGE_MODELS)
def test_scores_are_those_of_pykeen(graph, model):
    import torch
    from pykeen.models import model_resolver
    from pykeen.triples import CoreTriplesFactory

    triples = train_pykeen.directed_triples(graph)
    pykeen_model = model_resolver.make(
        model,
        {"embedding_dim": 7},
        triples_factory=CoreTriplesFactory.create(
            torch.from_numpy(triples),
            num_entities=int(graph.offsets[-1]),
            num_relations=len(graph.triple_types),
        ),
        random_seed=0,
    ).eval()
    # Outside the unit ball, so that the clipping of each model applies.
    for parameter in pykeen_model.parameters():
        parameter.data *= 3
    scorer = make_scorer(model, train_pykeen.extract_embeddings(pykeen_model), graph)
    for index, triple_type in enumerate(graph.triple_types):
        heads = np.array([3, 0, 39], np.int32)
        head, tail = (graph.type_id(t) for t in (triple_type.head, triple_type.tail))
        queries = torch.tensor([[int(h + graph.offsets[head]), index] for h in heads])
        tails = slice(*graph.offsets[tail : tail + 2].tolist())
        with torch.no_grad():
            expected = pykeen_model.score_t(queries)[:, tails].numpy()
        np.testing.assert_allclose(scorer(triple_type, heads), expected, rtol=1e-4, atol=1e-4)
        if model in train_pykeen.BILINEAR:
            with torch.no_grad():
                product = train_pykeen.score_tails(pykeen_model, queries)[:, tails].numpy()
            np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)


def test_triples_are_both_directions_of_every_training_fact(graph):
    triples = train_pykeen.directed_triples(graph)
    train = graph.facts["train"]
    assert len(triples) == 2 * len(train)
    names = [(k.head, k.relation, k.tail) for k in graph.triple_types]
    types = [graph.node_types[i] for i in graph.types_of(np.arange(int(graph.offsets[-1])))]
    distinct = {(h, names[r][1], t) for h, r, t in triples.tolist()}
    for h, r, t in triples[::97].tolist():
        assert names[r] == (types[h], names[r][1], types[t])
    for h, r, t in zip(train.head.tolist(), train.relation, train.tail.tolist(), strict=True):
        assert {(h, graph.relations[r], t), (t, graph.relations[r], h)} <= distinct


@pytest.mark.parametrize(
    ("model", "candidates"),
    [("DistMult", "sampled"), ("DistMult", "all"), ("ComplEx", "all")],
)
def test_training_learns_the_training_facts(graph, model, candidates):
    triple_type = TripleType("gene/protein", "interacts with", "molecular_function")
    queries = graph.pairs(["train"])[triple_type]
    known = known_positives(graph, SPLITS)[triple_type]
    mrr = []
    for epochs in (1, 8):
        setting = {"embedding_dim": 32, "learning_rate": 3e-2}
        embeddings = train_pykeen.train(graph, model, setting, candidates, epochs, 256, 0)
        scorer = make_scorer(model, embeddings, graph)
        mrr.append(np.mean(1 / rank(scorer, triple_type, queries, known).realistic))
    assert mrr[1] > max(0.3, 1.2 * mrr[0])


def test_a_trained_model_is_compared_with_the_bridge(tiny, trained, tmp_path, capsys):
    folder = tmp_path / "distmult"
    command = ["--dataset", str(tiny), "--model", "DistMult", "--output", str(folder)]
    options = ["--epochs", "2", "--batch-size", "256", "--search", "2"]
    assert train_pykeen.main([*command, *options]) == 0
    assert "test queries are about unseen nodes" in capsys.readouterr().err
    description = json.loads((folder / "embeddings.json").read_text())
    trials = description["search"]
    assert description["validation_mrr"] == max(t["validation_mrr"] for t in trials)
    assert [t["embedding_dim"] for t in trials] == [None, 256]
    with pytest.raises(InputError, match="holds trained embeddings already"):
        train_pykeen.main([*command, *options])

    report = comparison.evaluate(workdirs.load_run(trained), "test", (), {"distmult": str(folder)})
    assert list(report.macro) == ["distmult", "bridge", "fusion"]
    assert report.about["compare_with"] == {"distmult": str(folder)}
    assert 0 < report.macro["distmult"]["mrr"] < 1
    assert 0 < report.macro["distmult"]["lead_p"] <= 1


def test_embeddings_that_do_not_fit_are_refused(graph, tiny, tmp_path):
    triple_types = [str(t) for t in graph.triple_types]
    nodes, relations = int(graph.offsets[-1]), len(triple_types)
    good = {"entity_0": np.ones((nodes, 2)), "relation_0": np.ones((relations, 2))}
    about = {"model": "DistMult", "norm": 2, "triple_types": triple_types, "manifest_sha256": "abc"}
    save(tmp_path, about, good)
    assert KGEScorer.load(tmp_path, graph, "abc").name == "DistMult"
    with pytest.raises(InputError, match=r"another dataset \(manifest abc; the run's has abd\)"):
        KGEScorer.load(tmp_path, graph, "abd")
    with pytest.raises(InputError, match=r"'DistMlut' is not in this version .did you mean"):
        KGEScorer("DistMlut", 2, good, graph, triple_types)
    with pytest.raises(InputError, match=f"entity_0 has {nodes - 1} rows; .*{nodes}"):
        KGEScorer("DistMult", 2, good | {"entity_0": np.ones((nodes - 1, 2))}, graph, triple_types)
    (tmp_path / "embeddings.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        KGEScorer.load(tmp_path, graph, "abc")
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
    description = json.loads((tmp_path / "named/embeddings.json").read_text())
    (trial,) = description["search"]
    assert (trial["embedding_dim"], trial["learning_rate"]) == (16, 0.01)
