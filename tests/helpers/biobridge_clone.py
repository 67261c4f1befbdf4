"""A clone of the BioBridge reference repository with a few rows."""

import json
import pickle
from pathlib import Path

import numpy as np

TYPES = ("gene/protein", "drug", "disease", "anatomy")
RELATIONS = ("target", "indication", "associated with")
STEMS = ("protein", "drug", "disease")


def weights(golden: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the released state dict of the golden file."""
    prefix = "state_dict/"
    return {k[len(prefix) :]: v for k, v in golden.items() if k.startswith(prefix)}


def model_config() -> dict:
    return {
        "n_node": 4,
        "n_relation": 3,
        "proj_dim": {"1": 40, "0": 24, "2": 16},
        "hidden_dim": 12,
        "n_layer": 2,
    }


def make_clone(root: Path, golden: dict[str, np.ndarray]) -> Path:
    """Writes the golden rows in the repository's layout: row i joins nodes 100 + i and 200 + i."""
    bind, split = root / "data/BindData", root / "data/BindData/train_test_split"
    folder, processed = root / "data/embeddings/esm2b_unimo_pubmedbert", root / "data/Processed"
    for path in (split, folder, processed, root / "checkpoints"):
        path.mkdir(parents=True)
    vocabulary = {
        "node_type": {name: i for i, name in enumerate(TYPES)},
        "relation_type": {name: i for i, name in enumerate(RELATIONS)},
    }
    (bind / "data_config.json").write_text(json.dumps(vocabulary))
    header = "x_index,y_index,display_relation,relation,x_type,y_type"
    h, r, t = (golden[k].tolist() for k in ("head_type", "relation", "tail_type"))
    rows = [f"{100 + i},{200 + i},{r[i]},x,{h[i]},{t[i]}" for i in range(24)]
    mirrored = [f"{200 + i},{100 + i},{r[i]},x,{t[i]},{h[i]}" for i in range(20, 22)]
    faulty = [rows[3], "101,101,0,x,1,1", "101,900,0,x,1,3", "101,201,7,x,1,2"]
    (split / "triplet_train.csv").write_text("\n".join([header, *rows[:20], *mirrored, *faulty]))
    (split / "triplet_test.csv").write_text("\n".join([header, *rows[20:], rows[2]]))
    for code, stem in enumerate(STEMS):
        by_index = {100 + i: golden[f"head/{i}"] for i in range(24) if h[i] == code}
        by_index |= {200 + i: golden[f"tail/{i}"] for i in range(24) if t[i] == code}
        vectors = list(by_index.values())
        value = {"node_index": list(by_index), "embedding": vectors if code else np.stack(vectors)}
        (folder / f"{stem}.pkl").write_bytes(pickle.dumps(value))
    proteins = [i for i in range(24) if h[i] == 0]
    lines = [f"{100 + i},{5000 + i},GENE{i},MKV" for i in proteins]
    (processed / "protein.csv").write_text(
        "\n".join(["node_index,node_id,node_name,sequence", *lines])
    )
    np.savez(root / "checkpoints/model.npz", **weights(golden))
    (root / "checkpoints/model_config.json").write_text(json.dumps(model_config()))
    return root
