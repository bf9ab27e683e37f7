"""An instance that several hosts share: PostgreSQL as its storage, Celery workers for its runs.

Needs the extra `cluster`, and nothing outside this folder imports it.
"""
