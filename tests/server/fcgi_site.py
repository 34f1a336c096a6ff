"""A site for the tests of runfcgi: settings, view and a witness of how its processes end."""

import atexit
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

SECRET_KEY = "tests have no secrets"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.server.fcgi_site"
WSGI_APPLICATION = "tests.server.fcgi_site.application"
INSTALLED_APPS = ["pubsub"]
WITNESS = Path(os.environ.get("FCGI_SITE_FOLDER", "."))


def witness_exit() -> None:
    (WITNESS / f"exit-{os.getpid()}").touch()


atexit.register(witness_exit)


def held(request: HttpRequest) -> HttpResponse:
    """Answer with the process's id, once the file that the query names exists."""
    (WITNESS / f"began-{os.getpid()}-{request.GET['until']}").touch()
    while not (WITNESS / request.GET["until"]).exists():
        time.sleep(0.01)
    return HttpResponse(f"process {os.getpid()}")


def plain(request: HttpRequest, anything: str = "") -> HttpResponse:
    return HttpResponse(f"process {os.getpid()} {request.path} {len(request.body)}")


def headers(request: HttpRequest) -> JsonResponse:
    """Answer with the headers as Django has got them, under their names in the environment."""
    return JsonResponse({k: v for k, v in request.META.items() if k.startswith("HTTP_")})


urlpatterns = [
    path("headers", headers),
    path("held", held),
    path("<path:anything>", plain),
    path("", plain),
]

django = cache(get_wsgi_application)  # not at import: this module is the settings as well


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django, but for one address where the WSGI application itself fails."""
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("broken outside Django")
    return django()(environ, start_response)
