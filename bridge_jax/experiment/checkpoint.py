"""Checkpoints of a run; the only file that uses Orbax.

A checkpoint holds `state` (arrays), `data` (seed, step, manifest hash), `config`, and `digests` of
all of these, which every restore checks. Saves are asynchronous and atomic. The latest checkpoints
and the best by validation are kept.
"""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint_files import (
    BEST_METRIC,
    CHECKPOINTS,
    CheckpointRecord,
    DamagedCheckpointError,
    IncompleteCheckpointError,
    best_step,
    digest_item,
    list_steps,
    read_record,
)
from bridge_jax.experiment.digests import (
    array_digests,
    describe_difference,
    describe_other_arrays,
    nonfinite_arrays,
)

ABANDON_SECONDS = 3.0  # until an unfinished save is removed
TMP_DIR_SUFFIX = ".orbax-checkpoint-tmp"
# Orbax logs each routine step, and failures with their stack, which it raises too.
_LOGGERS = ("absl", "asyncio")


class CheckpointWriteError(RuntimeError):
    """A checkpoint could not be written; earlier ones are still there."""


class CheckpointReader:
    """The checkpoints of one run, in `<workdir>/checkpoints/<step>/`, to be read only.

    The folder is listed anew by each call: the run may be training. No call waits for the other
    processes of a run.

    Attributes:
      folder: Folder of the checkpoints.
    """

    def __init__(self, workdir: str | Path) -> None:
        """Stores the folder of a run.

        Args:
          workdir: Folder of the run.
        """
        self.folder = Path(workdir).absolute() / CHECKPOINTS

    def steps(self) -> list[int]:
        """Returns every complete step that was kept, ascending."""
        return list_steps(self.folder)

    def latest(self) -> int | None:
        """Returns the last complete step, or None."""
        return max(self.steps(), default=None)

    def best(self) -> int:
        """Returns the step with the best validation, else the latest.

        Raises:
          DamagedCheckpointError: A validation cannot be read, or no checkpoint is complete.
        """
        records, error = [], None
        for step in self.steps():
            try:
                records.append(self.record(step))
            # One that lacks files is being deleted, or a killed run had begun to: never the best.
            except IncompleteCheckpointError as e:
                error = e
        best = best_step(records)
        if best is None:
            raise error or IncompleteCheckpointError(self.folder / "0", "there is none")
        return best

    def record(self, step: int) -> CheckpointRecord:
        """Returns the JSON parts of a step.

        Raises:
          DamagedCheckpointError: They are damaged.
        """
        return read_record(self.folder, step)

    def restore(self, record: CheckpointRecord, abstract_state: Any, partial: bool = False) -> Any:
        """Restores the state of a step and compares every array with its digest.

        Args:
          record: JSON parts of the step.
          abstract_state: Pytree of `jax.ShapeDtypeStruct` with shardings.
          partial: Whether `abstract_state` is only a part of what was saved; the rest is not read.

        Returns:
          The state, bit for bit.

        Raises:
          InputError: The checkpoint holds other arrays.
          DamagedCheckpointError: It is damaged, or it holds NaN or infinity.
        """
        path = self.folder / str(record.step)
        stored = record.arrays
        if stored and (other := describe_other_arrays(stored, abstract_state, partial)):
            raise InputError(
                f"{path}: does not fit this version or config: {other}; open it with the version "
                "that saved it, or start over in another --workdir"
            )
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        item = ocp.args.PyTreeRestore(
            abstract_state,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state),
            partial_restore=partial,
        )
        if not isinstance(sys.unraisablehook, _UnraisableHook):
            sys.unraisablehook = _UnraisableHook(sys.unraisablehook)
        try:
            # The handler itself: unlike a `CheckpointManager` it waits for no other process.
            state = ocp.PyTreeCheckpointHandler().restore(path / "state", args=item)
        except Exception as e:  # Orbax has no error of its own for a damaged file
            text = str(e)
            vague = "a file is damaged or missing" if "reading array index" in text else _reason(e)
            reason = "a checksum differs" if "checksum" in text else vague
            raise DamagedCheckpointError(path, f"its arrays cannot be read ({reason})") from e
        if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state)):
            # Damaged metadata can make Orbax return the description of an array in its place.
            raise DamagedCheckpointError(path, "its arrays cannot be read (one is missing)")
        if stored is not None:
            current = array_digests(state)
            if difference := describe_difference(stored, current):
                raise DamagedCheckpointError(path, difference)
            nonfinite = [name for name in record.nonfinite if name in current]
        else:
            if jax.process_index() == 0:
                print(
                    f"{path}: saved by a version before 0.2, without digests of its arrays; damage "
                    "to them would not be noticed",
                    file=sys.stderr,
                )
            nonfinite = nonfinite_arrays(state)
        if nonfinite:
            raise DamagedCheckpointError(path, f"{nonfinite[0]} holds NaN or infinity")
        return state

    def set_aside(self, step: int) -> Path:
        """Moves a checkpoint that cannot be used to `<workdir>/damaged/`; returns its new path."""
        target = self.folder.parent / "damaged" / str(step)
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{step}-{number}")
        return (self.folder / str(step)).rename(target)

    def latest_good(self, abstract_state: Any, before: int | None = None) -> int | None:
        """Returns the last step, before another if one is given, that can be restored; or None."""
        for step in reversed(self.steps()):
            if before is None or step < before:
                with contextlib.suppress(InputError):
                    self.restore(self.record(step), abstract_state, partial=True)
                    return step
        return None


