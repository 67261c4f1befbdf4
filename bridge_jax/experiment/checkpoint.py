"""Checkpoints of a run; the only file that uses Orbax.

A checkpoint holds `state` (arrays), `data` (seed, step, manifest hash) and `config`. Saves are
asynchronous and atomic. The latest checkpoints and the best by validation are kept.
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
    """A checkpoint could not be written; earlier ones are still there."""


class Checkpoints:
    """The checkpoints of one run, in `<workdir>/checkpoints/<step>/`.

    Attributes:
      folder: Folder of the checkpoints.
      failed: Whether a save of this process could not be written. Orbax's threads of such a save
        may wait forever, so the process must not wait for them when it ends.
    """

    failed: ClassVar[bool] = False

    def __init__(
        self, workdir: str | Path, keep: int = 1, best: int = 1, read_only: bool = False
    ) -> None:
        """Opens the checkpoints of a run.

        Args:
          workdir: Folder of the run.
          keep: Number of latest checkpoints to keep.
          best: Number of best checkpoints by validation to keep.
          read_only: Whether never to create or delete anything.
        """
        self.folder = Path(workdir).absolute() / "checkpoints"
        # Orbax logs each routine step, and failures with their stack, which it raises too.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        best_policy = policies.BestN(
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
                    [policies.LatestN(max(1, keep)), best_policy]
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
        """Starts saving; returns once the arrays are copied and writes in the background.

        Args:
          state: Pytree of arrays.
          step: Number of finished steps; a step that is already saved is skipped.
          data: Seed, step, manifest hash, and the validations so far.
          config: Config as JSON values.
          metrics: Validation metrics; None for a save without validation.

        Raises:
          CheckpointWriteError: Nothing could be written. A failure in the background is raised by
            `wait`.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(config),
        )
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except (OSError, ValueError) as e:
            raise self._clean_up(e) from e

    def wait(self) -> None:
        """Blocks until the save that was started is on disk.

        Raises:
          CheckpointWriteError: It could not be written; its remains are removed.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as e:  # tensorstore reports a full disk as the latter
            raise self._clean_up(e) from e

    def _clean_up(self, e: Exception) -> CheckpointWriteError:
        """Removes what a failed save left; returns the error to raise."""
        Checkpoints.failed = True
        if jax.process_index() == 0:
            for folder in self.folder.glob(f"*{TMP_DIR_SUFFIX}*"):
                shutil.rmtree(folder, ignore_errors=True)
        self._manager.reload()
        reason = getattr(e, "strerror", None) or str(e).rsplit(": ", 1)[-1].partition(" [")[0]
        return CheckpointWriteError(reason)

    def close(self) -> None:
        """Finishes the pending save and releases the manager."""
        self._manager.close()

    def latest(self) -> int | None:
        """Returns the last complete step, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Returns every complete step that was kept, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Returns the step with the best validation, else the latest, or None."""
        best: int | None = self._manager.best_step()
        return self.latest() if best is None else best

    def data(self, step: int) -> dict[str, Any]:
        """Returns the `data` item of a step."""
        restored = self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore()))
        return dict(restored["data"])

    def restore(self, step: int, abstract_state: Any, partial: bool = False) -> Any:
        """Restores the state of a step.

        Args:
          step: A complete step.
          abstract_state: Pytree of `jax.ShapeDtypeStruct` with shardings.
          partial: Whether `abstract_state` is only a part of what was saved; the rest is not read.

        Returns:
          The state, bit for bit.

        Raises:
          InputError: The checkpoint holds other shapes, or it is damaged.
        """
        try:
            item = ocp.args.PyTreeRestore(
                abstract_state,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state),
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
    """Describes an array that is to be restored."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def abstract_like(state: Any) -> Any:
    """Describes a state, so that another one can be restored with its shapes and shardings."""
    return jax.tree.map(lambda a: abstract(a.shape, a.dtype, a.sharding), state)
