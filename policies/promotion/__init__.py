"""Decisions about candidates: gate and probation."""
