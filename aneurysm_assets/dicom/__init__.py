"""From the DICOM files of a series to its rows of `dicom_tags`: attributes, headers, the table.

How a header is read quickly belongs to `fast_parser`, where the files are stored to `storage`.
"""
