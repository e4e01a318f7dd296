"""What runs a trained model, here and elsewhere.

``folding`` a quicker copy for torch; ``onnx_engine`` the same weights in onnxruntime; ``runners`` which of
the two serves; ``heap`` gives back what preparing them took; ``export`` files for other programs, in the
``formats`` that there are.
"""
