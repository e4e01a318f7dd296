"""``bench score``: accuracy of models as they are on a labelled data set."""
