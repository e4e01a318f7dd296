"""``bench service``: the CPU time, joules and memory of the whole service, beside another build of it."""
