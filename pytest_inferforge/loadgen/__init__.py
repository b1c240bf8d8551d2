"""Asking what a schedule says, faithfully: the wire, the worker process, and what comes back from it."""
