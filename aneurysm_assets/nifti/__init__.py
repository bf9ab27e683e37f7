"""From the NIfTI files of a series to its row of `segmentation_meta`, and the vessel at a point.

Which files a series has is told by `raw`; grids belong to `volumes`.
"""
