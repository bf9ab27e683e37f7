"""Reads the values of a header from its bytes, or reports that pydicom has to read it.

Which attributes are read, and how pydicom is asked, belongs to `dicom`. README.md beside this file
has an example in bytes.
"""
