"""Each tolerance of geometry and of findings, once: what is computed and what is reported share it.

A threshold that only saves work, or cuts a text, stands where it is used.
"""

ORIENTATION_COSINES = 0.01
"""Images of one orientation differ by at most this in each direction cosine, half a degree (IDC,
volume_geometry_index)."""

UNIT_COSINES = 0.01
"""A row or column direction may miss length 1, and their product 0, by at most this (PS3.3
C.7.6.2.1.1; IDC, volume_geometry_index)."""

PARALLEL_SINE = 0.01
"""Rows and columns of an angle with a smaller sine span no plane."""

OBLIQUE_COSINE = 0.8
"""A normal runs along an axis above this cosine (37 degrees), and is oblique up to it: David
Clunie's `obliquityThresholdCosineValue`, of PixelMed and GDCM."""

MAX_TILT_DEGREES = 30.5
"""Greatest angle between the normal and the way from slice to slice that is the tilt of a gantry:
scanners tilt by up to 30 degrees, and half a one is rounding."""

PIXEL_SPACING_RELATIVE = 0.001
"""Pixel spacings of one volume differ by at most this share: half a pixel at the edge of 512 (IDC,
consistent_pixel_spacing)."""

FEWEST_SLICES = 3
"""With fewer slices than this there is no second gap by which the first could be judged."""

RESCALE_SLOPE_RELATIVE = 0.001
"""The slope of CT may miss 1 by at most this share: some scanners write 4096/4095."""

DISTINCT_MM = 1e-3
"""Positions at most this far apart are one, mm: less is the rounding of decimal strings."""

SPACING_RELATIVE = 0.01
"""A gap between slices differs from the median gap by at most this share; so does a spacing that a
header says (IDC, volume_geometry_index)."""

IN_PLANE_MM = 0.1
"""Slices may be shifted in their plane by at most this, mm, from first to last: between neighbours
the tilt of a gantry is less where slices are thin (IDC, volume_geometry_index)."""

SCOUT_SHARE = 0.2
"""A group of images that is not the largest, and at most this part of the series, is of scouts."""

MAIN_SHARE = 0.5
"""Without a group of at least this part there is nothing to be a scout of: projections turning
about an axis have an orientation each."""

SAME_AXIS_COSINE = 0.99
"""Least absolute cosine between an axis of one grid and the axis of another taken for it."""

VOXEL_SIZE_RELATIVE = 0.01
"""Voxel sizes of the same grid differ by at most this share of the larger."""

CORNER_VOXELS = 0.5
"""Corners of the same grid are at most this far apart, in voxels along each axis of either."""

VESSEL_RADIUS_MM = 5.0
"""A vessel is named at a point if it is at most this far from it, mm."""

OUTSIDE_PX = 0.5
"""A point may lie this far before the centre of the first pixel, and up to Columns and Rows: the
competition does not say whether whole numbers are centres or corners of pixels."""

AIR_HU = -900.0
"""The least value of CT must reach down to this, or air, -1000 HU, cannot be in the image."""
