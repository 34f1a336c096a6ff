"""A site with django-eventstream: events by Server-Sent Events, through Redis."""
