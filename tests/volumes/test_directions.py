"""Which images have one orientation, however many orientations there are."""

import time

import numpy as np
import pytest

from aneurysm_assets.schema.tolerances import ORIENTATION_COSINES
from aneurysm_assets.volumes.directions import centres_of, orientation_centres


def turned(generator: np.random.Generator, number: int, spread: float) -> np.ndarray:
    """Return cosines of so many random orientations around axial."""
    turn = np.column_stack([np.ones(number), generator.normal(0, spread, (number, 3))])
    w, x, y, z = (turn / np.linalg.norm(turn, axis=1)[:, None]).T
    row = [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)]
    return np.column_stack(
        [*row, 2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)]
    )


def held_against_all(values: np.ndarray, tolerance) -> list[int]:
    """Do the same, each row held against each centre, those that most rows have first."""
    rows = [tuple(row) for row in values]
    known = [row for row in rows if not np.isnan(row).any()]
    standing: dict[tuple, int] = {}
    for own in sorted(dict.fromkeys(known), key=lambda row: (-known.count(row), rows.index(row))):
        if own not in standing:
            for other in set(known) - standing.keys():
                if (np.abs(np.subtract(other, own)) <= tolerance(np.array(own))).all():
                    standing[other] = rows.index(own)
    return [standing.get(row, -1) for row in rows]


@pytest.mark.parametrize("seed", range(60))
def test_what_is_near_in_every_number_is_gathered_around_what_most_have(seed) -> None:
    generator = np.random.default_rng(seed)
    spread = generator.choice([0.001, 0.01, 0.1, 2.0])
    several = turned(generator, 20, spread).round(generator.integers(2, 7))
    values = several[generator.integers(0, 20, 50)]
    values[generator.random(50) < 0.1] = np.nan
    expected = held_against_all(values, lambda _: ORIENTATION_COSINES)
    assert orientation_centres(values).tolist() == expected
    spacings = generator.uniform(0.3, 0.3 + spread, (50, 2)).round(3)
    found = centres_of(spacings, lambda centre: 0.001 * centre)
    assert found.tolist() == held_against_all(spacings, lambda centre: 0.001 * centre)


def test_where_each_of_many_images_has_its_own_orientation_it_takes_seconds() -> None:
    values = turned(np.random.default_rng(0), 30_000, 2.0)
    before = time.process_time()
    centres = orientation_centres(values)
    assert time.process_time() - before < 10  # all with all: some 35 s
    assert len(np.unique(centres)) > 20_000
