"""How Dagster lists a check for a problem, of whatever asset; who checks tells what came of it."""

import dagster as dg

from aneurysm_assets.schema.problems import Problem


def check_spec(problem: Problem, asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """Return a check as Dagster lists it."""
    return dg.AssetCheckSpec(
        problem.name,
        asset=asset,
        description=f"Finds: {problem.description}",
        metadata=facts_of(problem),
    )


def facts_of(problem: Problem) -> dict[str, str]:
    """Return severity, tolerance and source of a problem, as each result tells them too."""
    return {
        "severity": problem.severity,
        "tolerance": problem.tolerance or "none",
        "source": problem.source,
    }
