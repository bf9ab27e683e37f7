"""The raw input: the two CSVs, which series and segmentations exist, what has changed.

No DICOM or NIfTI file is opened here.
"""
