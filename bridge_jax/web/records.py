"""Answers of the JSON API."""

from collections.abc import Mapping, Sequence
from typing import Any

from bridge_jax.encoders.query_encoder import labels_of
from bridge_jax.errors import InputError
from bridge_jax.web.question import (
    MAX_INPUT_CHARS,
    MAX_TEXT_CHARS,
    check_known,
    check_number,
    check_text,
)
from bridge_jax.web.service import QueryService

# Modality of the queries in a request that are encoded.
_MODALITIES = {"sequences": "sequence", "smiles": "smiles", "texts": "text"}


def retrieve_json(
    service: QueryService,
    type: str,
    relation: str,
    target: str,
    k: int,
    known: str,
    answer: str,
    **queries: Any,
) -> list[dict[str, Any]]:
    """Returns the answers to queries as records; see `Predictor.retrieve`.

    Raises:
      InputError: A value is not valid.
    """
    arguments = _encode_queries(service, type, queries)
    with service.lock:
        results = service.bridge.retrieve(
            type, relation or None, target or None, k=k, known=known, answer=answer, **arguments
        )
    return [result._asdict() for result in results]


def explain_json(
    service: QueryService, type: str, relation: str, target: str, answers: list[str], **queries: Any
) -> list[dict[str, Any]]:
    """Returns the reasons for answers to one query as records; see `Predictor.explain`.

    Raises:
      InputError: A value is not valid, or there are several queries.
    """
    _check_texts({"answers": answers})
    if sum(map(len, queries.values())) != 1:
        raise InputError(f"give one query, in one of {', '.join(queries)}")
    arguments = _encode_queries(service, type, queries)
    query = {"id": arguments.get("ids"), "name": arguments.get("names")}
    with service.lock:
        explanations = service.bridge.explain(
            type,
            relation or None,
            target or None,
            answers=answers,
            embedding=arguments.get("embedding"),
            **{name: values[0] for name, values in query.items() if values},
        )
    return [explanation.to_json() for explanation in explanations]


def encode(service: QueryService, inputs: list[str], source: str) -> list[list[float]]:
    """Returns the embeddings of sequences, SMILES or texts; see `Predictor.encode`.

    Raises:
      InputError: An input or the type is not valid, or the encoder's packages are missing.
    """
    _check_texts({"inputs": inputs})
    with service.encoding_lock:
        return service.bridge.encode(inputs, source).tolist()


def _encode_queries(
    service: QueryService, source: str, queries: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Returns the queries as arguments of `Predictor.retrieve`, encoded if they are new.

    The device is free for others while an encoder works.
    """
    _check_texts(queries)
    given = {name: values for name, values in queries.items() if values}
    if len(given) != 1:
        raise InputError(f"give the queries in one of {', '.join(queries)}")
    ((name, values),) = given.items()
    if name not in _MODALITIES:
        return {name: values}
    service.bridge.query_encoder.check_modality(source, _MODALITIES[name])
    with service.encoding_lock:
        x = service.bridge.encode(values, source)
    return {"embedding": x, "labels": labels_of(values)}


def _check_texts(queries: Mapping[str, Sequence[str]]) -> None:
    for name, values in queries.items():
        limit = MAX_TEXT_CHARS if name in ("ids", "names", "answers") else MAX_INPUT_CHARS
        for value in values:
            check_text(name, value, limit)


def retrieve_records(
    service: QueryService,
    source: Any,
    relation: Any,
    target: Any,
    query: Any,
    k: Any = 10,
    known: Any = "mark",
) -> list[dict[str, Any]]:
    """Retrieves the ranked neighbours of a node.

    Args:
      source: Node type of the query.
      relation: Name of the relation, as in the graph; may be empty if target implies it.
      target: Node type of the results; may be empty if relation implies it.
      query: Id or name of the node; case is ignored in names.
      k: Number of results, 1 to 100.
      known: What to do with known facts: mark, hide or show (unmarked).

    Returns:
      One record per result: query, rank, id, name, probability, percentile, confidence, known,
      score.

    Raises:
      InputError: A value is not valid.
    """
    source, query = check_text("source", source), check_text("query", query)
    relation = check_text("relation", relation) if relation else None
    target = check_text("target", target) if target else None
    k, known = check_number(k), check_known(known)
    triple_type = service.bridge.triple_type(source, relation, target)
    index = service.bridge.retriever.node_index(source)
    node_id = index.ids[index.row_of_id_or_name(query)]
    with service.lock:
        results = service.bridge.retrieve(*triple_type, ids=[node_id], k=k, known=known)
    return [result._asdict() for result in results]
