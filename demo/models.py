"""What the demo publishes: status messages."""

from django.db import models


class Status(models.Model):
    """A line that somebody posts for everybody."""

    nick = models.CharField("Name", max_length=50)
    message = models.CharField("What's up?", max_length=140)
    time = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "statuses"

    def __str__(self) -> str:
        return f"{self.nick}: {self.message}"
