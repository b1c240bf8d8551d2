"""Stored sessions: where they live, and where and of what they were measured."""

from pytest_inferforge.baselines.fingerprint import git_source, host_fingerprint
from pytest_inferforge.baselines.store import FolderStore, read_rows, write_rows

__all__ = ["FolderStore", "git_source", "host_fingerprint", "read_rows", "write_rows"]
