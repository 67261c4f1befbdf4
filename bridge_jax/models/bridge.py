"""The bridge: a small relation-aware transformer between frozen embedding spaces.

    z_h = proj[type(h)](e_h)                    z_t = proj[type(t)](e_t)
    bridge(h, r) = encoder([z_h, type(h), r, type(t)])[0] + z_h
    score(h, r, t) = cosine(bridge(h, r), z_t)

Arrays name their axes in a suffix: n rows, t triple types, T tokens, s shared tokens, q queries,
d width. Flax stays in this file: the rest of the package sees a dict of parameters and pure
functions.

References:
  Wang et al., "BioBridge", ICLR 2024, section 3, as in its released code.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from bridge_jax.data.graph import TripleType
from bridge_jax.data.manifest import file_name
from bridge_jax.errors import InputError, unknown

ARCHITECTURES = ("transformer", "mlp", "linear", "projection_only")
LAYER_NORM_EPSILON = 1e-5
TOKENS = 4  # the projected head, its type, the relation, the tail type
Params = Mapping[str, Any]


class Dropout(nn.Module):
    """Dropout that draws 16 random bits per element, half of what flax's own layer draws.

    On a CPU the random numbers of flax's layer take a tenth of a training step at the paper's
    shape. The rate is rounded to a multiple of 2^-16.

    Attributes:
      rate: Fraction of elements set to 0; the others are scaled by 1 / (1 - rate).
      deterministic: Whether to return the input unchanged.
    """

    rate: float
    deterministic: bool

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Drops random elements, using the RNG stream `dropout`."""
        dropped = round(self.rate * 2**16)
        if self.deterministic or not dropped:
            return x
        width = x.shape[-1]
        shape = (*x.shape[:-1], -(-width // 2))
        words = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
        bits = halves.reshape(*x.shape[:-1], -1)[..., :width]
        return jnp.where(bits >= dropped, x / (1 - dropped / 2**16), 0).astype(x.dtype)


class SharedTokens(NamedTuple):
    """Tokens that are the same for all rows of a triple type.

    Attributes:
      tokens_TSD: `[t, s, d]`: the s tokens of each of t triple types.
      triple_type_N: `[n]` int32: which triple type each row has.
    """

    tokens_TSD: Float[Array, "t s d"]
    triple_type_N: Int[Array, " n"]


class EncoderLayer(nn.Module):
    """One post-norm transformer encoder layer: `LN(x + Attn(x))`, then `LN(x + MLP(x))`.

    Shared tokens. In the first layer three of the four tokens (head type, relation, tail type)
    depend on the row's triple type alone, and a batch has many rows but few triple types. A dense
    layer acts on each token by itself, so it commutes with repeating tokens over rows:

        dense(concat(x, shared[triple_type])) = concat(dense(x), dense(shared)[triple_type])

    `_over_all_tokens` uses the right-hand side: it projects the shared tokens once per triple type
    and repeats the result over the rows. Same values, a quarter of the work.

    Attributes:
      heads: Number of attention heads.
      mlp_dim: Hidden width of the MLP.
      dropout: Dropout rate on attention weights, on both residual branches and in the MLP.
      dtype: Dtype of the computation; norms and softmax are computed in float32.
    """

    heads: int
    mlp_dim: int
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x_NTD: Float[Array, "n tokens d"],
        num_queries: int,
        deterministic: bool,
        shared: SharedTokens | None = None,
    ) -> Float[Array, "n queries d"]:
        """Applies the layer to the first `num_queries` tokens; they attend to all tokens.

        Args:
          x_NTD: Tokens of each row.
          num_queries: Number of leading tokens to compute.
          deterministic: Whether to disable dropout.
          shared: Tokens that follow those of `x_NTD` in every row.

        Returns:
          The first `num_queries` tokens after the layer.
        """
        width = x_NTD.shape[-1]
        drop = Dropout(self.dropout, deterministic)
        dense = {"dtype": self.dtype, "kernel_init": nn.initializers.xavier_uniform()}

        def norm(name: str, y: Array) -> Array:
            return nn.LayerNorm(LAYER_NORM_EPSILON, dtype=jnp.float32, name=name)(y)

        x_NQD = _over_all_tokens(lambda tokens: tokens, x_NTD, shared)[:, :num_queries]
        to_query = nn.Dense(width, name="query", **dense)
        if num_queries <= x_NTD.shape[1]:  # no shared token is a query
            q_NQD = to_query(x_NTD[:, :num_queries])
        else:
            q_NQD = _over_all_tokens(to_query, x_NTD, shared)[:, :num_queries]
        k_NTD = _over_all_tokens(nn.Dense(width, name="key", **dense), x_NTD, shared)
        v_NTD = _over_all_tokens(nn.Dense(width, name="value", **dense), x_NTD, shared)
        attended_NQD = _attend(q_NQD, k_NTD, v_NTD, self.heads, drop)
        y_NQD = norm("norm1", x_NQD + drop(nn.Dense(width, name="out", **dense)(attended_NQD)))
        hidden_NQF = nn.gelu(
            nn.Dense(self.mlp_dim, name="linear1", **dense)(y_NQD), approximate=False
        )
        mlp_NQD = nn.Dense(width, name="linear2", **dense)(drop(hidden_NQF))
        return norm("norm2", y_NQD + drop(mlp_NQD))


def _over_all_tokens(
    function: Callable[[Array], Array], x_NTD: Array, shared: SharedTokens | None
) -> Array:
    """Applies a token-wise function to own and shared tokens; see `EncoderLayer`."""
    if shared is None:
        return function(x_NTD)
    shared_NSD = function(shared.tokens_TSD)[shared.triple_type_N]
    return jnp.concatenate([function(x_NTD), shared_NSD], axis=1)


def _attend(q: Array, k: Array, v: Array, heads: int, drop: nn.Module) -> Array:
    """Multi-head dot-product attention of queries `[n, q, d]` to keys and values `[n, t, d]`."""
    n, queries, width = q.shape
    size = width // heads
    q, k, v = (a.reshape(n, -1, heads, size) for a in (q, k, v))
    logits = jnp.einsum("nqhd,nthd->nqth", q, k).astype(jnp.float32) / np.sqrt(size)
    weights = drop(jax.nn.softmax(logits, axis=2)).astype(v.dtype)
    return jnp.einsum("nqth,nthd->nqhd", weights, v).reshape(n, queries, width)


class Bridge(nn.Module):
    """Projections of each node type, embeddings of types and relations, and the encoder.

    Attributes:
      node_types: Name and embedding dimension of each node type, in the order of the type ids. A
        type without frozen embeddings has dimension 0 and no projection.
      relations: Relation names in the order of the relation ids.
      arch: One of `ARCHITECTURES`.
      width: Width d of the shared space.
      layers: Number of encoder layers, or of hidden layers of the MLP.
      heads: Number of attention heads.
      mlp_dim: Hidden width of the MLP.
      dropout: Dropout rate.
      dtype: Dtype of the computation; parameters are float32.
    """

    node_types: tuple[tuple[str, int], ...]
    relations: tuple[str, ...]
    arch: str = "transformer"
    width: int = 768
    layers: int = 6
    heads: int = 12
    mlp_dim: int = 2048
    dropout: float = 0.1
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the submodules; their names are those of the checkpoint."""
        self.projections = {
            name: nn.Dense(
                self.width, use_bias=False, dtype=self.dtype, name=f"project_{file_name(name)}"
            )
            for name, dim in self.node_types
            if dim
        }
        normal = nn.initializers.normal(1.0)
        self.type_embed = nn.Embed(len(self.node_types), self.width, embedding_init=normal)
        self.type_norm = nn.LayerNorm(LAYER_NORM_EPSILON)
        self.relation_embed = nn.Embed(len(self.relations), self.width, embedding_init=normal)
        self.relation_norm = nn.LayerNorm(LAYER_NORM_EPSILON)
        if self.arch == "transformer":
            self.encoder = [
                EncoderLayer(self.heads, self.mlp_dim, self.dropout, self.dtype, name=f"layer{i}")
                for i in range(self.layers)
            ]
        elif self.arch == "mlp":
            widths = [self.mlp_dim] * self.layers + [self.width]
            self.mlp = [nn.Dense(w, dtype=self.dtype, name=f"mlp{i}") for i, w in enumerate(widths)]
            self.drop = Dropout(self.dropout, False)
        elif self.arch == "linear":
            self.linear = nn.Dense(self.width, dtype=self.dtype)

    def project(self, node_type: str, x: Float[Array, "n dim"]) -> Float[Array, "n d"]:
        """Projects frozen embeddings into the shared space: `z = proj[type](e)`."""
        return self.projections[node_type](x)

    def context_tokens(self, triple_types: Int[Array, "t 3"]) -> Float[Array, "t 3 d"]:
        """Returns the head-type, relation and tail-type tokens of triple types given as ids."""
        head, tail = (self.type_norm(self.type_embed(triple_types[:, i])) for i in (0, 2))
        relation = self.relation_norm(self.relation_embed(triple_types[:, 1]))
        return jnp.stack([head, relation, tail], axis=1)

    def __call__(
        self,
        z_ND: Float[Array, "n d"],
        triple_type_N: Int[Array, " n"],
        triple_types: Int[Array, "t 3"],
        deterministic: bool = True,
    ) -> Float[Array, "n d"]:
        """Carries projected heads into the space of their tails.

        Args:
          z_ND: Projected heads.
          triple_type_N: Triple type of each row, as an index into `triple_types`.
          triple_types: Ids (head type, relation, tail type) of the triple types.
          deterministic: Whether to disable dropout.

        Returns:
          Bridged heads, not normalised.
        """
        if self.arch == "projection_only":
            return z_ND
        context_T3D = self.context_tokens(triple_types).astype(z_ND.dtype)
        if self.arch == "transformer":
            x_NTD, shared = z_ND[:, None], SharedTokens(context_T3D, triple_type_N)
            for i, layer in enumerate(self.encoder):
                # Only token 0 is read after the last layer.
                num_queries = 1 if i == self.layers - 1 else TOKENS
                x_NTD = layer(x_NTD, num_queries, deterministic, shared if i == 0 else None)
            return x_NTD[:, 0] + z_ND
        context_NC = context_T3D[triple_type_N].reshape(len(z_ND), -1)
        x = jnp.concatenate([z_ND, context_NC], axis=-1)
        if self.arch == "linear":
            return self.linear(x) + z_ND
        for hidden in self.mlp[:-1]:
            x = nn.gelu(hidden(x), approximate=False)
            x = x if deterministic else self.drop(x)
        return self.mlp[-1](x) + z_ND

    def init_all(self, triple_types: Int[Array, "t 3"]) -> Float[Array, "types d"]:
        """Uses every parameter once, so that `init` creates all of them."""
        ones = [self.project(name, jnp.ones((1, dim))) for name, dim in self.node_types if dim]
        z_ND = jnp.concatenate(ones)
        return self(z_ND, jnp.zeros(len(z_ND), jnp.int32), triple_types)


def make_model(
    config: ConfigDict, node_types: Sequence[tuple[str, int]], relations: Sequence[str]
) -> Bridge:
    """Builds the model that the config's `model` part describes.

    Args:
      config: The `model` part: `arch`, `width`, `layers`, `heads`, `mlp_dim`, `dropout`, `dtype`.
      node_types: Name and embedding dimension of each node type, in the dataset's order.
      relations: Relation names, in the dataset's order.

    Raises:
      InputError: The architecture is unknown, or the heads do not divide the width.
    """
    if config.arch not in ARCHITECTURES:
        raise unknown("model.arch", config.arch, ARCHITECTURES, "this version")
    if config.width % config.heads:
        raise InputError(
            f"model.width {config.width} is not a multiple of model.heads {config.heads}"
        )
    return Bridge(
        tuple((str(n), int(d)) for n, d in node_types),
        tuple(relations),
        **{k: config[k] for k in ("arch", "width", "layers", "heads", "mlp_dim", "dropout")},
        dtype=jnp.dtype(config.dtype),
    )


def triple_type_ids(model: Bridge, triple_types: Sequence[TripleType]) -> Int[np.ndarray, "t 3"]:
    """Returns the ids (head type, relation, tail type) of triple types, int32."""
    types = {name: i for i, (name, _) in enumerate(model.node_types)}
    relations = {name: i for i, name in enumerate(model.relations)}
    rows = [[types[t.head], relations[t.relation], types[t.tail]] for t in triple_types]
    return np.asarray(rows, np.int32).reshape(-1, 3)


def init_params(model: Bridge, key: jax.Array) -> Params:
    """Initialises the parameters; a pure function of the key, to be jitted with shardings."""
    variables = model.init(key, jnp.zeros((1, 3), jnp.int32), method=Bridge.init_all)
    params: Params = variables["params"]
    return params


def project(
    model: Bridge, params: Params, node_type: str, x: Float[Array, "n dim"]
) -> Float[Array, "n d"]:
    """Projects frozen embeddings into the shared space; pure form of `Bridge.project`."""
    return cast(jax.Array, model.apply({"params": params}, node_type, x, method=Bridge.project))


def bridge(
    model: Bridge,
    params: Params,
    z_ND: Float[Array, "n d"],
    triple_type_N: Int[Array, " n"],
    triple_types: Int[Array, "t 3"],
    dropout_key: jax.Array | None = None,
) -> Float[Array, "n d"]:
    """Carries projected heads into the space of their tails; pure form of `Bridge.__call__`.

    Args:
      model: The bridge.
      params: Parameters of `model`.
      z_ND: Projected heads.
      triple_type_N: Triple type of each row, as an index into `triple_types`.
      triple_types: Ids (head type, relation, tail type) of the triple types.
      dropout_key: Key of the dropout masks; default: no dropout.
    """
    rngs = {} if dropout_key is None else {"dropout": dropout_key}
    variables = {"params": params}
    out = model.apply(variables, z_ND, triple_type_N, triple_types, dropout_key is None, rngs=rngs)
    return cast(jax.Array, out)


def normalise(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Scales vectors to unit length, in float32 or in the input's wider dtype."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))
