"""Import of labels: files of annotation tools, turned into masks of class ids.

``rle`` decodes run-length codes; ``regions`` paints drawings into a mask; ``coco``, ``cvat`` and
``label_studio`` read the files; ``class_map`` maps class names; ``reader`` recognises a file's format.
"""
