"""Curation of stored samples by people: labelling, shortlisting, tracing and purging them."""
