"""Printing what was measured and judged. Nothing here decides anything."""
