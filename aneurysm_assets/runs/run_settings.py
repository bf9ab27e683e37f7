"""The settings of a run, tied to its instance; and how a step says why it cannot go on.

What is read from the environment belongs to `settings`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.instance.input_root import (
    record_input,
    require_input,
    require_same_root,
)
from aneurysm_assets.instance.run_locks import (
    CARRIER_TAG,
    CUT_OFF_TAG,
    INTERRUPTED,
    end_dead_runs,
    hold_run,
)
from aneurysm_assets.messages import printable
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.settings import Settings


def settings_of_run(
    context: dg.AssetExecutionContext, resource: SettingsResource, *, reads_input: bool = True
) -> Settings:
    """Return the settings of a run, tie run and instance to them, and end runs that were killed.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of a step of the run.
    resource : SettingsResource
        The resource that reads the settings.
    reads_input : bool
        Whether the step looks at the input, which then has to be there.

    Returns
    -------
    Settings
        The settings that the whole step uses.

    Raises
    ------
    dg.Failure
        A setting cannot be used, or the instance keeps the progress of other data.
    """
    try:
        settings = resource.get()
        if reads_input:
            require_input(settings)
        else:
            require_same_root(settings)
        claim(context.instance, settings)
        if reads_input:
            record_input(settings)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    hold_run(context.instance, settings, context.run)
    end_dead_runs(context.instance, settings)
    return settings


@contextmanager
def end_with_reason(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, what: str
) -> Iterator[None]:
    """End a step with a sentence where the input cannot be used, and as canceled by an interrupt.

    Parameters
    ----------
    context : dg.AssetExecutionContext or dg.AssetCheckExecutionContext
        The context of the step.
    what : str
        What the sentence is about: it stands before the reason.

    Raises
    ------
    dg.Failure
        In place of `InputError` and OSError.
    """
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        end_as_canceled(context)
        raise
    except (OSError, InputError) as error:
        raise dg.Failure(printable(f"{what}: {error}"), allow_retries=False) from error


def end_as_canceled(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
) -> None:
    """Let an interrupted run end CANCELED: the series it did not reach are missing, not failed.

    One of several hosts that goes down leaves its run to another: that run fails, and is retried.
    """
    if CARRIER_TAG in context.run.tags:
        return
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.STARTED:
        # Nobody canceled it in the UI: its process is to end, as `dagster dev` does.
        context.instance.add_run_tags(run.run_id, {CUT_OFF_TAG: INTERRUPTED})
        context.instance.report_run_canceling(run)
