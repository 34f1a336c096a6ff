"""A Django site that shows django-pubsub; ``python -m demo`` brings up all it needs."""
