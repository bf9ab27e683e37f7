"""The one table: the tables of the series joined, points placed in mm and voxels, and its exports.

How a single series is read belongs to `dicom`, `raw` and `nifti`.
"""
