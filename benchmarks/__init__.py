"""How fast, beside whom: the contenders of `randhet bench`, each timed in a process of its own, and single scripts."""
