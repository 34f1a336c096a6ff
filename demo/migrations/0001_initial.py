"""The table of statuses."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Status",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("nick", models.CharField(max_length=50, verbose_name="Name")),
                ("message", models.CharField(max_length=140, verbose_name="What's up?")),
                ("time", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "statuses",
                "ordering": ["-pk"],
            },
        ),
    ]
