"""What is wrong with the series: the findings, read from the tables, one row per series.

What a problem is called and which tolerance it has stands in `schema`; nothing here opens a raw
file.
"""
