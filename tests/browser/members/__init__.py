"""A site whose users have lists of their own, and boards that not everybody may read."""
