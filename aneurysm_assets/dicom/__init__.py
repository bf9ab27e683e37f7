"""From the DICOM files of a series to its rows of `dicom_tags`: attributes, headers, geometry.

How bytes are parsed fast stands in `fast_parser`; where the files are stored belongs to
`storage`.
"""
