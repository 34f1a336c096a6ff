"""The settings of the bench: a site with nothing in it but two models."""

SECRET_KEY = "the bench has no secrets"  # noqa: S105
DEBUG = False
USE_TZ = True
INSTALLED_APPS = ["pubsub", "bench"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
