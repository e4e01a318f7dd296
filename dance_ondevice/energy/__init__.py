"""Energy meters: the joules that a board or a part of it has used, and how they were measured."""
