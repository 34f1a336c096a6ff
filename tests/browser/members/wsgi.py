"""The site, with its tables and its users, ada, bob and eve, who have no passwords."""

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
call_command("migrate", run_syncdb=True, interactive=False, verbosity=0)

from django.contrib.auth.models import User  # noqa: E402 (Django has to be set up)

for name in ("ada", "bob", "eve"):
    User.objects.create_user(name)
