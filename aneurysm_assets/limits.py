"""How much of a NIfTI file is read before it is refused; why, stands at each limit."""

MAX_NIFTI_BYTES = 4 << 30
"""Bytes of the voxels of vessel labels, inflated. The largest series, 1,441 slices of 512 x 512
as float64, has 3.0 GB."""

MAX_NIFTI_PLANE_BYTES = 128 << 20
"""Bytes of a plane in which a point is looked up, of a compressed file or one in a bucket: it is
held in memory, which a file on a disk is not. 4096 x 4096 as float64."""

MAX_NEIGHBOURHOOD_VOXELS = 1 << 21
"""Voxels around a point in which the nearest vessel is searched: within 5 mm, voxels of 0.08 mm."""
