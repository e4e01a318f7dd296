"""The files of the base model that comes with the package; ``models/packaged.py`` reads them."""
