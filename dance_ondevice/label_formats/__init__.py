"""Labels as annotation tools export them, turned into masks of class ids.

``rle`` run-length codes; ``regions`` what was drawn on an image, and how it becomes a mask; ``coco``,
``cvat`` and ``label_studio`` the files; ``class_map`` whose names are whose; ``reader`` which of them a file
is.
"""
