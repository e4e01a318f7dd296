"""``bench console``: what the pages in the browser cost a board, and how soon they answer."""
