"""Stored sessions: where they live, what was decided about them, where and of what they were measured."""

from pytest_inferforge.baselines.fingerprint import git_source, git_user, host_fingerprint
from pytest_inferforge.baselines.rows import read_rows, write_rows
from pytest_inferforge.baselines.store import Store, open_store

__all__ = ["Store", "git_source", "git_user", "host_fingerprint", "open_store", "read_rows", "write_rows"]
