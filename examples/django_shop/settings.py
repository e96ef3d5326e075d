"""The least that Django needs. The worker calls django.setup() where DJANGO_SETTINGS_MODULE is set."""

import os

INSTALLED_APPS = ["examples.django_shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", "shop.sqlite3"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
