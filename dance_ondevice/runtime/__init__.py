"""Engines that run a trained model, and exports for other programs.

``serving`` segments frames with a graph and without torch, in one of the ``engines``; ``frames`` makes their
input; ``graph_file`` and ``engine_table`` are what lies beside a version. Only children and the last resort
load the rest: ``serving_graph`` makes a graph, ``comparing`` measures the engines, ``torch_server`` serves
with the layers that ``folding`` merges, and ``export`` writes files for others in one of the ``formats``.
``heap`` frees the memory that preparing them took.
"""
