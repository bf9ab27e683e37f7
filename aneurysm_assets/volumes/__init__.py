"""Which images make a volume, in which order its slices stand, and its grid in space.

Pure geometry on numbers that are read already; reading headers belongs to `dicom`, NIfTI files to
`nifti`.
"""
