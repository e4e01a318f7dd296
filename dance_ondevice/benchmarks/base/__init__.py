"""``bench base``: accuracy of the base model that comes with the package on real cameras."""
