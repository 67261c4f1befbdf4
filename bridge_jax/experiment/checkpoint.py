"""Checkpoints: the only file that knows Orbax.

A checkpoint holds `state` (arrays), `data` (seed, step, manifest hash) and `config`. Saves are
asynchronous and atomic; the latest ones and the best by validation are kept.
"""

import logging
import shutil
from pathlib import Path
from typing import Any, ClassVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from bridge_jax.errors import InputError

BEST_METRIC = "mrr"


TMP_DIR_SUFFIX = ".orbax-checkpoint-tmp"


class CheckpointWriteError(RuntimeError):
    """A checkpoint could not be written; those before it are there."""


class Checkpoints:
    """The checkpoints of one run, under `<workdir>/checkpoints/<step>/`.

    Attributes:
      failed: whether a save of this process could not be written. Orbax's threads of such a save
        may wait forever, so that the process must not wait for them when it ends.
    """

    failed: ClassVar[bool] = False

    def __init__(
        self, workdir: str | Path, keep: int = 1, best: int = 1, read_only: bool = False
    ) -> None:
        """Open a run's checkpoints.

        Args:
          workdir: the run.
          keep: how many of the latest to keep.
          best: how many of the best by validation to keep.
          read_only: never create or delete anything.
        """
        self.folder = Path(workdir).absolute() / "checkpoints"
        # Orbax reports each routine step, and failures, which it raises too, with their stack.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ranked = policies.BestN(
            get_metric_fn=lambda metrics: metrics[BEST_METRIC],
            n=max(1, best),
            keep_checkpoints_without_metrics=False,
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                create=not read_only,
                read_only=read_only,
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(max(1, keep)), ranked]
                ),
                best_fn=lambda metrics: metrics[BEST_METRIC],
                enable_async_checkpointing=not read_only,
                cleanup_tmp_directories=not read_only,
            ),
        )

    def save(
        self,
        state: Any,
        step: int,
        data: dict[str, Any],
        config: dict[str, Any],
        metrics: dict[str, float] | None,
    ) -> None:
        """Start saving; returns once the arrays are copied, writes in the background.

        Args:
          state: a pytree of arrays.
          step: steps done; a step that was saved already is left alone.
          data: seed, step, manifest hash, and the validations so far.
          config: as JSON.
          metrics: validation metrics, `None` for a save without a validation.

        Raises:
          NotSavedError: nothing of it could be written. What is written in the background and
            fails is raised by `wait`.
        """
        if step in self._manager.all_steps():
            return
        item = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(config),
        )
        try:
            self._manager.save(step, args=item, metrics=metrics)
        except (OSError, ValueError) as e:
            raise self._not_saved(e) from e

    def wait(self) -> None:
        """Block until what was started is on disk.

        Raises:
          NotSavedError: it could not be written, and what was of it is removed.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as e:  # tensorstore reports a full disk as the latter
            raise self._not_saved(e) from e

    def _not_saved(self, e: Exception) -> CheckpointWriteError:
        Checkpoints.failed = True
        if jax.process_index() == 0:
            for folder in self.folder.glob(f"*{TMP_DIR_SUFFIX}*"):
                shutil.rmtree(folder, ignore_errors=True)
        self._manager.reload()
        reason = getattr(e, "strerror", None) or str(e).rsplit(": ", 1)[-1].partition(" [")[0]
        return CheckpointWriteError(reason)

    def close(self) -> None:
        """Finish the pending save and release the manager."""
        self._manager.close()

    def latest(self) -> int | None:
        """The last complete step, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Every complete step that was kept, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the best validation, else the latest, or None."""
        best: int | None = self._manager.best_step()
        return self.latest() if best is None else best

    def data(self, step: int) -> dict[str, Any]:
        """The `data` item of a step."""
        restored = self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore()))
        return dict(restored["data"])

    def restore(self, step: int, abstract: Any, partial: bool = False) -> Any:
        """Restore the state of a step.

        Args:
          step: a complete step.
          abstract: a pytree of `jax.ShapeDtypeStruct` with shardings.
          partial: `abstract` is a part of what was saved; the rest is not read.

        Returns:
          The state, bit for bit.

        Raises:
          InputError: the checkpoint holds other shapes or is damaged.
        """
        try:
            item = ocp.args.PyTreeRestore(
                abstract,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                partial_restore=partial,
            )
            restored = self._manager.restore(step, args=ocp.args.Composite(state=item))
        except (ValueError, KeyError, FileNotFoundError) as e:
            reason = str(e).splitlines()[0]
            raise InputError(
                f"{self.folder / str(step)}: does not fit this config or is damaged ({reason}); "
                "start over in another --workdir"
            ) from e
        return restored["state"]


def abstract(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    """What an array to be restored will be."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def abstract_like(state: Any) -> Any:
    """Shapes, dtypes and shardings of a state, to restore into."""
    return jax.tree.map(lambda a: abstract(a.shape, a.dtype, a.sharding), state)
