"""What django-pubsub costs: ``python -m bench`` measures it and prints it, a page at a time."""
