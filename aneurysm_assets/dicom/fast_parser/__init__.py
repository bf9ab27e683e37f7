"""Reads the wanted attributes from the bytes of a header, or says that pydicom has to.

What an attribute means, and how pydicom is asked, belongs to `dicom`. README.md beside
this file has an example in bytes.
"""
