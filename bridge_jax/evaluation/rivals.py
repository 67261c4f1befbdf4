"""Other trained models to stand in the same table: runs of this project, and embeddings."""

import json
from pathlib import Path

from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines.kge import MODEL, Embeddings
from bridge_jax.evaluation.ranking import Scorer
from bridge_jax.experiment.experiment import Setup, open_run


def open_rival(path: str | Path, setup: Setup) -> Scorer:
    """Open what `evaluate --against` names.

    Args:
      path: the workdir of a run (its bridge alone, without a memory), or a folder written by
        `tools.train_pykeen`.
      setup: of the run under test; the rival must have been trained on the same dataset.

    Raises:
      InputError: neither of them, damaged, or of another dataset.
    """
    folder = Path(path)
    if (folder / MODEL).is_file():
        return Embeddings.load(folder, setup.graph, setup.manifest.hash())
    return open_run(folder, setup.config.dataset).scorer


def check_rival(path: str | Path, setup: Setup) -> None:
    """See that a rival knows the dataset, before anything is ranked.

    One that cannot be read passes: `open_rival` says what is wrong with it.

    Raises:
      InputError: it was trained on another one.
    """
    file = Path(path) / (MODEL if (Path(path) / MODEL).is_file() else "run.json")
    try:
        theirs, ours = json.loads(file.read_bytes())["manifest_sha256"], setup.manifest.hash()
    except (OSError, ValueError, KeyError, TypeError):
        return
    if theirs != ours:
        raise InputError(
            f"--against {path}: trained on another dataset (manifest {str(theirs)[:12]}; "
            f"{setup.manifest.name} has {ours[:12]}), so it cannot answer the same queries"
        )


def name_rivals(paths: list[str], taken: set[str]) -> dict[str, str]:
    """A name in the table for each path: the folder's, or the whole path where that is taken.

    Raises:
      InputError: a path is given twice, or holds nothing that `open_rival` opens.
    """
    names: dict[str, str] = {}
    for path in paths:
        if not any((Path(path) / file).is_file() for file in (MODEL, "config.json")):
            raise InputError(
                f"{path}: neither a run (config.json) nor trained embeddings ({MODEL}); train one "
                "with bridge_jax.train or tools.train_pykeen"
            )
        name = Path(path).name or path
        name = path if name in names or name in taken else name
        if name in names:
            raise InputError(f"--against names {path} twice")
        names[name] = path
    return names
