"""One thin module per asset: what it is, what it reads, what it records.

How its content is computed belongs to the folder that it calls.
"""
