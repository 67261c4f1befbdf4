"""Summary of a trained bridge, as a line of text and as HTML for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape

from bridge_jax.data.encoder_spec import EncoderSpec


def bridge_as_text(
    source: str, step: int, num_node_types: int, num_relations: int, width: int, num_nodes: int
) -> str:
    """Describes a bridge in one line.

    Args:
      source: Folder that it was opened from.
      step: Step of the checkpoint.
      num_node_types: Number of node types with embeddings.
      num_relations: Number of relations.
      width: Dimension of the shared space.
      num_nodes: Number of nodes; 0 if it was opened without a dataset.
    """
    nodes = f"{num_nodes:,} nodes" if num_nodes else "no dataset"
    return (
        f"<Predictor {source}, step {step}: {num_node_types} node types, {num_relations} relations,"
        f" width {width}, {nodes}>"
    )


def bridge_as_html(
    title: str,
    dims: Mapping[str, int],
    specs: Mapping[str, EncoderSpec],
    triple_types: Sequence[tuple[str, str, str]],
) -> str:
    """Describes a bridge as a small card: its node types with their encoders, its triple types.

    Args:
      title: Line at the top.
      dims: Dimension of the embeddings by node type.
      specs: Specifications of the encoders by node type, as far as they are known.
      triple_types: Triple types of the graph.
    """
    rows = [
        f"<tr><td>{escape(name)}</td><td>{dim}</td>"
        f"<td>{escape(specs[name].encoder if name in specs else 'not recorded')}</td>"
        f"<td>{escape(specs[name].text if name in specs else '')}</td></tr>"
        for name, dim in dims.items()
    ]
    relations = "".join(f"<li>{escape(' → '.join(names))}</li>" for names in triple_types)
    return (
        f"<div><b>{escape(title)}</b><table><thead><tr><th>node type</th><th>dim</th>"
        f"<th>encoder</th><th>encoded from</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<details><summary>{len(triple_types)} triple types</summary><ul>{relations}</ul>"
        "</details></div>"
    )
