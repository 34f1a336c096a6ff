"""The addresses that pages ask for credentials and for admission.

::

    path("pubsub/", include("pubsub.urls"))
"""

from __future__ import annotations

from django.urls import path

from pubsub import views

app_name = "pubsub"

urlpatterns = [
    path("credentials/", views.credentials, name="credentials"),
    path("authorize/", views.authorize, name="authorize"),
]
