"""Hands the series of a step to worker processes or threads, and returns each result as it comes.

What is done to a series, and where its result is recorded, belongs elsewhere.
"""
