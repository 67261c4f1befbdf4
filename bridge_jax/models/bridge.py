"""The bridge: a small relation-aware transformer between frozen embedding spaces.

    z_h = proj[type(h)](e_h)                    z_t = proj[type(t)](e_t)
    bridge(h, r) = encoder([z_h, type(h), r, type(t)])[0] + z_h
    score(h, r, t) = cosine(bridge(h, r), z_t)

Source: Wang et al., "BioBridge", ICLR 2024, section 3, as its released code has it. Flax stays
in this file: the rest of the package sees a parameter dict and the pure functions of `Bridge`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from bridge_jax.data.dataset import file_name
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError, unknown

ARCHITECTURES = ("transformer", "mlp", "linear", "projection_only")
LAYER_NORM_EPSILON = 1e-5
TOKENS = 4  # the projected head, its type, the relation, the tail type
Params = Mapping[str, Any]


class Dropout(nn.Module):
    """Dropout whose masks cost half the random words of flax's: 16 bits an element, not 32.

    On a CPU the random numbers of flax's were a tenth of a training step at the paper's shape. The
    rate is rounded to a multiple of 2^-16.

    Attributes:
      rate: share of the elements that become 0; the others grow by 1 / (1 - rate).
      deterministic: return the input as it is.
    """

    rate: float
    deterministic: bool

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Drop elements at random, by the stream `dropout`."""
        dropped = round(self.rate * 2**16)
        if self.deterministic or not dropped:
            return x
        width = x.shape[-1]
        shape = (*x.shape[:-1], -(-width // 2))
        words = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
        bits = halves.reshape(*x.shape[:-1], -1)[..., :width]
        return jnp.where(bits >= dropped, x / (1 - dropped / 2**16), 0).astype(x.dtype)


class EncoderLayer(nn.Module):
    """One post-norm encoder layer over a few tokens: `LN(x + Attn(x))`, then `LN(x + FF(x))`.

    Attributes:
      heads: attention heads.
      mlp_dim: hidden width of the feed-forward part.
      dropout: rate, on the attention weights, both residual branches and the hidden layer.
      dtype: of the computation; norms and softmax stay in float32.
    """

    heads: int
    mlp_dim: int
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n tokens d"],
        queries: int,
        deterministic: bool,
        shared: tuple[Float[Array, "kinds rest d"], Int[Array, " n"]] | None = None,
    ) -> Float[Array, "n queries d"]:
        """Run the layer.

        Args:
          x: tokens.
          queries: how many leading tokens to compute; the others are only attended to.
          deterministic: no dropout.
          shared: further tokens that depend on a row's kind alone, and each row's kind. They are
            projected once a kind; the result is that of `x` with `tokens[kind]` appended.

        Returns:
          The first `queries` tokens after the layer.
        """
        width = x.shape[-1]
        drop = Dropout(self.dropout, deterministic)
        dense = {"dtype": self.dtype, "kernel_init": nn.initializers.xavier_uniform()}

        def norm(name: str, y: Array) -> Array:
            return nn.LayerNorm(LAYER_NORM_EPSILON, dtype=jnp.float32, name=name)(y)

        def whole(function: Callable[[Array], Array]) -> Array:
            if shared is None:
                return function(x)
            tokens, kind = shared
            return jnp.concatenate([function(x), function(tokens)[kind]], axis=1)

        asked = whole(lambda tokens: tokens)[:, :queries]
        alone = queries <= x.shape[1]  # then the shared tokens need no query
        query = nn.Dense(width, name="query", **dense)
        q = query(x[:, :queries]) if alone else whole(query)[:, :queries]
        k = whole(nn.Dense(width, name="key", **dense))
        v = whole(nn.Dense(width, name="value", **dense))
        mixed = _attend(q, k, v, self.heads, drop)
        y = norm("norm1", asked + drop(nn.Dense(width, name="out", **dense)(mixed)))
        hidden = nn.gelu(nn.Dense(self.mlp_dim, name="linear1", **dense)(y), approximate=False)
        return norm("norm2", y + drop(nn.Dense(width, name="linear2", **dense)(drop(hidden))))


def _attend(q: Array, k: Array, v: Array, heads: int, drop: nn.Module) -> Array:
    n, queries, width = q.shape
    size = width // heads
    q, k, v = (a.reshape(n, -1, heads, size) for a in (q, k, v))
    logits = jnp.einsum("nqhd,nthd->nqth", q, k).astype(jnp.float32) / np.sqrt(size)
    weights = drop(jax.nn.softmax(logits, axis=2)).astype(v.dtype)
    return jnp.einsum("nqth,nthd->nqhd", weights, v).reshape(n, queries, width)


class Bridge(nn.Module):
    """Projections, type and relation embeddings, and the bridge between them.

    Attributes:
      node_types: (name, dimension of the frozen embedding) in the order of the type ids; dimension
        0 for a type that has no embeddings and so no projection.
      relations: relation names in the order of the relation ids.
      arch: one of `ARCHITECTURES`.
      width: d.
      layers: encoder layers, or hidden layers of the MLP.
      heads: attention heads.
      mlp_dim: hidden width.
      dropout: rate.
      dtype: of the computation; parameters are float32.
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
        """Create the submodules; their names are the checkpoint's."""
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
        """Frozen embeddings to the shared width: `z = proj[type](e)`."""
        return self.projections[node_type](x)

    def context(self, kinds: Int[Array, "kinds 3"]) -> Float[Array, "kinds 3 d"]:
        """The type(h), relation, type(t) tokens of some triple types, given as ids."""
        head, tail = (self.type_norm(self.type_embed(kinds[:, i])) for i in (0, 2))
        relation = self.relation_norm(self.relation_embed(kinds[:, 1]))
        return jnp.stack([head, relation, tail], axis=1)

    def __call__(
        self,
        z: Float[Array, "n d"],
        kind: Int[Array, " n"],
        kinds: Int[Array, "kinds 3"],
        deterministic: bool = True,
    ) -> Float[Array, "n d"]:
        """Carry projected heads into the tail's space.

        Args:
          z: projected heads.
          kind: for each row its triple type, as an index into `kinds`.
          kinds: (head type, relation, tail type) ids of the triple types.
          deterministic: no dropout.

        Returns:
          Bridged heads, not normalised.
        """
        if self.arch == "projection_only":
            return z
        context = self.context(kinds).astype(z.dtype)
        if self.arch == "transformer":
            x, shared = z[:, None], (context, kind)
            for i, layer in enumerate(self.encoder):
                # Only token 0 is read after the last layer.
                queries = 1 if i == self.layers - 1 else TOKENS
                x = layer(x, queries, deterministic, shared if i == 0 else None)
            return x[:, 0] + z
        x = jnp.concatenate([z, context[kind].reshape(len(z), -1)], axis=-1)
        if self.arch == "linear":
            return self.linear(x) + z
        for hidden in self.mlp[:-1]:
            x = nn.gelu(hidden(x), approximate=False)
            x = x if deterministic else self.drop(x)
        return self.mlp[-1](x) + z

    def everything(self, kinds: Int[Array, "kinds 3"]) -> Float[Array, "types d"]:
        """Touch every parameter once, so that `init` creates them all."""
        ones = [self.project(name, jnp.ones((1, dim))) for name, dim in self.node_types if dim]
        z = jnp.concatenate(ones)
        return self(z, jnp.zeros(len(z), jnp.int32), kinds)


def make_model(
    config: ConfigDict, node_types: Sequence[tuple[str, int]], relations: Sequence[str]
) -> Bridge:
    """Build the model of a config's `model` part.

    Args:
      config: `arch`, `width`, `layers`, `heads`, `mlp_dim`, `dropout`, `dtype`.
      node_types: (name, dim), in the dataset's order.
      relations: names, in the dataset's order.

    Raises:
      InputError: an unknown form, or a width that the heads do not divide.
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


def triple_type_ids(model: Bridge, kinds: Sequence[TripleType]) -> Int[np.ndarray, "kinds 3"]:
    """(head type, relation, tail type) ids of triple types, int32."""
    types = {name: i for i, (name, _) in enumerate(model.node_types)}
    relations = {name: i for i, name in enumerate(model.relations)}
    rows = [[types[k.head], relations[k.relation], types[k.tail]] for k in kinds]
    return np.asarray(rows, np.int32).reshape(-1, 3)


def init_params(model: Bridge, key: jax.Array) -> Params:
    """Initialise the parameters; a pure function of the key, to be jitted with shardings."""
    variables = model.init(key, jnp.zeros((1, 3), jnp.int32), method=Bridge.everything)
    params: Params = variables["params"]
    return params


def project(
    model: Bridge, params: Params, node_type: str, x: Float[Array, "n dim"]
) -> Float[Array, "n d"]:
    """Pure form of `Bridge.project`."""
    return cast(jax.Array, model.apply({"params": params}, node_type, x, method=Bridge.project))


def bridge(
    model: Bridge,
    params: Params,
    z: Float[Array, "n d"],
    kind: Int[Array, " n"],
    kinds: Int[Array, "kinds 3"],
    dropout_key: jax.Array | None = None,
) -> Float[Array, "n d"]:
    """Pure form of `Bridge.__call__`; dropout is on when a key is given."""
    rngs = {} if dropout_key is None else {"dropout": dropout_key}
    out = model.apply({"params": params}, z, kind, kinds, dropout_key is None, rngs=rngs)
    return cast(jax.Array, out)


def normalise(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Unit length in float32 (or wider, if the input is), for cosine scores."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))
