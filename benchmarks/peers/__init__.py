"""The same network as users of other libraries would write it, with the same weights."""
