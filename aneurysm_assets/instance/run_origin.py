"""Where the runs that a process begins itself belong in the UI: to our code location.

Runs that the UI or the daemon begin carry this origin; without it the UI's timeline leaves a run
out.
"""

from functools import partial

import dagster as dg

from aneurysm_assets.dagster_internals import (
    LoadableTargetOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

CODE_LOCATION = "aneurysm_assets"
"""The name of our code location, as `pyproject.toml` has it; sensors are on or off by it."""

MODULE = "aneurysm_assets.definitions"

_REPOSITORY = "__repository__"
"""What Dagster calls the repository of `Definitions`."""


def record_origin(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    """Let the runs of a job that this process executes have their origin from the beginning.

    Parameters
    ----------
    instance : dg.DagsterInstance
        That they are recorded in. `execute_in_process` has no parameter for the origin.
    job : dg.JobDefinition
        Of our code location.
    """
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name=MODULE), CODE_LOCATION
    )
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, _REPOSITORY), job.name)
    created = partial(instance.create_run_for_job, remote_job_origin=origin)
    instance.create_run_for_job = created  # type: ignore[method-assign]
