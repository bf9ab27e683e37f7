"""What is left to do and how it is recorded: partitions, pending series, steps, retries.

What is done to one series belongs to `dicom`, `raw`, `nifti` and `preview`.
"""
