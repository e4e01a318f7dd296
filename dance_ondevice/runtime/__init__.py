"""Engines that run a trained model, and exports for other programs.

``folding`` makes a faster copy for torch; ``onnx_engine`` runs the same weights in onnxruntime; ``runners``
chooses one of the two; ``heap`` frees the memory that preparing them took; ``export`` writes files for other
programs in one of the ``formats``.
"""
