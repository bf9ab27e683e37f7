"""What is reported of a tolerance is what is computed with."""

import ast
from pathlib import Path

import pytest

import aneurysm_assets
from aneurysm_assets.schema import tolerances
from aneurysm_assets.schema.problems import PROBLEMS

PACKAGE = Path(aneurysm_assets.__file__).parent
NAMES = {name for name in vars(tolerances) if name.isupper()}
REPORTED = {
    "mixed_orientation": ("ORIENTATION_COSINES", "{}"),
    "positions_not_distinct": ("DISTINCT_MM", "{} mm"),
    "spacing_uneven": ("SPACING_RELATIVE", "{:.0%}"),
    "cosines_not_orthogonal": ("UNIT_COSINES", "{}"),
    "in_plane_shift": ("IN_PLANE_MM", "{} mm"),
    "orientation_contradicts_positions": ("MAX_TILT_DEGREES", "{:g} degrees"),
    "mixed_pixel_spacing": ("PIXEL_SPACING_RELATIVE", "{:.1%}"),
    "too_few_slices": ("FEWEST_SLICES", "{} slices"),
    "header_spacing_differs": ("SPACING_RELATIVE", "{:.0%}"),
    "rescale_implausible": ("AIR_HU", "{:.0f} HU"),
    "localizer_outside_image": ("OUTSIDE_PX", "{} px"),
    "localizer_off_vessel": ("VESSEL_RADIUS_MM", "{:g} mm"),
    "localizer_in_other_vessel": ("VESSEL_RADIUS_MM", "{:g} mm"),
    "segmentation_mismatch": ("CORNER_VOXELS", "{:g} voxel"),
}


def test_every_problem_that_has_a_tolerance_is_known_here() -> None:
    assert {problem.name for problem in PROBLEMS if problem.tolerance} == REPORTED.keys()


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.tolerance], ids=lambda p: p.name)
def test_a_check_states_the_tolerance_that_is_computed_with(problem) -> None:
    name, form = REPORTED[problem.name]
    assert form.format(getattr(tolerances, name)) in problem.tolerance


def test_each_tolerance_stands_in_one_place_and_is_computed_with() -> None:
    read: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and node.id in NAMES:
                is_definition = isinstance(node.ctx, ast.Store)
                assert not is_definition or path.name == "tolerances.py", path
                if not is_definition and path.parent.name != "schema":
                    read.add(node.id)
    assert read == NAMES
