"""Runs the demonstration many times on a busy machine: does it always end, and what does it show?"""
