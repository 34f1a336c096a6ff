"""The settings of the demo.

``python -m demo`` starts the servers and tells this file, by environment variables, where they
are; nothing secret stands here.
"""

import os
from pathlib import Path

from pubsub.devstack import files

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("DEMO_FOLDER") or CHECKOUT / "var" / "demo").absolute()
FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)

SECRET_KEY = files.password(FOLDER / "secret-key")
DEBUG = os.environ.get("DEMO_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "pubsub",
    "demo",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "demo.middleware.content_security_policy",
    "pubsub.middleware.OriginMiddleware",
]
ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "db.sqlite3",
        # Several threads or processes write: wait for the lock rather than fail.
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"  # the page's script shows the visitor's own

# nginx serves what `collectstatic` puts there, under names that change with the content.
STATIC_URL = "/static/"
STATIC_ROOT = FOLDER / "static"
STATICFILES_DIRS = [("pubsub", CHECKOUT / "media" / "strophe" / "dist")]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "[{levelname}] {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

# Where django-pubsub finds ejabberd, and where the page does.
XMPP_JID = os.environ.get("XMPP_JID", "django@localhost")
XMPP_PASSWORD = os.environ.get("XMPP_PASSWORD", "")
XMPP_HOST = os.environ.get("XMPP_HOST", "127.0.0.1")
XMPP_PORT = int(os.environ.get("XMPP_PORT", "5222"))
XMPP_CA_FILE = os.environ.get("XMPP_CA_FILE")
XMPP_PUBSUB_HOST = os.environ.get("XMPP_PUBSUB_HOST", "pubsub.localhost")
PUBSUB_BOSH_URL = os.environ.get("PUBSUB_BOSH_URL", "/http-bind")
PUBSUB_WEBSOCKET_URL = os.environ.get("PUBSUB_WEBSOCKET_URL", "/ws")
PUBSUB_GUEST_DOMAIN = os.environ.get("PUBSUB_GUEST_DOMAIN", "guests.localhost")
PUBSUB_USER_DOMAIN = os.environ.get("PUBSUB_USER_DOMAIN", "users.localhost")
PUBSUB_JWT_KEY = os.environ.get("PUBSUB_JWT_KEY", "")
PUBSUB_PREBIND_URL = os.environ.get("PUBSUB_PREBIND_URL")
