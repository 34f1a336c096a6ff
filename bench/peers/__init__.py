"""Other ways to put a change in Django onto many screens, set up as their own pages recommend."""
