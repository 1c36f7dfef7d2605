"""Faults of the disk, brought about on purpose."""