class Checkpoints(CheckpointReader):
    """The checkpoints of the run that is training: saves them and deletes those not to be kept.

    Attributes:
      folder: Folder of the checkpoints.
      failed: Whether a save of this process could not be written. Orbax's threads of such a save
        may wait forever, so the process must not wait for them when it ends.
    """

    failed: ClassVar[bool] = False

    def __init__(self, workdir: str | Path, keep: int = 1, best: int = 1) -> None:
        """Opens the checkpoints of a run.

        Args:
          workdir: Folder of the run.
          keep: Number of latest checkpoints to keep.
          best: Number of best checkpoints by validation to keep.
        """
        super().__init__(workdir)
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        best_policy = policies.BestN(
            get_metric_fn=lambda metrics: metrics[BEST_METRIC],
            n=max(1, best),
            keep_checkpoints_without_metrics=False,
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(max(1, keep)), best_policy]
                ),
                best_fn=lambda metrics: metrics[BEST_METRIC],
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            handler_registry=_handlers(),
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
        # The first process writes; its first copy of each array is the one that is written.
        is_first_process = jax.process_index() == 0
        arrays = array_digests(state) if is_first_process else {}
        nonfinite = nonfinite_arrays(state) if is_first_process else []
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(config),
            digests=ocp.args.JsonSave(digest_item(arrays, data, config, metrics, nonfinite)),
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
        self.remove_unfinished()
        self._manager.reload()
        return CheckpointWriteError(_reason(e))

    def remove_unfinished(self) -> None:
        """Removes the temporary folders of saves that were not finished."""
        if jax.process_index() == 0:
            for folder in self.folder.glob(f"*{TMP_DIR_SUFFIX}*"):
                shutil.rmtree(folder, ignore_errors=True)

    def abandon(self) -> None:
        """Ends the pending save within seconds: it is finished by then, or its remains are removed.

        Orbax's threads cannot be stopped, so they are given the time to finish.
        """
        Checkpoints.failed = True
        end = time.monotonic() + ABANDON_SECONDS
        quiet_since = time.monotonic()
        while (now := time.monotonic()) < end and now - quiet_since < ABANDON_SECONDS / 6:
            if any(self.folder.glob(f"*{TMP_DIR_SUFFIX}*")):
                quiet_since = now
            time.sleep(0.02)
        self.remove_unfinished()

    def close(self) -> None:
        """Finishes the pending save and releases the manager."""
        self._manager.close()


def _handlers() -> Any:
    """Makes handlers that write each array from one copy, that of the first process.

    Orbax's default writes slices of all replicas. These may differ in their last bits, and then
    what is on disk would be none of them.
    """
    arrays = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False))
    )
    handler = ocp.handlers.PyTreeCheckpointHandler(type_handler_registry=arrays)
    return ocp.handlers.create_default_handler_registry(state=handler)


def _reason(e: Exception) -> str:
    """Returns the last part of an error of Orbax or tensorstore, on one line."""
    first = (str(e).splitlines() or [""])[0]
    text = getattr(e, "strerror", None) or first.rsplit(": ", 1)[-1].partition(" [")[0]
    return "".join(c if c.isprintable() else "?" for c in text[:200]) or type(e).__name__


class _UnraisableHook:
    """Drops the tracebacks of reads that end after another one has failed.

    Orbax reads all arrays at once and closes its event loop at the first error. The other reads
    then find that loop closed, or are thrown away, and Python prints a traceback for each.
    """

    def __init__(self, previous: Callable[[Any], Any]) -> None:
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        e, code = unraisable.exc_value, getattr(unraisable.object, "cr_code", None)
        is_closed_loop = isinstance(e, RuntimeError) and str(e) == "Event loop is closed"
        if not is_closed_loop and not (code and "orbax" in code.co_filename):
            self._previous(unraisable)


def abstract(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    """Describes an array that is to be restored."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def abstract_like(state: Any) -> Any:
    """Describes a state, so that another one can be restored with its shapes and shardings."""
    return jax.tree.map(lambda a: abstract(a.shape, a.dtype, a.sharding), state)
